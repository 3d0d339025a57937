"""The server itself: files, unknown paths, methods, TLS, ports, headers."""
import errno
import http.client
import json
import re
import socket
import threading

from processes import http_get, wait_until
import pytest
from web_bridge import running_bridge, WebBridge

from camws_bridge.api import server
from camws_bridge.api.server import ServerError


@pytest.fixture(scope='module')
def bridge():
    with running_bridge() as it:
        yield it


def test_the_dashboard_is_served_and_needs_nothing_from_elsewhere(bridge):
    status, headers, body = http_get(bridge.http + '/')
    assert status == 200 and headers['Content-Type'].startswith('text/html')
    assert "default-src 'self'" in headers['Content-Security-Policy']
    assert not re.search(rb'<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|javascript:', body)
    assert b'http://' not in body.replace(b'http://www.w3.org', b'') and b'https://' not in body
    assert http_get(bridge.http + '/static/app.js')[0] == 200


@pytest.mark.parametrize('path', ['/nothing', '/api/v2/streams', '/static/nothing.js',
                                  '/static/%00', '/static/' + 'a' * 300,
                                  '/static/%2e%2e/server.py', '/static//etc/passwd',
                                  '/static/../server.py', '/api/v1/images/color'])
def test_unknown_paths_are_404_in_json(bridge, path):
    status, headers, body = http_get(bridge.http + path)
    assert status == 404
    assert json.loads(body)['error']['code'] == 'not_found'


@pytest.mark.parametrize('method', ['POST', 'PUT', 'DELETE'])
def test_other_methods_are_405_in_json(bridge, method):
    connection = http.client.HTTPConnection('127.0.0.1', bridge.server.port, timeout=10)
    connection.request(method, '/api/v1/streams')
    response = connection.getresponse()
    assert response.status == 405
    assert json.loads(response.read())['error']['code'] == 'method_not_allowed'
    connection.close()


def test_no_response_says_what_lies_beneath(bridge):
    for path in ('/', '/nothing', '/healthz', '/api/v1/images/color.jpg?width=x'):
        _, headers, body = http_get(bridge.http + path)
        assert 'Server' not in headers
        assert b'ornado' not in body and b'Traceback' not in body


def test_the_policy_names_the_host_that_was_asked_and_nothing_that_is_none(bridge):
    for host, named in (('localhost:1', True), ('x;script-src *', False), ('', False)):
        connection = http.client.HTTPConnection('127.0.0.1', bridge.server.port, timeout=10)
        connection.putrequest('GET', '/', skip_host=True)
        connection.putheader('Host', host)
        connection.endheaders()
        response = connection.getresponse()
        policy = response.headers.get('Content-Security-Policy', '')
        assert (f'ws://{host} ' in policy) == named and 'script-src *' not in policy
        response.read()
        connection.close()


def test_a_port_that_is_taken_is_one_clear_error():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        it = WebBridge({'port': port})
        with pytest.raises(ServerError, match=f'port {port} on 127.0.0.1 is in use'):
            it.server.start(it.bridge)


def test_a_host_that_is_not_ours_is_one_clear_error():
    it = WebBridge({'host': '203.0.113.1'})
    with pytest.raises(ServerError, match=r'cannot listen on 203\.0\.113\.1'):
        it.server.start(it.bridge)


def test_localhost_without_ipv6_is_still_localhost(monkeypatch):
    # Inject a fault by a ::1 that is not there, as in containers.
    listen = server._listen

    def without_ipv6(family, address, port):
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, 'Cannot assign requested address')
        return listen(family, address, port)

    addresses = [(family, socket.SOCK_STREAM, 6, '', (address, 0)) for family, address in (
        (socket.AF_INET6, '::1'), (socket.AF_INET, '127.0.0.1'))]
    monkeypatch.setattr(server, '_listen', without_ipv6)
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *_, **__: addresses)
    sockets = server._bind('localhost', 0)
    assert [it.getsockname()[0] for it in sockets] == ['127.0.0.1']
    sockets[0].close()


def test_a_client_whose_check_fails_costs_the_others_nothing(bridge, monkeypatch):
    # Inject a fault by a client whose check raises.
    from camws_bridge.api.v1.endpoints.websockets import StreamSocket
    from websockets.sync.client import connect
    checked = []

    def check(self, now):
        checked.append(self)
        if len(checked) == 1:
            raise ValueError('injected')

    monkeypatch.setattr(StreamSocket, 'check', check)
    with connect(bridge.ws + '/ws/color'), connect(bridge.ws + '/ws/color'):
        wait_until(lambda: len(checked) > 4, 10, 'checks go on')
        assert bridge.connections.total == 1


def test_start_and_stop_leave_no_thread_and_no_port():
    before = set(threading.enumerate())
    it = WebBridge({})
    it.server.start(it.bridge)
    with pytest.raises(RuntimeError):
        it.server.start(it.bridge)
    port = it.server.port
    it.server.stop()
    assert set(threading.enumerate()) == before
    socket.create_server(('127.0.0.1', port)).close()
    it.server.call_in_loop(lambda: None)    # what P hands over too late is dropped
