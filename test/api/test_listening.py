"""Listening sockets without room for a connection."""
import errno
import socket

import pytest
from tornado.ioloop import IOLoop

from camws_bridge.api.listening import listen, ListeningSocket, watch_sockets
from camws_bridge.metrics import Metrics


@pytest.fixture
def listening():
    with listen(socket.AF_INET, '127.0.0.1', 0) as it:
        yield it


def test_it_accepts_without_waiting(listening):
    with pytest.raises(BlockingIOError):
        listening.accept()
    with socket.create_connection(listening.getsockname()) as client:
        connection, address = listening.accept()
        assert address == client.getsockname()
        connection.close()


@pytest.mark.parametrize('number', [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_room_it_says_so_and_has_no_connection(listening, monkeypatch, number):
    # Inject a fault by a kernel that has no room.
    def refuse(_):
        raise OSError(number, 'injected')

    monkeypatch.setattr(socket.socket, '_accept', refuse)
    with pytest.raises(OSError, match='injected') as unwatched:
        listening.accept()
    assert not isinstance(unwatched.value, BlockingIOError)
    told = []
    listening.on_exhausted = told.append
    with pytest.raises(BlockingIOError):
        listening.accept()
    assert [error.errno for error in told] == [number]


def test_other_errors_are_those_of_the_kernel(listening, monkeypatch):
    def refuse(_):
        raise ConnectionAbortedError('injected')

    monkeypatch.setattr(socket.socket, '_accept', refuse)
    listening.on_exhausted = pytest.fail
    with pytest.raises(ConnectionAbortedError):
        listening.accept()


def test_an_exhausted_socket_pauses_and_goes_on(listening, monkeypatch):
    monkeypatch.setattr('camws_bridge.api.listening._PAUSE', 0.05)
    metrics, failures, accepted = Metrics(), [errno.EMFILE], []
    real = ListeningSocket.accept

    def run_out(it):
        if failures:
            it.on_exhausted(OSError(failures.pop(), 'injected'))
            raise BlockingIOError
        return real(it)

    monkeypatch.setattr(ListeningSocket, 'accept', run_out)

    async def serve():
        import asyncio
        from tornado.netutil import add_accept_handler
        done = asyncio.Event()

        def accept(connection, _):
            accepted.append(connection)
            done.set()

        remove = add_accept_handler(listening, accept)
        watch_sockets([listening], metrics)
        with socket.create_connection(listening.getsockname()):
            await asyncio.wait_for(done.wait(), 5)
        remove()

    IOLoop(make_current=False).run_sync(serve)
    assert metrics.registry.get_sample_value('camws_accept_failures_total') == 1
    accepted[0].close()
