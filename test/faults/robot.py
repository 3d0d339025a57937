"""A bridge process, and a robot before it whose drivers can do everything wrong."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, ExitStack
import json
import os
from pathlib import Path
import re
import signal
import tempfile
import threading
import time
from typing import Any

import numpy as np
from processes import BridgeProcess, Process, wait_until
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from ros_side import camera_info, header, image_message, RELIABLE, Side
from sensor_msgs.msg import CameraInfo, Image
from web_bridge import DEMO_BOARD, HEIGHT, scene, WIDTH
from websockets.sync.client import connect

from camws_bridge.demo.check import split_image_message

PERIOD = 0.04
# Lets a process find the modules that lie beside the tests.
BESIDE_THE_TESTS = {'PYTHONPATH': os.pathsep.join(filter(None, (
    str(Path(__file__).parents[1]), os.environ.get('PYTHONPATH'))))}
# What nobody may find in a log: asyncio's and Python's words for something forgotten.
FORGOTTEN = re.compile('never awaited|never retrieved|was destroyed but it is pending|'
                       'ResourceWarning')


class InjectedBridge(BridgeProcess):
    """A bridge process that takes faults."""

    def __init__(self, *ros_arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._control = Path(self._folder.name) / 'fault'
        Process.__init__(self, 'faults.injected_bridge', str(self._control), '--ros-args',
                         '-p', 'port:=0', *ros_arguments,
                         environment={**BESIDE_THE_TESTS, **(environment or {})})
        self.url = ''

    def inject(self, place: str, fault: str) -> None:
        self._control.write_text(f'{place} {fault}')
        self.signal(signal.SIGUSR1)
        wait_until(lambda: not self._control.exists(), 5.0, 'the fault is in force')

    def wait(self, timeout: float = 20.0) -> int:
        code = super().wait(timeout)
        self._folder.cleanup()
        return code

    def count(self, name: str, **labels: str) -> float:
        """Return the value of a metric, 0 when there is none."""
        wanted = ','.join(f'{key}="{value}"' for key, value in labels.items())
        text = self.get('/metrics')[2].decode()
        found = re.findall(rf'^{name}(?:\{{{re.escape(wanted)}\}})? (\S+)$', text, re.MULTILINE)
        return sum(map(float, found))

    def total(self, name: str) -> float:
        text = self.get('/metrics')[2].decode()
        return sum(map(float, re.findall(rf'^{name}(?:\{{.*\}})? (\S+)$', text, re.MULTILINE)))

    def health(self, path: str = '/healthz') -> tuple[int, str, str]:
        status, _, body = self.get(path)
        found = json.loads(body)
        return status, found['code'], found['message']

    def wait_for_health(self, status: int, code: str) -> str:
        """Wait for a state; return the words for it."""
        wait_until(lambda: self.health()[:2] == (status, code), 8.0, f'healthz says {code}')
        return self.health()[2]


class Camera:
    """A driver that publishes all the time, on a thread of its own, what it is told to."""

    def __init__(self, node: Node, qos: QoSProfile = RELIABLE, **changes: Any) -> None:
        self._node = node
        self.picture: Any = scene()
        self.encoding, self.frame_id, self.stamp_offset = 'bgr8', 'camera_optical', 0.0
        self.info: CameraInfo | None = camera_info(WIDTH, HEIGHT, 300.0, d=[0.0] * 5,
                                                   p_focal=300.0)
        self.depth: Any = None
        for name, value in changes.items():
            setattr(self, name, value)
        self._publishers = {name: node.create_publisher(
            kind, f'/faults/{name}', qos,
            event_callbacks=PublisherEventCallbacks(use_default_callbacks=False))
            for name, kind in (('image', Image), ('camera_info', CameraInfo),
                               ('depth', Image))}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name='camera')
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(PERIOD):
            now = time.time() + self.stamp_offset
            at = header(int(now), int(now % 1 * 1e9), self.frame_id)
            if self.info is not None:
                self.info.header = at
                self._publishers['camera_info'].publish(self.info)
            if self.picture is not None:
                self._publishers['image'].publish(image_message(self.picture, self.encoding, at))
            if self.depth is not None:
                self._publishers['depth'].publish(image_message(self.depth, '16UC1', at))

    def send(self, message: Image) -> None:
        """Publish one message between the others."""
        self._publishers['image'].publish(message)

    def die(self) -> None:
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)


class Viewer:
    """A client of a picture stream that reads all the time."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.codes: list[str] = []

    def next(self, timeout: float = 8.0) -> dict[str, Any]:
        """Return the header of the next picture, or the object of the next message."""
        deadline = time.monotonic() + timeout
        while True:
            message = self._client.recv(timeout=max(0.01, deadline - time.monotonic()))
            if isinstance(message, bytes):
                found: dict[str, Any] = split_image_message(message)[0]
                return found
            found = json.loads(message)
            if found.get('op') == 'status':
                self.codes.append(found['code'])
            elif 'op' not in found:
                return found

    def wait_for(self, condition: Any, what: str) -> dict[str, Any]:
        """Return the first message that fulfils a condition."""
        deadline = time.monotonic() + 8.0
        while True:
            assert time.monotonic() < deadline, f'not within 8 s: {what}'
            found = self.next()
            if condition(found):
                return found

    def wait_for_code(self, code: str) -> None:
        deadline = time.monotonic() + 8.0
        while code not in self.codes:
            assert time.monotonic() < deadline, f'not told within 8 s: {code}'
            try:
                self.next(0.1)
            except TimeoutError:
                pass


class FaultyRobot:
    """The bridge, its camera and its clients, put right again after every fault."""

    def __init__(self, *ros_arguments: str) -> None:
        self.bridge = InjectedBridge(
            '-r', 'image:=/faults/image', '-r', 'camera_info:=/faults/camera_info',
            '-r', 'depth/image:=/faults/depth', '-p', 'stale_after:=0.5', '-p',
            f'board.file:={DEMO_BOARD}', '-p', 'detector.min_perimeter_px:=40.0', *ros_arguments)
        try:
            self._stand_up()
        except BaseException:
            self.bridge.stop()
            raise

    def _stand_up(self) -> None:
        self.side = Side()
        self.node = Node('robot', context=self.side.context, start_parameter_services=False,
                         enable_rosout=False)
        self.side.executor.add_node(self.node)
        self.camera = Camera(self.node)
        self.bridge.wait_until_listening()
        self._line = 0
        self.expects_errors = False
        with self.watching('color') as viewer:
            viewer.next()
        self._fds, self._threads = self._held()

    @contextmanager
    def watching(self, *paths: str) -> Iterator[Any]:
        """Connect a viewer for each path."""
        url = self.bridge.url.replace('http', 'ws', 1)
        with ExitStack() as stack:
            viewers = [Viewer(stack.enter_context(connect(
                f'{url}/ws/{path}', subprotocols=['camws.v1'], max_size=None,
                close_timeout=0.2))) for path in paths]
            yield viewers[0] if len(viewers) == 1 else viewers

    def other_camera(self, **changes: Any) -> Camera:
        """Replace the camera, as if its driver had been started anew."""
        self.camera.die()
        self.camera = Camera(self.node, **changes)
        return self.camera

    def listen(self, kind: Any, topic: str) -> list[Any]:
        arrived: list[Any] = []
        self._subscription = self.node.create_subscription(
            kind, topic, arrived.append, 10,
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False))
        return arrived

    def spin_until(self, condition: Any, what: str, seconds: float = 8.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f'not within {seconds} s: {what}'
            self.side.executor.spin_once(timeout_sec=0.02)

    def recover(self) -> None:
        """Have a camera that does nothing wrong, and a bridge that sees it."""
        self.other_camera()
        with self.watching('color') as viewer:
            viewer.wait_for(lambda found: found['width'] == WIDTH, 'a picture')
        self.bridge.wait_for_health(200, 'ok')
        self._line, self.expects_errors = len(self.bridge.lines), False

    @property
    def new_lines(self) -> list[str]:
        """What was logged since the fault began."""
        return self.bridge.lines[self._line:]

    def check_nothing_is_left(self) -> None:
        """Fail when clients, descriptors or threads are left, or something was forgotten."""
        # Nothing shall disturb the tests that come next.
        self.camera.die()
        for subscription in list(self.node.subscriptions):
            self.node.destroy_subscription(subscription)
        wait_until(lambda: self.bridge.total('camws_clients') == 0, 5.0, 'all clients are gone')
        wait_until(lambda: self._is_as_before(), 5.0,
                   f'descriptors and threads are {self._fds, self._threads} again')
        text = '\n'.join(self.new_lines)
        assert not FORGOTTEN.search(text), text
        assert self.expects_errors or 'Traceback' not in text, text
        assert self.bridge.health('/livez')[0] == 200

    def _held(self) -> tuple[int, int]:
        process = Path(f'/proc/{self.bridge.pid}')
        return len(os.listdir(process / 'fd')), len(os.listdir(process / 'task'))

    def _is_as_before(self) -> bool:
        fds, threads = self._held()
        # Sockets of those who ask right now, and what DDS opens for another participant.
        return fds <= self._fds + 4 and threads <= self._threads + 2

    def close(self) -> None:
        self.camera.die()
        self.node.destroy_node()
        self.side.close()
        code = self.bridge.stop()
        assert code == 0, self.bridge.output


def picture(height: int, width: int, channels: Sequence[int] = (3,)) -> Any:
    """Return a picture with something in it."""
    return np.random.default_rng(1).integers(0, 256, (height, width, *channels), np.uint8)
