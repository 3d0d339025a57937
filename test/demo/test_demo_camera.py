from __future__ import annotations

from collections.abc import Callable, Iterator
import os
from pathlib import Path
import signal
import time
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from camws_bridge.demo.scene import demo_camera_model, Scene
from camws_bridge.models import FloatArray
from camws_bridge.vision.boards import Board
from camws_bridge.vision.detection import MarkerDetector
from camws_bridge.vision.geometry import difference, from_quaternion
from camws_bridge.vision.pose import solve_board

from .conftest import Start

TOPICS = {'image_raw': Image, 'camera_info': CameraInfo, 'depth/image_raw': Image,
          'demo_camera/truth': TFMessage}


class Listener:
    """Collects what arrives, by topic, in the order of arrival."""

    def __init__(self, context: Context) -> None:
        self.node: Node = rclpy.create_node('listener', context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.arrived: list[tuple[str, Any]] = []

    def listen(self, topic: str, kind: type) -> None:
        self.node.create_subscription(
            kind, topic, lambda message: self.arrived.append((topic, message)),
            qos_profile_sensor_data)

    def of(self, topic: str) -> list[Any]:
        return [message for name, message in self.arrived if name == topic]

    def wait(self, condition: Callable[[], bool], seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f'only {[name for name, _ in self.arrived]}'
            self.executor.spin_once(timeout_sec=0.1)


@pytest.fixture
def listener(ros_environment: None) -> Iterator[Listener]:
    context = Context()
    rclpy.init(context=context)
    listener = Listener(context)
    yield listener
    listener.executor.shutdown()
    listener.node.destroy_node()
    rclpy.shutdown(context=context)


def stamp_of(message: Any) -> tuple[int, int]:
    header = message.transforms[0].header if hasattr(message, 'transforms') else message.header
    return header.stamp.sec, header.stamp.nanosec


def pixels_of(image: Image) -> np.ndarray:
    return np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, -1)


def board_truth(message: TFMessage) -> FloatArray:
    found = message.transforms[0].transform
    return from_quaternion([found.translation.x, found.translation.y, found.translation.z],
                           [found.rotation.x, found.rotation.y, found.rotation.z,
                            found.rotation.w])


def test_one_picture_is_four_messages_of_one_stamp(
        start_camera: Start, listener: Listener, board: Board) -> None:
    for topic, kind in TOPICS.items():
        listener.listen(topic, kind)
    listener.listen('image_raw/compressed', CompressedImage)
    shared_memory = set(os.listdir('/dev/shm'))
    camera = start_camera('rate:=20')
    topics = (*TOPICS, 'image_raw/compressed')
    listener.wait(lambda: min(len(listener.of(topic)) for topic in topics) > 10)
    by_stamp: dict[tuple[int, int], dict[str, Any]] = {}
    for topic, message in listener.arrived:
        by_stamp.setdefault(stamp_of(message), {})[topic] = message
    whole = [found for found in by_stamp.values() if len(found) == len(topics)]
    assert len(whole) > 5
    assert all(found['image_raw'].header.frame_id == 'camera_color_optical_frame'
               for found in whole)
    check_companions(whole[-1])
    check_truth(whole[-1], board)
    # It keeps its rate: the steps between stamps are those of the timer, without drift.
    stamps = sorted(sec + nanosec * 1e-9 for sec, nanosec in by_stamp)
    assert np.median(np.diff(stamps)) == pytest.approx(0.05, abs=0.01)
    check_end(camera, shared_memory)


def check_companions(found: dict[str, Any]) -> None:
    image, depth, info = found['image_raw'], found['depth/image_raw'], found['camera_info']
    assert (image.encoding, image.width, image.height, image.step) == ('bgr8', 640, 480, 1920)
    assert (depth.encoding, depth.step, len(depth.data)) == ('16UC1', 1280, 640 * 480 * 2)
    model = demo_camera_model(640, 480)
    np.testing.assert_array_equal(info.k, model.k.ravel())
    np.testing.assert_array_equal(info.d, model.d)
    assert info.distortion_model == 'plumb_bob'
    jpeg = found['image_raw/compressed']
    decoded = cv2.imdecode(np.frombuffer(jpeg.data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(int) - pixels_of(image)).mean() < 6
    assert 'jpeg' in jpeg.format


def check_truth(found: dict[str, Any], board: Board) -> None:
    truth, image = found['demo_camera/truth'], found['image_raw']
    children = [transform.child_frame_id for transform in truth.transforms]
    assert children == ['aruco_board', *(f'aruco_marker_{number}' for number in (40, 41, 42))]
    scene = Scene(board)
    gray = cv2.cvtColor(pixels_of(image), cv2.COLOR_BGR2GRAY)
    matched = board.match(MarkerDetector('DICT_5X5_100').detect(gray))
    points, pixels = board.correspondences(gray, matched)
    solved = solve_board(scene.camera, points, pixels)
    assert solved is not None
    distance, angle = difference(solved.camera_from_object, board_truth(truth))
    assert distance < 0.008
    assert np.degrees(angle) < 1.5


def check_end(camera: Any, shared_memory: set[str]) -> None:
    started = time.monotonic()
    camera.send_signal(signal.SIGTERM)
    output, errors = camera.communicate(timeout=5)
    assert camera.returncode == 0
    assert time.monotonic() - started < 2.0
    assert 'Traceback' not in output + errors
    # The camera's own segment is the large one; the listener's files stay with the listener.
    left = set(os.listdir('/dev/shm')) - shared_memory
    sizes = [os.stat(f'/dev/shm/{name}').st_size for name in left
             if os.path.exists(f'/dev/shm/{name}')]
    assert max(sizes, default=0) < 60e6


def test_a_video_has_images_and_nothing_else(
        start_camera: Start, listener: Listener, tmp_path: Path) -> None:
    path = tmp_path / 'video.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 30, (64, 48))
    for level in (50, 100, 150):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    listener.listen('image_raw', Image)
    camera = start_camera(f'source:={path}', 'encoding:=mono8', 'reliability:=best_effort')
    listener.wait(lambda: len(listener.of('image_raw')) >= 9)
    images = listener.of('image_raw')
    assert (images[0].encoding, images[0].width, images[0].step) == ('mono8', 64, 64)
    assert {round(pixels_of(image).mean() / 10) for image in images} == {5, 10, 15}
    names = [name for name, _ in listener.node.get_topic_names_and_types()]
    assert not {'/camera_info', '/depth/image_raw', '/demo_camera/truth'} & set(names)
    camera.send_signal(signal.SIGINT)
    camera.communicate(timeout=5)
    assert camera.returncode == 0


@pytest.mark.parametrize(('parameter', 'line'), [
    ('rate:=0.0', 'camws_demo_camera: parameter rate is 0.0; allowed: a number from 0.1 to 240'),
    ('source:=/nowhere.mp4', "camws_demo_camera: parameter source is '/nowhere.mp4'; allowed: "
     "'' (the rendered scene), the path of a video file or the index of a webcam")])
def test_a_wrong_parameter_is_one_line_and_exit_1(
        start_camera: Start, parameter: str, line: str) -> None:
    camera = start_camera(parameter)
    output, errors = camera.communicate(timeout=10)
    assert camera.returncode == 1
    assert (output + errors).strip() == line
