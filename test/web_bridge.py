"""The web side without ROS: real services, a real server on a free port, frames made by hand."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
import itertools
import time
from typing import Any

import numpy as np

from camws_bridge.api.access import Access
from camws_bridge.api.bridge import Bridge
from camws_bridge.api.server import Server
from camws_bridge.events import DEPTH_PAIRED, EventBus, IMAGE_RECEIVED
from camws_bridge.metrics import Metrics
from camws_bridge.models import CameraModel, Frame, Stamp
from camws_bridge.services.aruco_service import ArucoService, load_board
from camws_bridge.services.health_service import HealthService
from camws_bridge.services.image_service import ImageService
from camws_bridge.services.json_service import JsonService
from camws_bridge.settings import Settings, SettingsHolder
from camws_bridge.vision import camera
from camws_bridge.vision.board_files import BoardDefaults, read_board
from camws_bridge.vision.detection import get_dictionary
from camws_bridge.websockets.connection_manager import ConnectionManager
from camws_bridge.websockets.stream_status import StreamStatusService
from camws_bridge.websockets.streaming_service import StreamingService

WIDTH, HEIGHT = 320, 240
DEMO_BOARD = 'package://camws_bridge/config/boards/demo_board.yaml'


class WebBridge:
    """Everything between IMAGE_RECEIVED and the sockets."""

    def __init__(self, values: Mapping[str, Any], cores: int = 0) -> None:
        self.settings = SettingsHolder(Settings().with_values({'port': 0, **values}))
        self.metrics = Metrics()
        access = Access(self.settings, self.metrics)
        self.bus, self.server = EventBus(), Server()
        self.health = HealthService(self.settings)
        self.aruco = ArucoService(self.settings(), load_board(self.settings()))
        self.connections = ConnectionManager(self.metrics)
        self.demand: frozenset[str] = frozenset()
        self.streaming = StreamingService(
            self.bus, self.aruco, ImageService(self.aruco), JsonService(self.aruco),
            self.connections, self.settings, self.metrics, self.server.call_in_loop,
            lambda: self.demand, cores=cores)
        self.bus.subscribe(IMAGE_RECEIVED, self.streaming.on_image)
        self.bus.subscribe(DEPTH_PAIRED, self.streaming.on_depth)
        status = StreamStatusService(self.health, self.aruco, self.streaming, self.connections)
        self.bridge = Bridge(
            access, self.connections, self.health, self.metrics, self.settings,
            status, self.streaming, clock=time.time, version='1.2.3', session_id='session')
        self._seqs = itertools.count(1)

    def publish(self, **changes: Any) -> Frame:
        """Let an image arrive; the changes are fields of the frame."""
        frame = make_frame(next(self._seqs), **changes)
        self.health.on_image()
        self.bus.publish(IMAGE_RECEIVED, frame)
        return frame

    @property
    def http(self) -> str:
        return self.server.url

    @property
    def ws(self) -> str:
        return self.server.url.replace('http', 'ws', 1)

    def count(self, name: str, **labels: str) -> float:
        """Return a counter's value as /metrics shows it."""
        value = self.metrics.registry.get_sample_value(name, labels)
        return 0.0 if value is None else value


@contextmanager
def running_bridge(**values: Any) -> Iterator[WebBridge]:
    """Run the web side with some parameters changed (dots written as __)."""
    bridge = WebBridge({name.replace('__', '.'): value for name, value in values.items()})
    bridge.server.start(bridge.bridge)
    bridge.streaming.start()
    bridge.health.set_watching(True)
    try:
        yield bridge
    finally:
        bridge.streaming.stop()
        bridge.server.stop()


def make_frame(seq: int, **changes: Any) -> Frame:
    pixels = changes.pop('pixels', None)
    if pixels is None and 'encoded' not in changes:
        pixels = scene(seq)
    frame = Frame(
        seq, Stamp(100 + seq, 250), 'camera_optical', WIDTH, HEIGHT, pixels=pixels,
        camera=make_camera())
    return replace(frame, **changes)


def make_camera() -> CameraModel:
    k = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
    return camera.make_camera_model(
        WIDTH, HEIGHT, 'plumb_bob', np.zeros(5), k, np.eye(3), np.hstack([k, np.zeros((3, 1))]))


def scene(seq: int = 0) -> np.ndarray:
    """Return a BGR picture: the demo board from the front, single marker 42, a bar that moves."""
    board = read_board(str(boards_path()), BoardDefaults('DICT_5X5_100'))
    image = np.full((HEIGHT, WIDTH), 200, np.uint8)
    dictionary = get_dictionary('DICT_5X5_100')
    for marker_id, corners in zip(board.marker_ids, board.corners):
        left, top = np.rint((corners[0, :2] * (1, -1) + (0.13, 0.11)) * 700).astype(int)
        image[top:top + 28, left:left + 28] = dictionary.generateImageMarker(marker_id, 28)
    image[100:156, 240:296] = dictionary.generateImageMarker(42, 56)
    image[200:210, :] = 128
    image[200:210, 10 * (seq % 30):10 * (seq % 30) + 10] = 0
    return np.repeat(image[..., None], 3, axis=2)


def boards_path() -> Any:
    from camws_bridge.share import share_path
    return share_path('config/boards/demo_board.yaml')
