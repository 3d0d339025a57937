from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
import json
import struct
import time
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from tf2_msgs.msg import TFMessage
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from camws_bridge.demo import check as module
from camws_bridge.demo.accuracy import Report
from camws_bridge.demo.check import check, CheckFailed, run, split_image_message, TruthRecorder
from camws_bridge.demo.demo_camera import truth_message
from camws_bridge.demo.scene import Truth
from camws_bridge.models import FloatArray
from camws_bridge.vision.geometry import from_xyz_rpy

from .test_accuracy import transform

POSE = from_xyz_rpy([0.1, 0.2, 0.8, 0.3, -0.2, 1.0])
TRUTH = {'aruco_board': POSE, 'aruco_marker_40': POSE}


def image_message(number: int, header: dict[str, Any] | None = None) -> bytes:
    now = time.time_ns()
    text = json.dumps(header if header is not None else {
        'seq': number, 'stamp': {'sec': now // 10**9, 'nanosec': now % 10**9},
        'embed': {'transforms_camera': {'transforms': [
            transform('aruco_board', 'board', POSE),
            transform('aruco_marker_40', 'marker', POSE)]}}}).encode()
    return struct.pack('<BBHI', 1, 1, 0, len(text)) + text + b'\xff\xd8 a JPEG'


class FakeBridge(WebSocketHandler):
    """Sends server_info and then as many images as it is asked to; then does nothing."""

    def initialize(self, images: int, close_code: int | None = None) -> None:
        self._images, self._close_code = images, close_code

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return 'camws.v1' if 'camws.v1' in subprotocols else None

    async def open(self, *args: str) -> None:
        assert self.get_query_argument('embed') == 'transforms_camera'
        await self.write_message('{"op":"server_info"}')
        for number in range(self._images):
            await self.write_message(image_message(number), binary=True)
        if self._close_code is not None:
            self.close(self._close_code, 'as told')


def with_bridge(client: Callable[[str], Awaitable[Any]], **options: Any) -> Any:
    async def both() -> Any:
        socket, port = bind_unused_port()
        server = HTTPServer(Application([(r'/ws/(\w+)', FakeBridge, options)]))
        server.add_sockets([socket])
        try:
            return await client(f'http://127.0.0.1:{port}')
        finally:
            server.stop()
            await server.close_all_connections()

    return asyncio.run(both())


def check_with(truth: dict[str, FloatArray] | None, **options: Any) -> Report:
    report: Report = with_bridge(lambda url: check(url, 5, None, 1.0, lambda _: truth), **options)
    return report


def test_frames_are_received_and_compared() -> None:
    report = check_with(TRUTH, images=10)
    assert (report.frames, report.without_truth) == (5, 0)
    assert report.problems() == []
    assert max(report.board.millimetres) < 0.001
    assert 0 <= min(report.latencies_ms) < 1000


def test_frames_without_truth_fail() -> None:
    with pytest.raises(CheckFailed, match='only 0 of 5 frames with poses and truth'):
        check_with(None, images=10)


def test_too_few_frames_fail() -> None:
    with pytest.raises(CheckFailed, match='only 2 of 5 frames'):
        check_with(TRUTH, images=3)


def test_a_closed_socket_fails_with_its_code() -> None:
    with pytest.raises(CheckFailed, match='4404 as told'):
        check_with(TRUTH, images=1, close_code=4404)


@pytest.mark.parametrize('message', [
    b'\x01', b'\xff\xd8\xff\xe0 a bare JPEG', struct.pack('<BBHI', 1, 1, 0, 500) + b'{}'])
def test_what_is_no_image_message_fails(message: bytes) -> None:
    with pytest.raises(CheckFailed):
        split_image_message(message)


def test_header_and_image_are_split() -> None:
    assert split_image_message(image_message(0, {'seq': 7})) == ({'seq': 7}, b'\xff\xd8 a JPEG')


def test_no_server_is_said_and_exit_1(
        ros_environment: None, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, '_WAIT_FOR_SERVER_S', 0.3)
    socket, port = bind_unused_port()
    socket.close()
    assert run(['--url', f'http://127.0.0.1:{port}', '--frames', '1']) == 1
    assert f'check failed: no server at http://127.0.0.1:{port}' in capsys.readouterr().out


@pytest.mark.parametrize('arguments', [
    [], ['--url', 'localhost'], ['--url', 'http://x', '--frames', '0']])
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(arguments)
    assert caught.value.code == 2


def test_the_truth_is_recorded_by_stamp(ros_environment: None) -> None:
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node('truth_publisher', context=context)
    publisher = node.create_publisher(TFMessage, '/some/truth', 10)
    recorder = TruthRecorder('/some/truth')
    stamp = node.get_clock().now().to_msg()
    key = (stamp.sec, stamp.nanosec)
    deadline = time.monotonic() + 10
    while recorder.find(key) is None and time.monotonic() < deadline:
        publisher.publish(truth_message(Truth(POSE, {40: POSE}), stamp, 'camera'))
        time.sleep(0.05)
    found = recorder.find(key)
    recorder.close()
    node.destroy_node()
    rclpy.shutdown(context=context)
    assert found is not None
    assert sorted(found) == sorted(TRUTH)
    np.testing.assert_allclose(found['aruco_board'], POSE, atol=1e-9)
