"""Connections: who is turned away, who is too slow, who sends rubbish."""
from contextlib import contextmanager, ExitStack
import errno
import json
import re
import socket
import threading
import time

from processes import http_get, wait_until
import pytest
from web_bridge import running_bridge
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ELSEWHERE = {'limits__exempt': []}      # this machine counts as somebody else


@contextmanager
def raw(bridge):
    with socket.create_connection(('127.0.0.1', bridge.server.port), timeout=10) as client:
        yield client


def read_all(client):
    received = b''
    while chunk := client.recv(1 << 16):
        received += chunk
    return received


def answer(received):
    """Take an HTTP response apart."""
    head, _, body = received.partition(b'\r\n\r\n')
    status = re.match(rb'HTTP/1\.1 (\d{3}) ', head)
    assert status and b'Server:' not in head and b'ornado' not in received
    assert f'Content-Length: {len(body)}'.encode() in head
    return int(status[1]), head.decode(), json.loads(body)['error']['code']


def refused(bridge, reason):
    return bridge.count('camws_refused_total', reason=reason)


def is_served(bridge):
    return http_get(bridge.http + '/api/v1/streams')[0] == 200


# -- too many ---------------------------------------------------------------------------------


def test_an_address_that_connects_too_often_is_told_when_to_come_again():
    with running_bridge(**ELSEWHERE, limits__connects_per_second=1.0) as bridge:
        for _ in range(4):
            assert is_served(bridge)
        with raw(bridge) as client:
            client.sendall(b'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n')
            status, head, code = answer(read_all(client))
        assert (status, code) == (429, 'connects_per_second') and 'Retry-After: 1' in head
        assert refused(bridge, 'connects_per_second') == 1


def test_connections_of_one_address_are_limited():
    with running_bridge(**ELSEWHERE, limits__connections_per_address=3) as bridge:
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(raw(bridge))
            wait_until(lambda: bridge.count('camws_connections') == 3, 10, 'three are connected')
            with raw(bridge) as client:
                assert answer(read_all(client))[::2] == (429, 'connections_per_address')
        wait_until(lambda: bridge.count('camws_connections') == 0, 10, 'they are gone')
        assert is_served(bridge)


def test_streaming_clients_do_not_count_as_connections_that_wait():
    with running_bridge(**ELSEWHERE, limits__connections_per_address=2) as bridge:
        with ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(connect(bridge.ws + '/ws/color'))
            assert is_served(bridge)


def test_clients_of_one_address_are_limited_and_leave_room_when_they_go():
    with running_bridge(**ELSEWHERE, limits__clients_per_address=2) as bridge:
        with connect(bridge.ws + '/ws/color'), connect(bridge.ws + '/ws/color'):
            with connect(bridge.ws + '/ws/color') as third, pytest.raises(
                    ConnectionClosed) as closed:
                third.recv(timeout=10)
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
                1013, 'too many clients from your address')
            status, _, body = http_get(bridge.http + '/api/v1/images/color.mjpg')
            assert status == 503 and json.loads(body)['error']['code'] == 'too_many_clients'
        wait_until(lambda: bridge.connections.total == 0, 10, 'they are gone')
        with connect(bridge.ws + '/ws/color') as client:
            bridge.publish()
            assert client.recv(timeout=10)
        assert refused(bridge, 'clients_per_address') == 2


def test_clients_behind_a_trusted_proxy_are_told_apart():
    with running_bridge(**ELSEWHERE, trusted_proxies=['127.0.0.1'], auth__token='s3cret',
                        limits__clients_per_address=1, limits__connects_per_second=1.0
                        ) as bridge, ExitStack() as stack:
        def client(address):
            return stack.enter_context(connect(
                bridge.ws + '/ws/color?token=s3cret',
                additional_headers={'X-Forwarded-For': f'6.6.6.6, {address}'}))

        client('192.0.2.1')
        with pytest.raises(ConnectionClosed) as closed:
            client('192.0.2.1').recv(timeout=10)
        assert closed.value.rcvd.code == 1013
        client('192.0.2.2').ping().wait(10)
        assert bridge.connections.total == 2
        # The first one has connected four times: more are too fast.
        statuses = [http_get(bridge.http + '/healthz', {'X-Forwarded-For': '192.0.2.1'})[0]
                    for _ in range(3)]
        assert statuses == [503, 503, 429]


def test_an_attacker_with_many_addresses_grows_no_memory():
    with running_bridge(trusted_proxies=['127.0.0.1'], auth__token='x') as bridge:
        visitors = bridge.bridge.access.limits.visitors
        for number in range(300):
            http_get(bridge.http + '/healthz?token=wrong',
                     {'X-Forwarded-For': f'2001:db8:{number:x}::1'})
        assert 300 <= len(visitors) <= 302
        visitors._most_idle = 10
        http_get(bridge.http + '/healthz', {'X-Forwarded-For': '192.0.2.1'})
        wait_until(lambda: len(visitors) <= 301, 10, 'one is forgotten for one that comes')


def test_a_thousand_that_connect_and_go_leave_nothing():
    with running_bridge(limits__connections=2000) as bridge, connect(
            bridge.ws + '/ws/markers') as client:
        before = threading.active_count()
        for _ in range(1000):
            with raw(bridge):
                pass
        wait_until(lambda: bridge.count('camws_connections') == 1, 10, 'they are gone')
        frame = bridge.publish()
        assert json.loads(client.recv(timeout=10))['seq'] == frame.seq
        assert threading.active_count() == before


# -- too slow ---------------------------------------------------------------------------------


def test_who_says_nothing_or_says_it_byte_by_byte_is_cut_off():
    # Inject a fault by clients that never finish their request (slow loris).
    request = b'GET /ws/color HTTP/1.1\r\nHost: x\r\nX: ' + b'y' * 100000
    with running_bridge(limits__handshake_timeout=0.5) as bridge, raw(bridge) as silent, raw(
            bridge) as slow:
        slow.settimeout(0.01)
        received = None
        for number in range(1000):
            slow.sendall(request[number:number + 1])
            try:
                received = slow.recv(1 << 16)
                break
            except TimeoutError:
                pass
        assert answer(received)[::2] == (408, 'too_slow')
        assert answer(read_all(silent))[::2] == (408, 'too_slow')
        assert refused(bridge, 'too_slow') == 2
        wait_until(lambda: bridge.count('camws_connections') == 0, 10, 'nothing is left')


def test_a_body_that_never_comes_is_cut_off():
    with running_bridge(limits__handshake_timeout=0.3) as bridge, raw(bridge) as client:
        client.sendall(b'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx')
        assert read_all(client) == b'' or refused(bridge, 'too_slow') == 1


def test_who_has_asked_in_time_may_stay():
    with running_bridge(limits__handshake_timeout=0.3) as bridge, raw(bridge) as client, connect(
            bridge.ws + '/ws/color') as streaming:
        for _ in range(2):
            client.sendall(b'GET /api/v1/streams HTTP/1.1\r\nHost: x\r\n\r\n')
            assert client.recv(1 << 16).startswith(b'HTTP/1.1 200')
            time.sleep(0.5)     # longer than the limit
        bridge.publish()
        assert streaming.recv(timeout=10)
        assert refused(bridge, 'too_slow') == 0


def test_who_asks_for_much_and_takes_nothing_is_cut_off():
    # Inject a fault by a client that asks for raw images and never reads one.
    import numpy as np
    with running_bridge(client_timeout=1.0) as bridge:
        bridge.publish(pixels=np.zeros((4000, 4000, 3), np.uint8), width=4000, height=4000)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(('127.0.0.1', bridge.server.port))
            client.sendall(b'GET /api/v1/images/color/raw HTTP/1.1\r\nHost: x\r\n\r\n')
            wait_until(lambda: bridge.count('camws_connections') == 1, 10, 'it is connected')
            wait_until(lambda: bridge.count('camws_connections') == 0, 20, 'it is cut off')


# -- rubbish ----------------------------------------------------------------------------------


@pytest.mark.parametrize('request_', [
    b'\x00\x01\x02\r\n\r\n', b'GET\r\n\r\n', b'GET / HTTP/9.9\r\nHost: x\r\n\r\n',
    b'GET / HTTP/1.1\r\nno colon\r\n\r\n',
    b'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n',
    b'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n'])
def test_what_is_no_request_is_400_in_json(request_):
    with running_bridge() as bridge, raw(bridge) as client:
        client.sendall(request_)
        assert answer(read_all(client))[::2] == (400, 'bad_request')
        assert refused(bridge, 'malformed') == 1
        assert is_served(bridge)


@pytest.mark.parametrize('hosts', [b'Host: x\r\nHost: y', b'Host: a b', b'Host: x@y'])
def test_two_hosts_or_none_that_is_one_are_refused(hosts):
    with running_bridge() as bridge, raw(bridge) as client:
        client.sendall(b'GET /api/v1/streams HTTP/1.1\r\nConnection: close\r\n' + hosts
                       + b'\r\n\r\n')
        # Before tornado 6.5 it is for us to say.
        assert answer(read_all(client))[0] in (400, 403)


def test_a_header_that_is_too_long_is_431():
    with running_bridge(limits__header_bytes=1024) as bridge, raw(bridge) as client:
        client.sendall(b'GET / HTTP/1.1\r\nHost: x\r\nX: ' + b'y' * 1100)
        assert answer(read_all(client))[::2] == (431, 'header_too_long')
        assert refused(bridge, 'header_too_long') == 1


def test_why_it_is_refused_arrives_though_the_body_is_still_being_sent():
    with running_bridge() as bridge, raw(bridge) as client:
        client.sendall(b'POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n')
        client.sendall(bytes(500000))
        assert answer(read_all(client))[::2] == (413, 'body_too_long')
        assert refused(bridge, 'malformed') == 0


@pytest.mark.parametrize('length', [b'1025', b'99999999999', b'1' * 30])
def test_a_body_that_is_too_long_is_not_read(length):
    with running_bridge() as bridge, raw(bridge) as client:
        client.sendall(b'POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: ' + length
                       + b'\r\n\r\n')
        assert answer(read_all(client))[::2] in ((413, 'body_too_long'), (400, 'bad_request'))
        assert is_served(bridge)


@pytest.mark.parametrize('header,status,code', [
    (b'', 400, 'websocket_only'), (b'Upgrade: websocket\r\n', 400, 'websocket_only'),
    (b'Upgrade: h2c\r\nConnection: Upgrade\r\n', 400, 'websocket_only'),
    (b'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n', 426,
     'websocket_version'),
    (b'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n', 400,
     'websocket_key'),
    (b'Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n'
     b'Sec-WebSocket-Key: short\r\n', 400, 'websocket_key')])
def test_what_is_no_handshake_is_told_so_in_json(header, status, code):
    with running_bridge() as bridge, raw(bridge) as client:
        client.sendall(b'GET /ws/color HTTP/1.1\r\nHost: x\r\n' + header
                       + b'Connection: close\r\n\r\n' * (b'Upgrade' not in header)
                       + b'\r\n' * (b'Upgrade' in header))
        assert answer(client.recv(1 << 16))[::2] == (status, code)


# -- out of descriptors -----------------------------------------------------------------------


class NoDescriptors:
    """A listening socket that fails to accept, as without file descriptors."""

    def __init__(self, listening):
        self.listening, self.fails, self.asked = listening, True, 0

    def accept(self):
        self.asked += 1
        if self.fails:
            raise OSError(errno.EMFILE, 'Too many open files')
        return self.listening.accept()

    def fileno(self):
        return self.listening.fileno()

    def close(self):
        self.listening.close()


def test_without_descriptors_it_waits_and_goes_on(monkeypatch, caplog):
    # Inject a fault by a process that has no file descriptors left.
    from camws_bridge.api import server
    bind, made = server._bind, []

    def without_descriptors(host, port):
        made.extend(map(NoDescriptors, bind(host, port)))
        return made

    monkeypatch.setattr(server, '_bind', without_descriptors)
    monkeypatch.setattr(NoDescriptors, 'getsockname',
                        lambda self: self.listening.getsockname(), raising=False)
    with running_bridge() as bridge, raw(bridge):
        wait_until(lambda: refused(bridge, 'no_descriptors') >= 2, 10, 'that is counted')
        assert made[0].asked < 10, 'it must not spin'
        made[0].fails = False
        assert is_served(bridge)
    line, = (record.getMessage() for record in caplog.records if record.levelname == 'ERROR')
    assert line == 'no connection can be accepted now: Too many open files'
