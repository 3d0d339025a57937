"""HTTPS and WSS with real certificates."""
import asyncio
from contextlib import suppress
import errno
import http.client
import os
from pathlib import Path
import socket
import ssl

from certificates import make_pair, openssl, trust
from processes import wait_until
import pytest
from web_bridge import running_bridge, WebBridge
from websockets.asyncio.client import connect

from camws_bridge.api.tls import make_context
from camws_bridge.parameter import SettingsError
from camws_bridge.settings import TlsSettings


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp('tls'))


@pytest.fixture(scope='module')
def bridge(pair):
    with running_bridge(tls__certfile=pair[0], tls__keyfile=pair[1]) as it:
        yield it


def get(bridge, path, context):
    connection = http.client.HTTPSConnection(
        '127.0.0.1', bridge.server.port, timeout=10, context=context)
    try:
        connection.request('GET', path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_https_and_wss(bridge, pair):
    assert bridge.http.startswith('https://')
    assert get(bridge, '/healthz', trust(pair[0]))[0] == 503

    async def first_message():
        # websockets' threading client uses one TLS object on two threads, which Python allows
        # from 3.13 on only.
        async with connect(bridge.ws + '/ws/color', ssl=trust(pair[0])) as client:
            bridge.publish()
            return await asyncio.wait_for(client.recv(), 10)

    assert asyncio.run(first_message()).startswith(b'\xff\xd8')


@pytest.mark.parametrize('version,spoken', [
    (ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True),
    (ssl.TLSVersion.TLSv1_3, True)])
@pytest.mark.filterwarnings('ignore:ssl.TLSVersion:DeprecationWarning')
def test_tls_1_2_at_least(bridge, version, spoken):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # Let this side speak what is long forbidden.
    context.set_ciphers('ALL:@SECLEVEL=0')
    context.minimum_version = context.maximum_version = version
    if spoken:
        assert get(bridge, '/api/v1/streams', context)[0] == 200
    else:
        with pytest.raises(ssl.SSLError):
            get(bridge, '/healthz', context)


def test_clear_text_and_garbage_cost_the_others_nothing(bridge, pair, caplog):
    # Inject a fault by clients that do not speak TLS.
    before = bridge.count('camws_refused_total', reason='tls')
    for data in (b'GET / HTTP/1.1\r\n\r\n', bytes(1000), b'\x16\x03\x01\x00\x05'):
        with socket.create_connection(('127.0.0.1', bridge.server.port), timeout=10) as client:
            client.sendall(data)
            with suppress(OSError):     # it may have been cut off already
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):
                    pass
    wait_until(lambda: bridge.count('camws_refused_total', reason='tls') >= before + 2, 10,
               'they are counted')
    assert get(bridge, '/api/v1/streams', trust(pair[0]))[0] == 200
    assert not caplog.records, 'whoever likes could fill the log'


def test_a_handshake_that_does_not_go_on_is_cut_off(pair):
    # Inject a fault by a client that stops in the middle of the TLS handshake.
    with running_bridge(tls__certfile=pair[0], tls__keyfile=pair[1],
                        limits__handshake_timeout=0.3) as bridge:
        for start in (b'', b'\x16\x03\x01\x02\x00\x01'):
            with socket.create_connection(('127.0.0.1', bridge.server.port), timeout=10) as late:
                late.sendall(start)
                assert late.recv(100) == b''
        assert bridge.count('camws_refused_total', reason='too_slow') == 2
        assert get(bridge, '/api/v1/streams', trust(pair[0]))[0] == 200
        wait_until(lambda: bridge.count('camws_connections') == 0, 10, 'nothing is left')


def test_a_new_certificate_is_shown_without_a_restart(tmp_path):
    certificate, key = make_pair(tmp_path, subject='old')
    with running_bridge(tls__certfile=certificate, tls__keyfile=key) as bridge:
        def shown():
            return ssl.get_server_certificate(('127.0.0.1', bridge.server.port), timeout=10)

        old = shown()
        new, new_key = make_pair(tmp_path, 'new', subject='new')
        os.replace(new_key, key)
        os.replace(new, certificate)
        wait_until(lambda: shown() != old, 10, 'the new certificate is shown')


def test_half_a_new_pair_changes_nothing(tmp_path, caplog):
    certificate, key = make_pair(tmp_path)
    with running_bridge(tls__certfile=certificate, tls__keyfile=key) as bridge:
        # Inject a fault by a key that is not the certificate's.
        _, other_key = make_pair(tmp_path, 'other')
        os.replace(other_key, key)
        bridge.server.reload()
        wait_until(lambda: 'stays as it was' in caplog.text, 10, 'that is said')
        assert 'not the key of' in caplog.text
        assert get(bridge, '/healthz', trust(certificate))[0] == 503


def make_bad(folder, pair, kind):
    """Return certificate and key, one of them bad, and what must be said."""
    certificate, key = pair
    bad = str(folder / 'bad.pem')
    if kind == 'missing':
        return bad, key, f"tls.certfile: '{bad}': No such file"
    if kind == 'folder':
        return certificate, str(folder), f"tls.keyfile: '{folder}': Is a directory"
    if kind == 'no PEM':
        (folder / 'bad.pem').write_bytes(os.urandom(100))
        return bad, key, f"tls.certfile: '{bad}': it holds no certificate"
    if kind == 'swapped':
        return key, certificate, f"tls.certfile: '{key}': it holds no certificate"
    if kind == 'no key':
        return certificate, certificate, f"tls.keyfile: '{certificate}': it holds no private key"
    if kind == 'mismatch':
        _, other = make_pair(folder, 'other')
        return certificate, other, f"tls.keyfile: '{other}': it is not the key of"
    if kind == 'encrypted':
        openssl('pkcs8', '-topk8', '-in', key, '-passout', 'pass:x', '-out', bad)
        return certificate, bad, f"tls.keyfile: '{bad}': it is encrypted"
    if kind == 'encrypted, of old':
        openssl('ec', '-in', key, '-aes128', '-passout', 'pass:x', '-out', bad)
        return certificate, bad, f"tls.keyfile: '{bad}': it is encrypted"
    (folder / 'bad.pem').write_text(
        '-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n')
    return bad, key, f"tls.certfile: '{bad}': it cannot be used"


@pytest.mark.parametrize('kind', [
    'missing', 'folder', 'no PEM', 'swapped', 'no key', 'mismatch', 'encrypted',
    'encrypted, of old', 'damaged'])
def test_a_bad_pair_of_files_stops_the_start_with_one_line(tmp_path, pair, kind):
    certificate, key, said = make_bad(tmp_path, pair, kind)
    it = WebBridge({'tls.certfile': certificate, 'tls.keyfile': key})
    with pytest.raises(SettingsError) as caught:
        it.server.start(it.bridge)
    assert str(caught.value).startswith(f'parameter {said}')
    assert '\n' not in str(caught.value)


def test_a_key_that_may_not_be_read_is_named(pair, monkeypatch):
    # Inject a fault by a system that lets nobody read it; root would read everything.
    read = Path.read_bytes

    def refuse(path):
        if str(path) == pair[1]:
            raise PermissionError(errno.EACCES, 'Permission denied', pair[1])
        return read(path)

    monkeypatch.setattr(Path, 'read_bytes', refuse)
    with pytest.raises(SettingsError, match=r"tls\.keyfile: '.*': Permission denied$"):
        make_context(TlsSettings(*pair))


def test_no_certificate_means_no_tls():
    assert make_context(TlsSettings()) is None


def test_over_tls_one_too_many_is_cut_off_before_the_handshake(pair):
    with running_bridge(tls__certfile=pair[0], tls__keyfile=pair[1], limits__exempt=[],
                        limits__connects_per_second=1.0) as bridge:
        for _ in range(4):
            assert get(bridge, '/api/v1/streams', trust(pair[0]))[0] == 200
        with pytest.raises(OSError):
            get(bridge, '/api/v1/streams', trust(pair[0]))
        assert bridge.count('camws_refused_total', reason='connects_per_second') == 1
