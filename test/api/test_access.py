"""Who may come in, over real sockets."""
from contextlib import ExitStack
import hashlib
import http.client
import json
import logging
import os
import socket

from processes import http_get, wait_until
import pytest
from web_bridge import DEMO_BOARD, running_bridge, WebBridge
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from camws_bridge.parameter import SettingsError
from camws_bridge.tokens import digest_of, line_of, make_token, Token

LONG = make_token()
ROBOT = [0.1, 0.0, 0.0, 0.0, 0.0, 1.0]


def write_tokens(path, **tokens):
    """Write a tokens file: name=token, or name=(token, pattern, ...)."""
    entries = {name: value if isinstance(value, tuple) else (value,)
               for name, value in tokens.items()}
    path.write_text(''.join(line_of(Token(name, digest_of(token), tuple(streams))) + '\n'
                            for name, (token, *streams) in entries.items()))


def get(bridge, path, token=None, **headers):
    if token:
        headers['Authorization'] = f'Bearer {token}'
    status, answered, body = http_get(bridge.http + path, headers)
    return status, answered, json.loads(body) if 'json' in answered['Content-Type'] else body


def ws(bridge, path='color', token=None, **options):
    if token:
        options['subprotocols'] = ['camws.v1', f'camws.token.{token}']
    return connect(f'{bridge.ws}/ws/{path}', max_size=None, **options)


def refused(bridge, reason):
    return bridge.count('camws_refused_total', reason=reason)


# -- tokens -----------------------------------------------------------------------------------


def test_tokens_are_asked_for_everywhere_but_for_the_page_itself():
    with running_bridge(auth__token='s3cret') as bridge:
        for path in ('/api/v1/streams', '/metrics', '/nothing', '/api/v1/images/color.jpg',
                     '/api/v1/calibration', '/ws/color'):
            status, headers, body = get(bridge, path)
            assert status == 401 and headers['Www-Authenticate'] == 'Bearer'
            assert body['error']['code'] == 'unauthorized'
        assert get(bridge, '/api/v1/streams?token=wrong')[0] == 401
        assert get(bridge, '/api/v1/streams?token=s3cret')[0] == 200
        assert get(bridge, '/api/v1/streams', 's3cret')[0] == 200
        assert get(bridge, '/api/v1/streams?token=wrong', 's3cret')[0] == 200
        assert get(bridge, '/')[0] == 200 and get(bridge, '/static/app.js')[0] == 200
        assert refused(bridge, 'token_missing') == 6 and refused(bridge, 'token_wrong') == 1


def test_a_tokens_file_holds_digests(tmp_path):
    write_tokens(tmp_path / 'tokens', alice=LONG)
    with running_bridge(auth__tokens_file=str(tmp_path / 'tokens')) as bridge:
        assert get(bridge, '/api/v1/streams?token=' + LONG)[0] == 200
        assert get(bridge, '/api/v1/streams?token=' + digest_of(LONG).hex())[0] == 401


@pytest.mark.parametrize('text', ['', 'alice', 'alice:123', 'al ice:' + 'a' * 64])
def test_a_wrong_tokens_file_stops_the_start(tmp_path, text):
    path = tmp_path / 'tokens'
    path.write_text(text)
    with pytest.raises(SettingsError, match=r'auth\.tokens_file'):
        WebBridge({'auth.tokens_file': str(path)})


def test_health_is_open_to_probes_but_without_details():
    with running_bridge(auth__token='s3cret') as bridge:
        status, _, body = get(bridge, '/healthz')
        assert (status, body) == (503, {'status': 'error'})
        bridge.publish()
        status, _, body = get(bridge, '/healthz')
        assert (status, body) == (200, {'status': 'ok'})
        assert get(bridge, '/healthz', 's3cret')[2]['message'] == 'images arrive'
        assert get(bridge, '/healthz', 'wrong')[0] == 401


@pytest.mark.parametrize('offered,chosen', [
    (['camws.v1', f'camws.token.{LONG}'], 'camws.v1'),
    ([f'camws.token.{LONG}', 'camws.v1'], 'camws.v1'),
    ([f'camws.token.{LONG}', 'camws.plain'], 'camws.plain'),
    ([f'camws.token.{LONG}'], None)])
def test_a_token_among_the_subprotocols_is_never_chosen(offered, chosen):
    with running_bridge(auth__token=LONG) as bridge, ws(
            bridge, subprotocols=offered) as client:
        assert client.subprotocol == chosen
        assert LONG not in str(client.response.headers)


def test_wrong_tokens_are_slowed_down_and_right_ones_are_not(monkeypatch):
    with running_bridge(auth__token='s3cret') as bridge:
        clock = bridge.bridge.access.limits
        monkeypatch.setattr(clock, 'clock', lambda: 1000.0)
        assert get(bridge, '/api/v1/streams', 's3cret')[0] == 200
        for number in range(10):
            assert get(bridge, '/api/v1/streams', f'guess{number}')[0] == 401
        status, headers, body = get(bridge, '/api/v1/streams', 'guess')
        assert status == 429 and body['error']['code'] == 'too_many_wrong_tokens'
        assert headers['Retry-After'] == '6'
        with pytest.raises(InvalidStatus) as caught, ws(bridge, token='guess'):
            pass
        assert caught.value.response.status_code == 429
        # Who has shown the right one before is behind the same address, and is let in.
        assert get(bridge, '/api/v1/streams', 's3cret')[0] == 200
        assert get(bridge, '/api/v1/streams')[0] == 401
        monkeypatch.setattr(clock, 'clock', lambda: 1006.1)
        assert get(bridge, '/api/v1/streams', 'guess')[0] == 401
        assert refused(bridge, 'token_rate') == 2


def test_guessing_on_does_not_find_what_can_be_guessed():
    with running_bridge(auth__token='1234', limits__wrong_tokens_per_minute=1.0) as bridge:
        for number in range(1220, 1231):
            get(bridge, '/healthz', str(number))
        assert get(bridge, '/healthz', '1234')[0] == 429


def test_a_token_that_cannot_be_guessed_comes_in_whatever_its_neighbours_do():
    with running_bridge(auth__token=LONG, limits__wrong_tokens_per_minute=1.0) as bridge:
        for number in range(12):
            get(bridge, '/healthz', str(number))
        assert get(bridge, '/healthz', 'guess')[0] == 429
        assert get(bridge, '/api/v1/streams', LONG)[0] == 200
        with ws(bridge, token=LONG):
            pass


def test_one_request_is_one_guess():
    with running_bridge(auth__token='s3cret') as bridge:
        many = '&'.join(f'token=guess{number}' for number in range(100))
        assert get(bridge, f'/api/v1/streams?token=s3cret&{many}')[0] == 401
        assert get(bridge, f'/api/v1/streams?{many}&token=s3cret')[0] == 200


def test_no_token_gets_into_a_log(caplog, tmp_path, monkeypatch):
    from camws_bridge.api.v1.endpoints import system
    caplog.set_level(logging.DEBUG)
    write_tokens(tmp_path / 'tokens', alice=LONG)
    wrong = make_token()
    with running_bridge(auth__tokens_file=str(tmp_path / 'tokens')) as bridge:
        for token in (LONG, wrong):
            for path in ('/api/v1/streams', '/nothing', '/ws/color', '/api/v1/images/x.jpg'):
                get(bridge, f'{path}?token={token}')
                get(bridge, path, token)
            for path in (f'color?token={token}', 'color', f'nothing?fps=0&token={token}'):
                try:
                    with ws(bridge, path, token) as client:
                        client.recv(timeout=10)
                except (InvalidStatus, ConnectionClosed):
                    pass
        # Inject a fault by a handler that fails.
        monkeypatch.setattr(system, 'generate_latest', lambda _: 1 / 0)
        assert get(bridge, f'/metrics?token={LONG}')[0] == 500
        monkeypatch.undo()
        raw = http.client.HTTPConnection('127.0.0.1', bridge.server.port, timeout=10)
        raw.putrequest('GET', f'/?token={LONG}', skip_host=True)
        raw.putheader('Host', f'a b?token={LONG}')
        raw.endheaders()
        assert raw.getresponse().status in (400, 200)      # tornado before 6.5 lets it pass
        raw.close()
        bridge.bridge.access.reload()
        text = get(bridge, '/metrics', LONG)[2].decode()
    assert len(caplog.records) > 10 and '/metrics failed' in caplog.text
    own = '\n'.join(record.getMessage() for record in caplog.records
                    if not record.name.startswith('websockets'))
    for token in (LONG, wrong):
        assert token not in own and token not in text
        assert digest_of(token).hex() not in own


# -- tokens for some streams ------------------------------------------------------------------


@pytest.fixture
def limited(tmp_path):
    """Run a bridge with a token for some streams, and one for the others' sake."""
    path = tmp_path / 'tokens'
    write_tokens(path, some=('some', 'color', 'transforms_b*', 'board_mask'), all='all',
                 prometheus=('prometheus', 'metrics'))
    with running_bridge(auth__tokens_file=str(path), board__file=DEMO_BOARD,
                        robot__pose_in_board=ROBOT) as bridge:
        bridge.publish()
        yield bridge


@pytest.mark.parametrize('path,needs', [
    ('/api/v1/images/color.jpg', 'color'), ('/api/v1/images/color/raw', 'color'),
    ('/api/v1/images/rectified.jpg', None), ('/api/v1/images/rectified.mjpg', None),
    ('/api/v1/images/depth/raw', None), ('/api/v1/masks/board.png', 'board_mask'),
    ('/api/v1/masks/marker.png', None), ('/api/v1/transforms?frame=board', 'transforms_board'),
    ('/api/v1/transforms', None), ('/api/v1/transforms/camera?frame=board', 'transforms_board'),
    ('/api/v1/transforms/camera?frame=robot', None), ('/api/v1/aruco', None),
    ('/api/v1/calibration', None), ('/metrics', None)])
def test_a_token_for_some_streams_opens_no_other(limited, path, needs):
    status, _, body = get(limited, path, 'some')
    if needs:
        assert status == 200
    else:
        assert status == 403 and body['error']['code'] == 'stream_not_allowed'


def test_sockets_of_other_streams_are_refused_before_the_upgrade(limited):
    for path in ('color', 'transforms_board'):
        with ws(limited, path, 'some'):
            pass
    for path in ('rectified', 'markers', 'depth_raw'):
        with pytest.raises(InvalidStatus) as caught, ws(limited, path, 'some'):
            pass
        assert caught.value.response.status_code == 403
    assert refused(limited, 'stream') == 3


def test_what_may_be_embedded_is_what_may_be_read(limited):
    with ws(limited, 'color?embed=transforms_board', 'some') as client:
        assert json.loads(client.recv(timeout=10))['op'] == 'server_info'
        client.send(json.dumps({'op': 'configure', 'embed': ['markers']}))
        assert closing(client) == (4400, "embed: ['markers'] is not allowed; allowed: "
                                   'transforms_board')
    for name in ('markers', 'camera_info', 'transforms_robot'):
        with ws(limited, f'color?embed={name}', 'some') as client:
            assert closing(client)[0] == 4400


def test_the_catalogue_says_what_is_allowed(limited):
    def streams_of(token):
        listed = get(limited, '/api/v1/streams', token)[2]['streams']
        return {entry['id']: entry for entry in listed}

    streams = streams_of('some')
    assert {name for name, entry in streams.items() if entry['allowed']} == {
        'color', 'transforms_board', 'board_mask'}
    assert not streams['rectified']['available'] and 'token' in streams['rectified']['reason']
    assert all(entry['allowed'] for entry in streams_of('all').values())


def test_a_token_may_be_for_metrics_alone(limited):
    assert b'camws_refused_total' in get(limited, '/metrics', 'prometheus')[2]
    assert get(limited, '/api/v1/images/color.jpg', 'prometheus')[0] == 403


# -- tokens that come and go ------------------------------------------------------------------


def closing(client):
    with pytest.raises(ConnectionClosed) as closed:
        for _ in range(1000):
            client.recv(timeout=10)
    return closed.value.rcvd.code, closed.value.rcvd.reason


def test_a_removed_token_closes_its_sockets_and_no_others(tmp_path):
    path = tmp_path / 'tokens'
    write_tokens(path, alice='alice', bob='bob')
    with running_bridge(auth__tokens_file=str(path)) as bridge, ExitStack() as stack:
        alice, bob = (stack.enter_context(ws(bridge, token=name)) for name in ('alice', 'bob'))
        movie = http.client.HTTPConnection('127.0.0.1', bridge.server.port, timeout=10)
        stack.callback(movie.close)
        movie.request('GET', '/api/v1/images/color.mjpg?token=alice')
        response = movie.getresponse()
        wait_until(lambda: bridge.connections.total == 3, 10, 'all are connected')
        write_tokens(path, bob='bob', carol='carol')
        assert closing(alice) == (1008, 'the token was removed')
        with pytest.raises(http.client.IncompleteRead):
            while response.read1():
                pass
            raise http.client.IncompleteRead(b'')
        assert get(bridge, '/api/v1/streams', 'alice')[0] == 401
        assert get(bridge, '/api/v1/streams', 'carol')[0] == 200
        assert bridge.connections.total == 1
        bridge.publish()
        assert bob.recv(timeout=10)


def test_a_token_that_is_cut_down_closes_what_it_no_longer_allows(tmp_path):
    path = tmp_path / 'tokens'
    write_tokens(path, alice='alice')
    with running_bridge(auth__tokens_file=str(path)) as bridge, ws(
            bridge, 'color', 'alice') as color, ws(bridge, 'markers', 'alice') as markers, ws(
            bridge, 'color?embed=markers', 'alice') as embedding:
        write_tokens(path, alice=('alice', 'color'))
        bridge.server.reload()
        for client in (markers, embedding):
            assert closing(client) == (1008, 'the token is no longer for this stream')
        assert json.loads(color.recv(timeout=10))['op'] == 'server_info'


def test_a_broken_file_keeps_the_tokens_and_is_one_line(tmp_path, caplog):
    path = tmp_path / 'tokens'
    write_tokens(path, alice='alice')
    with running_bridge(auth__tokens_file=str(path)) as bridge:
        # Inject a fault by a file that is none.
        path.write_text('broken\n')
        wait_until(lambda: caplog.records, 10, 'that is said')
        assert get(bridge, '/api/v1/streams', 'alice')[0] == 200
        os.unlink(path)
        wait_until(lambda: len(caplog.records) == 2, 10, 'that is said, too')
        assert get(bridge, '/api/v1/streams', 'alice')[0] == 200
        broken, gone = (record.getMessage() for record in caplog.records)
        assert 'stay as they were' in broken and f"'{path}': line 1" in broken
        assert 'No such file' in gone and '\n' not in broken + gone


def test_the_last_token_removed_shuts_everybody_out(tmp_path):
    path = tmp_path / 'tokens'
    write_tokens(path, alice='alice')
    with running_bridge(auth__tokens_file=str(path)) as bridge, ws(
            bridge, token='alice') as client:
        path.write_text('# nobody\n')
        assert closing(client)[0] == 1008
        assert get(bridge, '/api/v1/streams')[0] == 401


def test_a_pattern_that_is_no_stream_is_said(tmp_path, caplog):
    path = tmp_path / 'tokens'
    write_tokens(path, alice=('alice', 'colour', 'transforms_*', 'metrics', 'camera_info'))
    WebBridge({'auth.tokens_file': str(path)}).server.loop.close()
    message, = (record.getMessage() for record in caplog.records)
    assert "'alice' is for 'colour'" in message and 'color' in message


# -- pages and names --------------------------------------------------------------------------


def asked(bridge, method='GET', path='/api/v1/streams', **headers):
    connection = http.client.HTTPConnection('127.0.0.1', bridge.server.port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host='Host' in headers)
        for name, value in headers.items():
            connection.putheader(name.replace('_', '-'), value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_a_page_from_elsewhere_may_not_read():
    with running_bridge() as bridge:
        for origin in ('https://evil.example', 'null', f'{bridge.http}0', 'http://localhost'):
            status, headers, body = asked(bridge, Origin=origin)
            assert status == 403 and 'allowed_origins' in body.decode()
            assert 'Access-Control-Allow-Origin' not in headers
            assert asked(bridge, 'OPTIONS', Origin=origin)[0] == 403
        # Nor show a picture, for which it is not asked where it comes from.
        assert asked(bridge)[1]['Cross-Origin-Resource-Policy'] == 'same-site'
        status, headers, _ = asked(bridge, Origin=bridge.http)
        assert status == 200 and headers['Access-Control-Allow-Origin'] == bridge.http
        assert refused(bridge, 'origin') == 8


def test_answers_differ_by_origin_and_say_so_also_without_one():
    with running_bridge(allowed_origins=['https://good.example'], auth__token='x') as bridge:
        for path in ('/api/v1/streams', '/', '/static/camws.js', '/nothing'):
            _, headers, _ = asked(bridge, path=path)
            assert headers['Vary'] == 'Origin' and 'Access-Control-Allow-Origin' not in headers
            # Errors can be read by the page that may ask.
            _, headers, _ = asked(bridge, path=path, Origin='https://good.example')
            assert headers['Access-Control-Allow-Origin'] == 'https://good.example'
            assert headers['Cross-Origin-Resource-Policy'] == 'cross-origin'


def test_a_browser_is_told_what_it_may_send():
    with running_bridge(allowed_origins=['*'], auth__token='x') as bridge:
        status, headers, body = asked(
            bridge, 'OPTIONS', Origin='https://a.example',
            Access_Control_Request_Headers='authorization', Access_Control_Request_Method='GET')
        assert status == 204 and body == b''
        assert headers['Access-Control-Allow-Origin'] == 'https://a.example'
        assert 'Authorization' in headers['Access-Control-Allow-Headers']
        assert headers['Access-Control-Allow-Methods'] == 'GET, HEAD'


@pytest.mark.parametrize('host', ['rebound.example', '127.0.0.1.rebound.example:80'])
def test_a_page_that_has_its_name_point_here_may_not_read(host):
    with running_bridge() as bridge:
        assert asked(bridge, Host=host)[0] == 403
        assert asked(bridge, Host=host, Origin=f'http://{host}')[0] == 403
        assert refused(bridge, 'host') == 2
    with running_bridge(host='0.0.0.0') as bridge:
        assert asked(bridge, Host=host, Origin=f'http://{host}')[0] == 403
        assert asked(bridge, Host='robot.local:8080')[0] == 200
    # No page from elsewhere knows a token, and a listed name is ours.
    with running_bridge(auth__token='x') as bridge:
        assert asked(bridge, Host=host, Authorization='Bearer x')[0] == 200
    with running_bridge(allowed_origins=[f'https://{host.partition(":")[0]}']) as bridge:
        assert asked(bridge, Host=host)[0] == 200


def test_who_names_no_host_is_no_browser():
    with running_bridge() as bridge:
        bridge.publish()
        with socket.create_connection(('127.0.0.1', bridge.server.port), timeout=10) as probe:
            probe.sendall(b'GET /healthz HTTP/1.0\r\n\r\n')
            assert probe.recv(1 << 16).startswith(b'HTTP/1.1 200')
        with socket.create_connection(('127.0.0.1', bridge.server.port), timeout=10) as page:
            page.sendall(b'GET /healthz HTTP/1.0\r\nOrigin: http://x\r\n\r\n')
            assert page.recv(1 << 16).startswith(b'HTTP/1.1 403')


# -- what whoever starts it is told -----------------------------------------------------------


@pytest.mark.parametrize('values,said', [
    ({}, []), ({'auth.token': LONG}, []),
    ({'host': '0.0.0.0'}, ['host 0.0.0.0: everybody who reaches this port can connect (no '
                           'auth.tokens_file); nothing is encrypted (no tls.certfile)']),
    ({'host': '::', 'auth.token': LONG}, ['host ::: nothing is encrypted (no tls.certfile)']),
    ({'host': '0.0.0.0', 'tls.certfile': 'c', 'tls.keyfile': 'k'},
     ['host 0.0.0.0: everybody who reaches this port can connect (no auth.tokens_file)']),
    ({'host': '0.0.0.0', 'auth.token': LONG, 'tls.certfile': 'c', 'tls.keyfile': 'k'}, []),
    ({'auth.token': '1234'}, ['auth.token is shorter than 16 characters: it can be guessed'])])
def test_what_is_open_is_said_in_one_line(values, said):
    it = WebBridge(values)
    it.server.loop.close()
    assert it.bridge.access.warnings() == said


def test_digests_are_those_of_sha256():
    assert digest_of('abc') == hashlib.sha256(b'abc').digest()
