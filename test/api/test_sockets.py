"""Sockets of streaming clients over real TCP."""
import asyncio
import socket

import pytest
from tornado.iostream import IOStream, StreamClosedError

from camws_bridge.api.sockets import acknowledged_bytes, FrameWriter, keep_fresh

UNSENT = 16384


@pytest.fixture
def pair():
    with socket.create_server(('127.0.0.1', 0)) as listening:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.connect(listening.getsockname())
        server, _ = listening.accept()
    yield server, client
    client.close()
    server.close()


def test_small_messages_go_at_once_and_the_backlog_is_bounded(pair):
    server, _ = pair
    keep_fresh(server, UNSENT)
    assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT


def test_where_the_backlog_cannot_be_bounded_the_send_buffer_is_small(pair, monkeypatch):
    monkeypatch.delattr(socket, 'TCP_NOTSENT_LOWAT')
    server, _ = pair
    keep_fresh(server, UNSENT)
    # The kernel doubles the value for its own use.
    assert server.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 4 * UNSENT


def test_what_the_peer_has_taken_is_known(pair):
    server, client = pair
    before = acknowledged_bytes(server)
    server.sendall(b'x' * 1000)
    client.recv(1000)
    assert acknowledged_bytes(server) - before == 1000


async def make_writer(pair):
    drained = asyncio.Event()
    pair[0].setblocking(False)
    stream = IOStream(pair[0])
    return FrameWriter(stream, UNSENT, drained.set), stream, drained


def test_frames_arrive_whole_and_in_order_whatever_the_kernel_takes(pair):
    async def run():
        writer, stream, drained = await make_writer(pair)
        assert writer.write(b'first') is True
        big = bytes(range(256)) * 4000
        assert writer.write(big) is False
        assert writer.write(b'last') is False, 'it waits behind the rest of the big one'
        pair[1].setblocking(False)
        received = b''
        while len(received) < len(b'first' + big + b'last'):
            received += await asyncio.get_running_loop().sock_recv(pair[1], 1 << 16)
        assert received == b'first' + big + b'last'
        await asyncio.wait_for(drained.wait(), 10)
        stream.close()
    asyncio.run(run())


def test_only_a_peer_that_is_behind_and_takes_bytes_counts_as_alive(pair):
    async def run():
        writer, stream, _ = await make_writer(pair)
        writer.write(b'small')
        await asyncio.sleep(0.05)
        assert not writer.is_taken(), 'its kernel would take a ping, too'
        writer.write(bytes(1 << 20))
        pair[1].setblocking(False)
        loop = asyncio.get_running_loop()
        for _ in range(10):
            await loop.sock_recv(pair[1], 1 << 16)
        await asyncio.sleep(0.05)
        assert writer.is_taken()
        await asyncio.sleep(0.3)
        writer.is_taken()
        await asyncio.sleep(0.3)
        assert not writer.is_taken(), 'nothing was read any more'
        stream.close()
    asyncio.run(run())


def test_writing_to_a_closed_connection_raises(pair):
    async def run():
        writer, stream, _ = await make_writer(pair)
        stream.close()
        with pytest.raises((StreamClosedError, OSError)):
            writer.write(b'frame')
        assert not writer.is_taken()
    asyncio.run(run())
