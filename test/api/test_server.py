"""The server itself: files, unknown paths, methods, TLS, ports, headers."""
import errno
import http.client
import json
import socket
import ssl
import subprocess
import threading

from processes import http_get, wait_until
import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from web_bridge import running_bridge, WebBridge

from camws_bridge.api import server
from camws_bridge.api.access import Access
from camws_bridge.api.server import ServerError
from camws_bridge.parameter import SettingsError
from camws_bridge.settings import Settings


@pytest.fixture(scope='module')
def bridge():
    with running_bridge() as it:
        yield it


def test_the_dashboard_is_served_and_needs_nothing_from_elsewhere(bridge):
    status, headers, body = http_get(bridge.http + '/')
    assert status == 200 and headers['Content-Type'].startswith('text/html')
    assert "default-src 'self'" in headers['Content-Security-Policy']
    assert b'http://' not in body.replace(b'http://www.w3.org', b'') and b'https://' not in body
    assert http_get(bridge.http + '/static/app.js')[0] == 200


@pytest.mark.parametrize('path', ['/nothing', '/api/v2/streams', '/static/nothing.js',
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


def test_a_browser_is_told_what_it_may_send():
    with running_bridge(allowed_origins=['*'], auth__token='x') as bridge:
        connection = http.client.HTTPConnection('127.0.0.1', bridge.server.port, timeout=10)
        connection.request('OPTIONS', '/api/v1/streams', headers={'Origin': 'https://a.example'})
        response = connection.getresponse()
        assert response.status == 204
        assert response.headers['Access-Control-Allow-Origin'] == 'https://a.example'
        assert 'Authorization' in response.headers['Access-Control-Allow-Headers']
        connection.close()


def test_tokens_are_asked_for_everywhere_but_for_the_page_itself():
    with running_bridge(auth__token='s3cret') as bridge:
        for path in ('/api/v1/streams', '/metrics', '/nothing'):
            status, headers, _ = http_get(bridge.http + path)
            assert status == 401 and headers['Www-Authenticate'] == 'Bearer'
            assert http_get(f'{bridge.http}{path}?token=wrong')[0] == 401
        assert http_get(bridge.http + '/api/v1/streams?token=s3cret')[0] == 200
        assert http_get(bridge.http + '/api/v1/streams',
                        {'Authorization': 'Bearer s3cret'})[0] == 200
        assert http_get(bridge.http + '/')[0] == 200


def test_a_tokens_file_holds_digests(tmp_path):
    import hashlib
    path = tmp_path / 'tokens'
    digest = hashlib.sha256(b's3cret').hexdigest()
    path.write_text(f'# who\nalice:{digest}\n')
    with running_bridge(auth__tokens_file=str(path)) as bridge:
        assert http_get(bridge.http + '/api/v1/streams?token=s3cret')[0] == 200
        assert http_get(bridge.http + '/api/v1/streams?token=' + digest)[0] == 401


@pytest.mark.parametrize('text', ['', 'alice', 'alice:123', 'al ice:' + 'a' * 64])
def test_a_wrong_tokens_file_stops_the_start(tmp_path, text):
    path = tmp_path / 'tokens'
    path.write_text(text)
    with pytest.raises(SettingsError, match=r'auth\.tokens_file'):
        WebBridge({'auth.tokens_file': str(path)})


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


@pytest.mark.parametrize('host,origin,allowed', [
    ('127.0.0.1', None, True), ('localhost', 'http://localhost', True), ('[::1]', None, True),
    ('robot', 'http://robot', True), ('rebound.example', None, False),
    ('rebound.example', 'http://rebound.example', False), ('localhost', 'http://[', False),
    ('proxy.example', 'https://proxy.example', True), ('proxy.example', None, True)])
def test_a_page_that_has_its_name_point_here_may_not_read(host, origin, allowed):
    access = Access(Settings().with_values({'allowed_origins': ['https://proxy.example']}))
    headers = {'Host': f'{host}', **({'Origin': origin} if origin else {})}
    request = HTTPServerRequest(
        start_line=RequestStartLine('GET', '/', 'HTTP/1.1'), headers=HTTPHeaders(headers))
    assert access.is_origin_allowed(request) == allowed


def test_localhost_without_ipv6_is_still_localhost(monkeypatch):
    # Inject a fault by a ::1 that is not there, as in containers.
    listen = server.listen

    def without_ipv6(family, address, port):
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, 'Cannot assign requested address')
        return listen(family, address, port)

    addresses = [(family, socket.SOCK_STREAM, 6, '', (address, 0)) for family, address in (
        (socket.AF_INET6, '::1'), (socket.AF_INET, '127.0.0.1'))]
    monkeypatch.setattr(server, 'listen', without_ipv6)
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


def test_tls(tmp_path):
    cert, key = tmp_path / 'cert.pem', tmp_path / 'key.pem'
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1',
                    '-subj', '/CN=localhost', '-keyout', key, '-out', cert],
                   check=True, capture_output=True)
    context = ssl.create_default_context(cafile=str(cert))
    context.check_hostname = False
    with running_bridge(tls__certfile=str(cert), tls__keyfile=str(key)) as bridge:
        assert bridge.http.startswith('https://')
        connection = http.client.HTTPSConnection(
            '127.0.0.1', bridge.server.port, timeout=10, context=context)
        connection.request('GET', '/healthz')
        assert connection.getresponse().status == 503
        connection.close()
        from websockets.sync.client import connect
        with connect(bridge.ws + '/ws/color', ssl=context) as client:
            bridge.publish()
            assert client.recv(timeout=10).startswith(b'\xff\xd8')


def test_a_bad_pair_of_tls_files_stops_the_start(tmp_path):
    bad = tmp_path / 'bad.pem'
    bad.write_text('no certificate')
    it = WebBridge({'tls.certfile': str(bad), 'tls.keyfile': str(bad)})
    with pytest.raises(SettingsError, match=r'tls\.certfile'):
        it.server.start(it.bridge)


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
