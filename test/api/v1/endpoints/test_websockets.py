"""``/ws/{stream_id}`` over real sockets, by the wire contract."""
from contextlib import contextmanager, ExitStack
import json
import logging
import socket
import struct
import threading
import time

from processes import http_get, wait_until
import pytest
from web_bridge import DEMO_BOARD, running_bridge, WebBridge
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from camws_bridge.api.v1.endpoints.websockets import cut, StreamSocket
from camws_bridge.websockets.variants import MAX_VARIANTS

V1 = ['camws.v1']
ROBOT = [0.1, 0.0, 0.0, 0.0, 0.0, 1.0]


@pytest.fixture(scope='module')
def bridge():
    with running_bridge(board__file=DEMO_BOARD, robot__pose_in_board=ROBOT) as it:
        yield it


@contextmanager
def publishing(bridge, period=0.01, **changes):
    """Let images arrive all the time."""
    stop = threading.Event()

    def run():
        while not stop.wait(period):
            bridge.publish(**changes)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stop.set()
    thread.join()


def ws(bridge, path, **options):
    return connect(f'{bridge.ws}/ws/{path}', max_size=None, **options)


def closing(socket):
    """Read until the server closes; return code and reason."""
    with pytest.raises(ConnectionClosed) as closed:
        for _ in range(1000):
            socket.recv(timeout=10)
    return closed.value.rcvd.code, closed.value.rcvd.reason


def header_of(message):
    version, kind, reserved, length = struct.unpack('<BBHI', message[:8])
    assert (version, kind, reserved) == (1, 1, 0) and (8 + length) % 8 == 0
    return json.loads(message[8:8 + length]), message[8 + length:]


def next_image(socket):
    while True:
        message = socket.recv(timeout=10)
        if isinstance(message, bytes):
            return header_of(message)


def ask(socket, **request):
    """Send a request and return its answer."""
    answers = {'configure': 'configured'}
    socket.send(json.dumps(request))
    while True:
        message = socket.recv(timeout=10)
        if isinstance(message, str):
            answer = json.loads(message)
            if answer['op'] == answers.get(request['op'], request['op']):
                return answer


@pytest.mark.parametrize('stream,start', [
    ('color', b'\xff\xd8'), ('rectified', b'\xff\xd8'), ('aruco_debug', b'\xff\xd8'),
    ('board_perspective', b'\xff\xd8'), ('board_mask', b'\x89PNG'), ('marker_mask', b'\x89PNG'),
    ('marker_mask?id=42', b'\x89PNG')])
def test_a_plain_image_stream_is_image_files_only(bridge, stream, start):
    with ws(bridge, stream) as client, publishing(bridge):
        for _ in range(3):
            message = client.recv(timeout=10)
            assert isinstance(message, bytes) and message.startswith(start)


@pytest.mark.parametrize('stream', [
    'markers', 'transforms_camera', 'transforms_board', 'transforms_robot'])
def test_a_plain_json_stream_is_text(bridge, stream):
    with ws(bridge, stream) as client, publishing(bridge):
        messages = [json.loads(client.recv(timeout=10)) for _ in range(3)]
    assert all(message['stream'] == stream for message in messages)
    seqs = [message['seq'] for message in messages]
    assert seqs == sorted(set(seqs))


def test_who_connects_gets_the_newest_image_at_once(bridge):
    frame = bridge.publish()
    with ws(bridge, 'color', subprotocols=V1) as client:
        assert next_image(client)[0]['seq'] == frame.seq


def test_camws_v1_begins_with_server_info(bridge):
    with ws(bridge, 'color', subprotocols=V1) as client:
        assert client.subprotocol == 'camws.v1'
        assert json.loads(client.recv(timeout=10)) == {
            'op': 'server_info', 'name': 'camws_bridge', 'version': '1.2.3',
            'session_id': 'session', 'stream': 'color', 'content_type': 'image/jpeg',
            'capabilities': ['ack', 'configure', 'time']}


def test_a_camws_v1_image_has_its_header_and_what_was_asked_to_be_embedded(bridge):
    path = 'color?embed=camera_info,markers,transforms_board,transforms_robot'
    with ws(bridge, path, subprotocols=V1) as client:
        frame = bridge.publish()
        header, image = next_image(client)
        while header['seq'] != frame.seq:
            header, image = next_image(client)
    assert image.startswith(b'\xff\xd8')
    embed = header.pop('embed')
    assert header == {
        'stream': 'color', 'seq': frame.seq, 'stamp': {'sec': frame.stamp.sec, 'nanosec': 250},
        'frame_id': 'camera_optical', 'width': 320, 'height': 240, 'content_type': 'image/jpeg'}
    assert set(embed) == {'camera_info', 'markers', 'transforms_board', 'transforms_robot'}
    assert embed['transforms_board']['seq'] == embed['markers']['seq'] == frame.seq
    assert {entry['kind'] for entry in embed['transforms_board']['transforms']} == {
        'camera', 'robot', 'marker'}
    assert embed['camera_info']['k'][0] == 300.0


def test_width_and_quality_change_the_picture_and_never_enlarge_it(bridge):
    with publishing(bridge):
        with ws(bridge, 'color?width=100&quality=20', subprotocols=V1) as client:
            small, small_image = next_image(client)
        with ws(bridge, 'color?width=5000', subprotocols=V1) as client:
            large, large_image = next_image(client)
    assert (small['width'], small['height']) == (100, 75)
    assert (large['width'], large['height']) == (320, 240)
    assert len(small_image) < len(large_image)


def test_configure_takes_effect_and_says_what_is_in_force(bridge):
    with ws(bridge, 'color', subprotocols=V1) as client, publishing(bridge):
        next_image(client)
        answer = ask(client, op='configure', fps=50, width=64, quality=30, window=5,
                     embed=['markers'])
        assert answer == {'op': 'configured', 'fps': 50, 'width': 64, 'quality': 30, 'window': 5,
                          'embed': ['markers'], 'adaptive': False}
        for _ in range(20):
            header, _ = next_image(client)
            if header['width'] == 64:
                break
        assert header['width'] == 64 and 'markers' in header['embed']
        assert ask(client, op='configure', width=None)['width'] is None


def test_a_client_that_acks_gets_at_most_its_window_then_the_newest(bridge):
    with ws(bridge, 'color', subprotocols=V1) as client:
        first = bridge.publish()
        while next_image(client)[0]['seq'] != first.seq:
            pass
        client.send(json.dumps({'op': 'ack', 'seq': first.seq}))
        # What follows is answered after the ack was taken.
        ask(client, op='time', t0=0)
        frames = [bridge.publish()]
        assert next_image(client)[0]['seq'] == frames[0].seq
        frames.append(bridge.publish())
        assert next_image(client)[0]['seq'] == frames[1].seq
        # The window is full: nothing more is made for this client.
        made = bridge.count('camws_messages_produced_total', stream='color')
        with ws(bridge, 'markers') as other:
            for _ in range(3):
                frames.append(bridge.publish())
                while json.loads(other.recv(timeout=10))['seq'] != frames[-1].seq:
                    pass
        assert bridge.count('camws_messages_produced_total', stream='color') == made
        client.send(json.dumps({'op': 'ack', 'seq': frames[0].seq}))
        assert next_image(client)[0]['seq'] == frames[-1].seq
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.1)


def test_time_tells_the_clock_of_the_stamps(bridge):
    with ws(bridge, 'color', subprotocols=V1) as client:
        before = time.time()
        answer = ask(client, op='time', t0=123.5)
        assert answer['t0'] == 123.5
        assert before <= answer['t1'] <= answer['t2'] <= time.time()


@pytest.mark.parametrize('path,code,words', [
    ('nothing', 4404, 'color rectified'), ('color/x', 4404, 'no such stream'),
    ('color?fps=0', 4400, 'fps'), ('color?quality=101', 4400, 'quality'),
    ('color?width=wide', 4400, 'width'), ('color?embed=nothing', 4400, 'embed'),
    ('marker_mask?id=seven', 4400, 'id')])
def test_what_cannot_be_served_is_closed_with_code_and_reason(bridge, path, code, words):
    with ws(bridge, path) as client:
        assert closing(client)[0] == code
        assert words in client.close_reason
        assert len(client.close_reason.encode()) <= 123


@pytest.mark.parametrize('message', [
    'x', '7', '[]', '{}', '{"op":"jump"}', '{"op":["ack"]}', '{"op":"ack"}',
    '{"op":"ack","seq":"1"}', '{"op":"time","t0":1e999}', '{"op":"time","t0":"x"}', '[' * 60000,
    '{"op":"configure","fps":1' + '0' * 400 + '}', '{"op":"configure","fps":-1}',
    '{"op":"configure","embed":"x"}',
    b'\xff\xfe'])
def test_a_bad_message_is_closed_with_4400_and_costs_nobody_else(bridge, message):
    with ws(bridge, 'color', subprotocols=V1) as other, ws(
            bridge, 'color', subprotocols=V1) as client:
        client.send(message)
        assert closing(client)[0] == 4400
        frame = bridge.publish()
        while next_image(other)[0]['seq'] != frame.seq:
            pass


def test_what_a_plain_client_says_means_nothing(bridge):
    with ws(bridge, 'color') as client:
        client.send('hello')
        client.send(b'\x00')
        bridge.publish()
        assert client.recv(timeout=10).startswith(b'\xff\xd8')


def test_a_message_that_is_too_big_is_closed_with_1009(bridge):
    with ws(bridge, 'color', subprotocols=V1) as client:
        client.send('x' * 100_000)
        assert closing(client)[0] == 1009


@pytest.mark.parametrize('path', ['color', 'markers'])
@pytest.mark.parametrize('opcode', [0x81, 0x82, 0x89])     # text, binary, ping
def test_who_sends_too_fast_is_closed_with_1008_and_costs_nobody_else(bridge, path, opcode):
    # Inject a fault by a client that floods the bridge with messages or pings.
    bridge.settings.change({'limits.messages_per_second': 10.0})
    try:
        with ws(bridge, 'color') as other, open_socket(bridge, path) as client:
            client.settimeout(10)
            client.sendall((bytes([opcode, 0x81]) + bytes(5)) * 100)
            received = b''
            while chunk := client.recv(1 << 16):
                received += chunk
            assert struct.pack('!H', 1008) + b'too many messages; allowed: 10 a second' in received
            frame = bridge.publish()
            assert other.recv(timeout=10) and frame
    finally:
        bridge.settings.change({'limits.messages_per_second': 200.0})
    assert bridge.count('camws_refused_total', reason='message_rate') >= 1


def test_http_on_a_socket_path_is_told_so(bridge):
    status, _, body = http_get(f'{bridge.http}/ws/color')
    assert status == 400 and json.loads(body)['error']['code'] == 'websocket_only'


def test_transforms_robot_is_there_only_with_a_robot():
    with running_bridge(board__file=DEMO_BOARD) as bridge, ws(
            bridge, 'transforms_robot') as client:
        assert closing(client)[0] == 4404


def test_one_client_too_many_is_closed_with_1013():
    with running_bridge(max_clients=2) as bridge:
        with ws(bridge, 'color'), ws(bridge, 'markers'):
            with ws(bridge, 'color') as third:
                assert closing(third)[0] == 1013
        wait_until(lambda: bridge.connections.total == 0, 10, 'clients are gone')
        with ws(bridge, 'color') as client:
            bridge.publish()
            assert client.recv(timeout=10)


def test_tokens_are_asked_for_before_the_upgrade():
    with running_bridge(auth__token='s3cret') as bridge:
        for path in ('color', 'color?token=wrong'):
            with pytest.raises(InvalidStatus) as refused, ws(bridge, path):
                pass
            assert refused.value.response.status_code == 401
            assert json.loads(refused.value.response.body)['error']['code'] == 'unauthorized'
        with ws(bridge, 'color?token=s3cret'):
            pass
        with ws(bridge, 'color', additional_headers={'Authorization': 'Bearer s3cret'}):
            pass
        with ws(bridge, 'color', subprotocols=['camws.v1', 'camws.token.s3cret']) as client:
            assert client.subprotocol == 'camws.v1'


def test_pages_from_elsewhere_are_refused_unless_allowed():
    with running_bridge(allowed_origins=['https://good.example']) as bridge:
        with pytest.raises(InvalidStatus) as refused, ws(
                bridge, 'color', origin='https://evil.example'):
            pass
        assert refused.value.response.status_code == 403
        for origin in ('https://good.example', bridge.http, None):
            with ws(bridge, 'color', origin=origin):
                pass


def test_status_tells_v1_clients_what_is_wrong_and_when_it_is_well_again():
    with running_bridge(board__file=DEMO_BOARD) as bridge, ws(
            bridge, 'transforms_board', subprotocols=V1) as client:
        with publishing(bridge, camera=None, camera_problem='no camera_info has arrived'):
            status = next_status(client, 'no_calibration')
            assert status['level'] == 'warning' and 'camera_info' in status['message']
        with publishing(bridge, pixels=blank()):
            next_status(client, 'board_lost')
        with publishing(bridge):
            assert next_status(client, 'ok')['level'] == 'info'


def test_a_client_that_stalls_is_removed_after_the_timeout_and_others_get_everything():
    # Inject a fault by a client that never reads.
    with running_bridge(client_timeout=1.0) as bridge:
        stalled = connect_and_never_read(bridge)
        with ws(bridge, 'color') as healthy, publishing(bridge, pixels=noise()):
            wait_until(lambda: bridge.connections.total == 2, 10, 'both are connected')
            deadline = time.monotonic() + 15
            while bridge.connections.total == 2 and time.monotonic() < deadline:
                healthy.recv(timeout=10)
            assert bridge.connections.total == 1
            assert healthy.recv(timeout=10)
        stalled.close()
        assert bridge.count('camws_clients_removed_total', reason='timeout') == 1
        assert bridge.count('camws_messages_replaced_total', stream='color', hop='client') > 0


def test_a_client_that_takes_bytes_is_alive_however_long_a_message_takes():
    # A client that answers no ping and needs many timeouts for one message.
    with running_bridge(client_timeout=1.0, jpeg__quality=100) as bridge:
        slow = open_socket(bridge, 'color', receive_buffer=4096)
        wait_until(lambda: bridge.connections.total == 1, 10, 'connected')
        with publishing(bridge, period=0.1, pixels=noise(4)):
            for _ in range(25):
                assert slow.recv(8192)
                assert bridge.connections.total == 1
                time.sleep(0.1)
            assert bridge.count('camws_messages_sent_total', stream='color') <= 2
            wait_until(lambda: bridge.connections.total == 0, 10, 'it takes no more: removed')
        slow.close()


def test_an_adaptive_client_on_a_slow_link_gets_less_and_others_get_everything():
    with running_bridge(jpeg__quality=95) as bridge, ws(bridge, 'color') as other:
        slow = open_socket(bridge, 'color?adaptive=1',
                           'Sec-WebSocket-Protocol: camws.v1\r\n', 32768)
        wait_until(lambda: bridge.connections.count('color') == 2, 10, 'connected')
        with publishing(bridge, period=0.03, pixels=noise()):
            received = b''
            while b'"code":"adapted"' not in received:
                received += slow.recv(20_000)
                time.sleep(0.05)
            wait_until(lambda: bridge.count('camws_adaptations_total', direction='down') >= 1, 5,
                       'it is counted')
            adapted = [variant for variant in bridge.connections.variants if variant.quality]
            assert adapted and adapted[0].quality in (60, 40)
            other.recv(timeout=10)
        slow.close()


def test_poses_leave_before_the_picture_they_belong_to(bridge):
    sent = []
    send_message = StreamSocket.send_message

    def note(self, message):
        sent.append((message.seq, message.content_type))
        return send_message(self, message)

    StreamSocket.send_message = note
    try:
        with ws(bridge, 'color'), ws(bridge, 'transforms_board') as poses:
            wait_until(lambda: bridge.connections.total == 2, 10, 'connected')
            # Hold the loop until both messages of the image are made.
            go_on = threading.Event()
            bridge.server.loop.call_soon_threadsafe(lambda: go_on.wait(10))
            frame = bridge.publish()
            outbox = bridge.streaming._outbox
            wait_until(lambda: [message.seq for message in list(outbox._values.values())]
                       == [frame.seq] * 2, 10, 'both are made')
            go_on.set()
            while json.loads(poses.recv(timeout=10))['seq'] != frame.seq:
                pass
            wait_until(lambda: (frame.seq, 'image/jpeg') in sent, 10, 'both are sent')
        assert sent.index((frame.seq, 'application/json')) < sent.index((frame.seq, 'image/jpeg'))
    finally:
        StreamSocket.send_message = send_message


def test_a_client_that_reads_but_never_answers_pings_is_closed_with_1008():
    # Inject a fault by a client that reads everything and never sends a pong.
    with running_bridge(client_timeout=1.0) as bridge, publishing(bridge):
        silent = open_socket(bridge, 'markers')
        silent.settimeout(10)
        received = b''
        while chunk := silent.recv(1 << 16):
            received = received[-1000:] + chunk
        silent.close()
        assert struct.pack('!H', 1008) + b'no answer to pings' in received
        assert bridge.connections.total == 0


def test_who_asks_and_never_reads_fills_no_memory():
    # Inject a fault by a client that asks as long as the bridge reads, and never reads itself.
    request = b'{"op":"time","t0":1}'
    requests = (b'\x81' + bytes([0x80 | len(request)]) + bytes(4) + request) * 1000
    with running_bridge(client_timeout=60.0,
                        limits__messages_per_second=100000.0) as bridge:
        client = open_socket(bridge, 'color', 'Sec-WebSocket-Protocol: camws.v1\r\n', 4096)
        client.settimeout(1.0)
        with pytest.raises(TimeoutError):
            for _ in range(2000):
                client.sendall(requests)
        client.close()


def test_a_state_is_told_once_though_its_words_change():
    with running_bridge(stale_after=0.1) as bridge, ws(
            bridge, 'color', subprotocols=V1) as client:
        bridge.publish()
        next_status(client, 'stale')
        with pytest.raises(TimeoutError):
            client.recv(timeout=2.5)


def test_another_setting_too_many_is_refused_with_1013_and_the_rest_goes_on():
    with running_bridge() as bridge, ExitStack() as stack:
        for width in range(1, MAX_VARIANTS + 1):
            stack.enter_context(ws(bridge, f'color?width={width}'))
        with ws(bridge, 'color?width=300') as one_too_many:
            assert closing(one_too_many)[0] == 1013
        assert http_get(f'{bridge.http}/api/v1/images/color.jpg?width=301')[0] == 503
        with ws(bridge, 'color?width=7') as shared:
            bridge.publish()
            assert shared.recv(timeout=10)


def test_stopping_says_1001_to_every_client_also_beside_a_stalled_one():
    it = WebBridge({})
    it.server.start(it.bridge)
    it.streaming.start()
    stalled = connect_and_never_read(it)
    with ws(it, 'color') as client:
        for _ in range(200):
            it.publish(pixels=noise())
            client.recv(timeout=10)
        it.streaming.stop()
        started = time.monotonic()
        it.server.stop()
        assert time.monotonic() - started < 2
        assert closing(client)[0] == 1001
    stalled.close()


def test_a_reason_is_cut_between_words_to_what_a_close_frame_holds():
    assert cut('short') == 'short'
    assert cut('ä' * 100) == ' …' or len(cut('ä' * 100).encode()) <= 123
    long = cut('word ' * 40)
    assert len(long.encode()) <= 123 and long.endswith('word …')


def connect_and_never_read(bridge):
    stalled = open_socket(bridge, 'color')
    wait_until(lambda: bridge.connections.total > 0, 10, 'connected')
    return stalled


def open_socket(bridge, stream, headers='', receive_buffer=0):
    """Connect to a stream by hand, as no client library would."""
    it = socket.socket()
    if receive_buffer:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    it.connect(('127.0.0.1', bridge.server.port))
    it.sendall(f'GET /ws/{stream} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n'
               f'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{headers}'
               'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n'.encode())
    return it


def next_status(client, code):
    while True:
        message = client.recv(timeout=10)
        if isinstance(message, str) and json.loads(message).get('op') == 'status':
            status = json.loads(message)
            if status['code'] == code:
                return status


def blank():
    import numpy as np
    return np.full((240, 320, 3), 128, np.uint8)


def noise(size=1):
    """Return a picture of 320x240 times ``size`` that hardly compresses."""
    import numpy as np
    return np.random.default_rng(1).integers(0, 255, (240 * size, 320 * size, 3), np.uint8)


def test_a_client_that_resets_the_connection_as_it_opens_is_no_error(bridge, caplog):
    go_on = threading.Event()
    # Hold the loop: the reset is there before the first picture is sent.
    bridge.server.loop.call_soon_threadsafe(lambda: go_on.wait(10))
    bridge.publish()
    removed = bridge.count('camws_clients_removed_total', reason='send_failed')
    with socket.create_connection(('127.0.0.1', bridge.server.port), timeout=10) as client:
        client.sendall(b'GET /ws/color HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n'
                       b'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'
                       b'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n')
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    go_on.set()
    wait_until(lambda: bridge.count('camws_clients_removed_total', reason='send_failed')
               == removed + 1, 10, 'it is removed')
    assert bridge.connections.total == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
