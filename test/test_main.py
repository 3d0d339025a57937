"""The bridge as a user starts it: real processes, real signals, every stream of the contract."""
from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
import json
import os
from pathlib import Path
import re
import signal
import socket
import time
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is built by scripts/setup')

from processes import BridgeProcess, DEMO, wait_until
from ros_side import Graph, RELIABLE, Side
from tf2_msgs.msg import TFMessage
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from camws_bridge.demo.accuracy import BOARD, MARKERS, pose_of, Report
from camws_bridge.demo.check import check, split_image_message, TruthRecorder
from camws_bridge.tokens import digest_of
from camws_bridge.vision.geometry import difference, from_quaternion, invert

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHARED_MEMORY = Path('/dev/shm')
V1 = ['camws.v1']
IMAGES = {
    'color': b'\xff\xd8', 'rectified': b'\xff\xd8', 'aruco_debug': b'\xff\xd8',
    'board_perspective': b'\xff\xd8', 'board_mask': b'\x89PNG', 'marker_mask': b'\x89PNG',
    'marker_mask?id=42': b'\x89PNG', 'depth': b'\xff\xd8', 'depth_raw': b'\x89PNG'}
OBJECTS = ('markers', 'transforms_camera', 'transforms_board', 'transforms_robot')


# -- what a process holds ---------------------------------------------------------------------


def mapped(pid: int) -> set[str]:
    """Return the names of the files in /dev/shm that a process has mapped."""
    try:
        text = Path(f'/proc/{pid}/maps').read_text()
    except OSError:         # gone, or somebody else's
        return set()
    return set(re.findall(r'/dev/shm/(\S+)', text))


def mapped_by_others(pids: set[int]) -> set[str]:
    running = {int(found.name) for found in Path('/proc').glob('[0-9]*')} - pids
    return set().union(*map(mapped, running))


def children(pid: int) -> list[str]:
    tasks = Path(f'/proc/{pid}/task').glob('*/children')
    return [child for task in tasks for child in task.read_text().split()]


def catches(pid: int, number: int) -> bool:
    """Tell whether a process has a handler of its own for a signal."""
    found = re.search(r'^SigCgt:\s*(\w+)', Path(f'/proc/{pid}/status').read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> number - 1 & 1)


# -- stopping ---------------------------------------------------------------------------------


class Stalled:
    """A WebSocket client that asks for images and never reads one."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(('127.0.0.1', port))
        self.socket.sendall(
            b'GET /ws/color?quality=100 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n'
            b'Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
            b'Sec-WebSocket-Version: 13\r\n\r\n')

    def __enter__(self) -> Stalled:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def wait_until_full(bridge: BridgeProcess, healthy: Any) -> None:
    """Wait until the stalled client takes nothing while the healthy one goes on."""
    def takes_nothing() -> bool:
        before = sent_images(bridge)
        for _ in range(10):
            healthy.recv(timeout=10)
        return before == sent_images(bridge) > 0

    wait_until(takes_nothing, 20.0, 'the stalled client is full')


def sent_images(bridge: BridgeProcess) -> float:
    text = bridge.get('/metrics')[2].decode()
    return sum(map(float, re.findall(
        r'^camws_messages_sent_total\{stream="color"\} (\S+)$', text, re.MULTILINE)))


@pytest.fixture(scope='module')
def stopped(demo_bridge: Any) -> Iterator[dict[int, dict[str, Any]]]:
    """Bridges that were told to stop, each with a healthy and a stalled client connected."""
    before = set(os.listdir(SHARED_MEMORY))
    bridges = {number: BridgeProcess(*DEMO) for number in SIGNALS}
    found = {}
    with ExitStack() as stack:
        for bridge in bridges.values():
            stack.callback(bridge.stop)
        for number, bridge in bridges.items():
            bridge.wait_until_listening()
            found[number] = stop_with_clients(bridge, number, before, {
                other.pid for other in bridges.values()})
    yield found


def stop_with_clients(bridge: BridgeProcess, number: int, before: set[str],
                      pids: set[int]) -> dict[str, Any]:
    url = bridge.url.replace('http', 'ws', 1)
    with Stalled(bridge.port), connect(f'{url}/ws/markers') as healthy:
        healthy.recv(timeout=20)
        wait_until_full(bridge, healthy)
        made = mapped(bridge.pid) - before - mapped_by_others({bridge.pid})
        had_children = children(bridge.pid)
        started = time.monotonic()
        bridge.signal(number)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                healthy.recv(timeout=10)
        code = bridge.wait()
        took = time.monotonic() - started
    left = {name for name in made if (SHARED_MEMORY / name).exists()}
    assert closed.value.rcvd is not None
    return {'code': code, 'took': took, 'output': bridge.output, 'made': made,
            'left': left - mapped_by_others(pids), 'children': had_children,
            'close_code': closed.value.rcvd.code, 'pid': bridge.pid}


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_ends_it_cleanly_whatever_its_clients_do(
        stopped: dict[int, dict[str, Any]], number: int) -> None:
    found = stopped[number]
    assert found['code'] == 0
    assert found['took'] < 2.0
    assert found['close_code'] == 1001
    assert 'Traceback' not in found['output']
    assert not re.search(r'\[(ERROR|FATAL)\]', found['output'])


@pytest.mark.parametrize('number', SIGNALS)
def test_nothing_is_left_of_it(stopped: dict[int, dict[str, Any]], number: int) -> None:
    found = stopped[number]
    assert found['made'], 'it has no shared memory of its own: this test sees nothing'
    assert found['left'] == set()
    assert found['children'] == []
    assert not Path(f'/proc/{found["pid"]}').exists()


def when_handlers_stand(bridge: BridgeProcess) -> bool:
    return catches(bridge.pid, signal.SIGTERM)


def when_dds_runs(bridge: BridgeProcess) -> bool:
    return bool(mapped(bridge.pid))


def test_a_signal_while_it_starts_ends_it_cleanly() -> None:
    moments = ((signal.SIGINT, when_handlers_stand), (signal.SIGTERM, when_dds_runs))
    with ExitStack() as stack:
        bridges = [(BridgeProcess(), *moment) for moment in moments]
        for bridge, *_ in bridges:
            stack.callback(bridge.stop)
        for bridge, number, moment in bridges:
            wait_until(lambda bridge=bridge, moment=moment: moment(bridge), 20.0, 'it starts')
            bridge.signal(number)
        for bridge, *_ in bridges:
            assert bridge.wait() == 0
            assert 'Traceback' not in bridge.output
            assert not re.search(r'\[(ERROR|FATAL)\]', bridge.output)


def test_an_occupied_port_is_one_line_and_exit_1() -> None:
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = other.getsockname()[1]
        bridge = BridgeProcess(port=port)
        assert bridge.wait() == 1
    line, = bridge.own_lines
    assert re.match(r'\[FATAL\] .*port ' + str(port) + ' on 127.0.0.1 is in use', line)


def test_the_log_says_where_it_listens_and_how_to_open_it(demo_bridge: Any) -> None:
    lines = demo_bridge.bridge.lines
    assert any(re.search(r'listening on http://127\.0\.0\.1:\d+$', line) for line in lines)
    assert any('host:=0.0.0.0' in line for line in lines)
    assert demo_bridge.bridge.get('/healthz')[0] == 200


# -- every stream -----------------------------------------------------------------------------


def ws(demo_bridge: Any, path: str, **options: Any) -> Any:
    url = demo_bridge.url.replace('http', 'ws', 1)
    return connect(f'{url}/ws/{path}', max_size=None, **options)


def test_every_stream_of_the_contract_is_live(demo_bridge: Any) -> None:
    listed = demo_bridge.bridge.get_json('/api/v1/streams')['streams']
    assert {entry['id'] for entry in listed} == {
        *(stream.partition('?')[0] for stream in IMAGES), *OBJECTS}
    with ExitStack() as stack:
        clients = {stream: stack.enter_context(ws(demo_bridge, stream))
                   for stream in (*IMAGES, *OBJECTS)}
        first = {stream: client.recv(timeout=20) for stream, client in clients.items()}
    for stream, start in IMAGES.items():
        assert isinstance(first[stream], bytes) and first[stream].startswith(start), stream
    for stream in OBJECTS:
        found = json.loads(first[stream])
        assert (found['stream'], type(found['seq'])) == (stream, int)
        assert 'NaN' not in first[stream]
    check_pictures({stream: cv2.imdecode(np.frombuffer(first[stream], np.uint8),
                                         cv2.IMREAD_UNCHANGED) for stream in IMAGES})


def check_pictures(pictures: dict[str, np.ndarray]) -> None:
    shapes = {stream: picture.shape for stream, picture in pictures.items()}
    for stream in ('color', 'rectified', 'aruco_debug', 'depth'):
        assert shapes[stream] == (480, 640, 3)
        assert np.std(pictures[stream]) > 10, f'{stream} shows nothing'
    assert shapes['board_perspective'][1] == 640
    for stream in ('board_mask', 'marker_mask', 'marker_mask?id=42'):
        assert (shapes[stream], pictures[stream].dtype) == ((480, 640), np.uint8)
        assert 0 < np.mean(pictures[stream] > 127) < 0.9
    depth = pictures['depth_raw']
    assert (depth.shape, depth.dtype) == ((480, 640), np.uint16)
    assert 300 < np.median(depth[depth > 0]) < 3000


def test_the_camera_reports_no_trouble(demo_bridge: Any) -> None:
    text = demo_bridge.bridge.get('/metrics')[2].decode()
    assert not re.search(r'^camws_(processing_errors|images_dropped)_total\{', text, re.MULTILINE)


@pytest.fixture(scope='module')
def tf(demo_bridge: Any) -> Iterator[dict[tuple[int, int], TFMessage]]:
    """Return a call that gives what arrived on /tf, by stamp."""
    side = Side()
    graph = Graph(side, side)
    arrived: list[TFMessage] = []
    graph.peer.create_subscription(TFMessage, '/tf', arrived.append, RELIABLE)
    graph.spin_until(lambda: arrived, '/tf arrives', 20.0)

    def by_stamp(until: tuple[int, int]) -> dict[tuple[int, int], TFMessage]:
        def found() -> dict[tuple[int, int], TFMessage]:
            stamps = (message.transforms[0].header.stamp for message in arrived)
            return {(stamp.sec, stamp.nanosec): message
                    for stamp, message in zip(stamps, arrived)}
        graph.spin_until(lambda: max(found()) >= until, 'tf of the last image')
        return found()

    yield by_stamp
    graph.close()
    side.close()


def receive_with_poses(demo_bridge: Any, count: int) -> list[dict[str, Any]]:
    embed = 'camera_info,markers,transforms_board,transforms_camera'
    headers = []
    with ws(demo_bridge, f'color?embed={embed}', subprotocols=V1) as client:
        while len(headers) < count:
            message = client.recv(timeout=20)
            if isinstance(message, bytes):
                header, image = split_image_message(message)
                assert image.startswith(b'\xff\xd8')
                headers.append(header)
    return headers


def test_a_picture_its_poses_and_tf_are_of_one_moment(demo_bridge: Any, tf: Any) -> None:
    headers = receive_with_poses(demo_bridge, 15)
    assert [header['seq'] for header in headers] == sorted({header['seq'] for header in headers})
    for header in headers:
        for name in ('markers', 'transforms_board', 'transforms_camera'):
            found = header['embed'][name]
            assert (found['seq'], found['header']['stamp']) == (header['seq'], header['stamp'])
        assert header['embed']['camera_info']['width'] == header['width'] == 640
    sent = tf(stamp_of(headers[-1]))
    # The executor of this test may miss one; the bridge publishes one for each image.
    both = [header for header in headers if stamp_of(header) in sent]
    assert len(both) >= 10
    for header in both:
        check_tf(header, sent[stamp_of(header)])


def stamp_of(header: dict[str, Any]) -> tuple[int, int]:
    return header['stamp']['sec'], header['stamp']['nanosec']


def check_tf(header: dict[str, Any], message: TFMessage) -> None:
    """Compare the poses on the socket, in both frames, with those on /tf."""
    on_tf = {found.child_frame_id: found for found in message.transforms}
    in_camera = {found['child_frame_id']: pose_of(found['transform'])
                 for found in header['embed']['transforms_camera']['transforms']}
    assert set(on_tf) == set(in_camera) - {'base_link'}
    for child, found in on_tf.items():
        assert found.header.frame_id == header['frame_id']
        place, turn = found.transform.translation, found.transform.rotation
        pose = from_quaternion([place.x, place.y, place.z], [turn.x, turn.y, turn.z, turn.w])
        assert max(difference(pose, in_camera[child])) < 1e-6
    of_board = header['embed']['transforms_board']
    if of_board['board']['visible']:
        camera, = (found for found in of_board['transforms'] if found['kind'] == 'camera')
        assert max(difference(invert(pose_of(camera['transform'])),
                              in_camera['aruco_board'])) < 1e-6


def test_poses_are_those_of_the_truth(demo_bridge: Any) -> None:
    recorder = TruthRecorder('/demo_camera/truth')
    try:
        wait_until(lambda: recorder._poses, 20.0, 'the truth arrives')
        report = asyncio.run(check(demo_bridge.url, 60, None, 60.0, recorder.find))
    finally:
        recorder.close()
    assert report.problems() == [], report.summary()
    assert report.without_truth < 20
    assert len(report.board.millimetres) > 40
    assert len(report.markers.millimetres) > 60


def test_the_comparison_can_fail() -> None:
    report = Report()
    report.board.add(np.eye(4), from_quaternion([0, 0, 0.01], [0, 0, 0, 1]), False)
    report.markers.add(np.eye(4), np.eye(4), False)
    problem, *_ = report.problems()
    assert 'median error 10.00 mm' in problem
    assert BOARD.median_mm < 10 and MARKERS.median_mm < 10


# -- access -----------------------------------------------------------------------------------


def test_sighup_reads_the_tokens_again(tmp_path: Path) -> None:
    path = tmp_path / 'tokens'
    path.write_text(f'alice:{digest_of("alice").hex()}\n')
    bridge = BridgeProcess('-p', f'auth.tokens_file:={path}').wait_until_listening()
    try:
        def status(token: str) -> int:
            return bridge.get(f'/api/v1/streams?token={token}')[0]

        assert (status('alice'), status('bob')) == (200, 401)
        path.write_text(f'bob:{digest_of("bob").hex()}\n')
        bridge.signal(signal.SIGHUP)
        wait_until(lambda: status('bob') == 200, 10.0, 'the new token is known')
        assert status('alice') == 401
        # Inject a fault by a file that is none.
        path.write_text('broken\n')
        bridge.signal(signal.SIGHUP)
        wait_until(lambda: 'stay as they were' in bridge.output, 10.0, 'that is said')
        assert status('bob') == 200
    finally:
        assert bridge.stop() == 0
    assert len([line for line in bridge.own_lines if re.match(r'\[ERROR\]', line)]) == 1


def test_what_is_wrong_with_access_is_one_line_and_exit_1(tmp_path: Path) -> None:
    tokens = tmp_path / 'tokens'
    tokens.write_text('# who\nalice:1234\n')
    wrong = [('auth.tokens_file', tokens, 'line 2: '), ('tls.certfile', tmp_path, 'a directory')]
    bridges = [BridgeProcess('-p', f'{name}:={path}', '-p', f'tls.keyfile:={path}')
               if name == 'tls.certfile' else BridgeProcess('-p', f'{name}:={path}')
               for name, path, _ in wrong]
    for bridge, (name, path, reason) in zip(bridges, wrong):
        assert bridge.wait() == 1
        line, = bridge.own_lines
        assert re.match(r'\[FATAL\]', line) and name in line and str(path) in line
        assert reason in line.lower()


def test_what_is_open_to_the_network_is_said_in_one_warning() -> None:
    bridge = BridgeProcess('-p', 'host:=0.0.0.0').wait_until_listening()
    assert bridge.stop() == 0
    line, = (line for line in bridge.own_lines if re.match(r'\[WARN\]', line))
    assert 'everybody who reaches this port' in line and 'nothing is encrypted' in line
