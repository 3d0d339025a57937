"""What clients can do: the others are served as before, nothing is left, it is on /metrics."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, ExitStack
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any

from faults.crowded_bridge import CrowdedBridge, TEST
from faults.network import cut_off
from processes import wait_until
import pytest

from benchmarks.harness.netem import LinkError, network_namespace
from benchmarks.soak import frames
from benchmarks.soak.crowd import LIES, STREAMS

TIMEOUT = 1.5
REMOVED, REFUSED = 'camws_clients_removed_total', 'camws_refused_total'


@pytest.fixture(scope='module')
def running() -> Iterator[CrowdedBridge]:
    with ExitStack() as stack:
        yield CrowdedBridge(stack, host='0.0.0.0', client_timeout=TIMEOUT)


@pytest.fixture
def bridge(running: CrowdedBridge) -> Iterator[CrowdedBridge]:
    yield running
    running.check_nothing_is_left()


# -- clients that end, stop, or are cut off ----------------------------------------------------


@contextmanager
def readers(bridge: CrowdedBridge, count: int = 3, host: str = '127.0.0.1',
            prefix: tuple[str, ...] = (), path: str = '/ws/color'
            ) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start clients in processes of their own, which have read half a picture."""
    processes = [subprocess.Popen(
        [*prefix, sys.executable, '-S', str(TEST / 'faults/reader.py'), host, str(bridge.port),
         path], stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == b'reading\n'
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_clients_that_are_killed_within_a_frame(bridge):
    @contextmanager
    def fault():
        with readers(bridge) as processes:
            for process in processes:
                process.kill()
            yield

    bridge.check_delivery(fault)
    wait_until(lambda: bridge.count('camws_clients', stream='color') == 2, 3, 'they are gone')


def test_clients_that_are_stopped_are_removed_and_told_in_the_metrics(bridge):
    with bridge.counting(REMOVED, reason='timeout') as removed, readers(bridge) as processes:
        for process in processes:
            process.send_signal(signal.SIGSTOP)

        @contextmanager
        def fault():
            yield

        bridge.check_delivery(fault)
        wait_until(lambda: removed() == 3, 4 * TIMEOUT, 'they are removed')


def test_clients_behind_a_network_that_drops_everything_are_removed(bridge):
    """Half-open: no packet comes from them or gets to them, and no word of it."""
    with ExitStack() as stack:
        try:
            network = stack.enter_context(network_namespace())
        except LinkError as error:
            pytest.skip(str(error))
        removed = stack.enter_context(bridge.counting(REMOVED, reason='timeout'))
        stack.enter_context(readers(bridge, 3, network.host, network.prefix))
        cut_off(network)

        @contextmanager
        def fault():
            yield

        bridge.check_delivery(fault)
        wait_until(lambda: removed() == 3, 4 * TIMEOUT, 'they are removed')
        assert bridge.count('camws_clients', stream='color') == 2


# -- clients on bare sockets ------------------------------------------------------------------


def upgraded(bridge: CrowdedBridge, path: str = '/ws/color', subprotocol: str = 'camws.v1',
             buffer: int | None = None) -> socket.socket:
    """Open a WebSocket; what comes behind the answer may be lost."""
    client = socket.socket()
    if buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(5)
    client.connect(('127.0.0.1', bridge.port))
    client.sendall(frames.upgrade(path, subprotocol))
    head = b''
    while not head.endswith(b'\r\n\r\n'):
        head += client.recv(1)
    assert head.startswith(b'HTTP/1.1 101 ')
    return client


def close_code(client: socket.socket) -> int | None:
    """Read until the bridge closes; return the code, None when it cuts the connection."""
    received = bytearray()
    try:
        while chunk := client.recv(1 << 16):
            received += chunk
            while (found := frames.parse(received))[0] is not None:
                del received[:found[1]]
                assert found[0] is not None
                if found[0].opcode == frames.CLOSE:
                    return found[0].close_code
    except ConnectionError:
        pass
    return None


@contextmanager
def repeated(act: Callable[[], Any], pause: float = 0.02, threads: int = 2) -> Iterator[None]:
    """Do something again and again beside."""
    ended, failures = threading.Event(), []

    def run() -> None:
        while not ended.wait(pause):
            try:
                act()
            except Exception as error:
                failures.append(error)
                return

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        ended.set()
        for worker in workers:
            worker.join()
    assert failures == []


def test_clients_that_read_byte_by_byte_get_the_newest(bridge):
    @contextmanager
    def fault():
        clients = [upgraded(bridge, buffer=4096) for _ in range(3)]
        with ExitStack() as stack:
            for client in clients:
                stack.enter_context(client)
            with repeated(lambda: [client.recv(1) for client in clients], 0.002, 1):
                yield

    with bridge.counting('camws_messages_replaced_total', stream='color', hop='client') as seen:
        bridge.check_delivery(fault)
        assert seen() > 0


def test_a_client_that_opens_every_stream_and_reads_none(bridge):
    with ExitStack() as stack, bridge.counting(REMOVED, reason='timeout') as removed:
        @contextmanager
        def fault():
            with ExitStack() as clients:
                # With no robot and no depth some of them say so and close.
                for stream in STREAMS:
                    clients.enter_context(upgraded(bridge, f'/ws/{stream}', buffer=4096))
                yield

        bridge.check_delivery(fault)
        # And one that stays until it is thrown out.
        stack.enter_context(upgraded(bridge, buffer=4096))
        wait_until(lambda: removed() > 0, 4 * TIMEOUT, 'it is removed')


def misbehave(bridge: CrowdedBridge, data: bytes, *codes: int | None) -> None:
    """Send what is not allowed, on a socket of its own."""
    with upgraded(bridge, '/ws/markers') as client:
        try:
            client.sendall(data)
        except ConnectionError:
            pass        # it did not wait for the end
        assert close_code(client) in codes


# What is not allowed, what that is counted as, and the code it is closed with.
NOT_ALLOWED = {
    'a huge frame': ('websocket_size', frames.frame('x' * 70_000), 1009),
    'a frame that claims to be huge': ('websocket_size', frames.frame(claimed=1 << 62), 1009),
    'too many fragments': (
        'websocket_fragments', frames.frame('{', fin=False)
        + frames.frame(opcode=0, fin=False) * 5000, 1008),
    'a fragment of nothing': ('websocket_protocol', frames.frame('x', opcode=0), 1002),
    'a message within another': (
        'websocket_protocol', frames.frame('{', fin=False) + frames.frame('{}'), 1002),
    'an unmasked frame': ('websocket_protocol', frames.frame('{}', masked=False), 1002),
    'reserved bits': ('websocket_protocol', frames.frame('{}', reserved=2), 1002),
    'an unknown operation': ('websocket_protocol', frames.frame('{}', opcode=5), 1002),
    'too long a ping': ('websocket_protocol', frames.frame(b'x' * 126, frames.PING), 1002),
    'text that is none': ('websocket_text', frames.frame(b'\xff\xfe{}'), 1007)}


def send_what_is_not_allowed(bridge: CrowdedBridge, kind: str) -> None:
    _, data, code = NOT_ALLOWED[kind]
    # Where more was sent than was read, a reset may overtake the close frame.
    misbehave(bridge, data, *((code, None) if len(data) > 1000 else (code,)))


@pytest.mark.parametrize('kind', NOT_ALLOWED)
def test_frames_that_are_not_allowed_are_closed_with_a_code_and_counted(bridge, kind):
    with bridge.counting(REFUSED, reason=NOT_ALLOWED[kind][0]) as refused:
        send_what_is_not_allowed(bridge, kind)
        assert refused() == 1


def test_many_frames_that_are_not_allowed(bridge):
    kinds, lot = list(NOT_ALLOWED), random.Random(3)
    bridge.check_delivery(lambda: repeated(
        lambda: send_what_is_not_allowed(bridge, lot.choice(kinds))))


def test_rubbish_instead_of_frames(bridge):
    lot = random.Random(7)
    bridge.check_delivery(lambda: repeated(
        lambda: rubbish(bridge, lot.randbytes(lot.randrange(1, 3000)))))


def rubbish(bridge: CrowdedBridge, data: bytes) -> None:
    with upgraded(bridge, '/ws/markers') as client:
        client.sendall(data)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))


def test_messages_in_fragments_are_put_together(bridge):
    def act():
        parts = [frames.frame(letter, opcode=1 if at == 0 else 0, fin=False)
                 for at, letter in enumerate('{"op":"time","t0":4711')]
        with upgraded(bridge, '/ws/markers?fps=1') as client:
            for part in parts:
                client.sendall(part + frames.frame(b'', frames.PING))
            client.sendall(frames.frame('}', opcode=0) + frames.close(1000))
            received = b''
            while chunk := client.recv(1 << 16):
                received += chunk
            assert b'"t0":4711' in received

    bridge.check_delivery(lambda: repeated(act))


def test_json_of_wrong_types(bridge):
    lies = iter(LIES * 1000)
    lock = threading.Lock()

    def act():
        with lock:
            lie = next(lies)
        misbehave(bridge, frames.frame(lie), 4400)

    with bridge.counting(REFUSED, reason='bad_message') as refused:
        bridge.check_delivery(lambda: repeated(act))
        assert refused() > 5


def test_floods_of_pongs_are_stopped(bridge):
    flood = frames.frame(b'', frames.PONG) * 1000
    with bridge.counting(REFUSED, reason='message_rate') as refused:
        bridge.check_delivery(lambda: repeated(
            lambda: misbehave(bridge, flood, 1008, None), 0.1, 1))
        assert refused() > 0


# -- crowds -----------------------------------------------------------------------------------


def test_500_connects_and_disconnects_a_second(bridge):
    command = [sys.executable, '-m', 'benchmarks.soak.crush', str(bridge.port), '500', '1.2']
    results = []

    @contextmanager
    def fault():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TEST.parent)
        time.sleep(0.3)
        yield
        results.append(json.loads(process.communicate()[0]))

    bridge.check_delivery(fault)
    # A busy machine may not get as far; nobody was turned away.
    assert results[-1]['connected'] > 300 and results[-1]['failed'] == 0
    assert results[-1]['opened'] == pytest.approx(results[-1]['connected'] / 2, abs=1)


def test_a_page_that_resets_its_mjpeg_stream(bridge):
    def act():
        with socket.create_connection(('127.0.0.1', bridge.port), timeout=5) as client:
            client.sendall(b'GET /api/v1/images/color.mjpg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n')
            client.recv(5000)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))

    bridge.check_delivery(lambda: repeated(act))
