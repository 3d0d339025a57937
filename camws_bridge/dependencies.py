"""
The composition root: every object built once, in the order of dependency.

Nothing else names both the ROS side and the web side.
"""
from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
import logging
from typing import Any, Protocol
import uuid

from rclpy.node import Node

from camws_bridge.api.access import Access
from camws_bridge.api.bridge import Bridge
from camws_bridge.api.server import Server
from camws_bridge.events import (
    DEMAND_CHANGED, DEPTH_PAIRED, Event, EventBus, IMAGE_RECEIVED, OVERLAY_DRAWN,
    TRANSFORMS_COMPUTED)
from camws_bridge.metrics import Metrics
from camws_bridge.ros.camera_node import CameraNode
from camws_bridge.ros.diagnostics_publisher import DiagnosticsPublisher
from camws_bridge.ros.overlay_publisher import OverlayPublisher
from camws_bridge.ros.pose_publisher import PosePublisher
from camws_bridge.services.aruco_service import ArucoService, load_board
from camws_bridge.services.health_service import HealthService
from camws_bridge.services.image_service import ImageService
from camws_bridge.services.json_service import JsonService
from camws_bridge.settings import SettingsHolder
from camws_bridge.supervision import PROCESSING, ROS, Threads, WEB
from camws_bridge.websockets.connection_manager import ConnectionManager
from camws_bridge.websockets.stream_status import StreamStatusService
from camws_bridge.websockets.streaming_service import (
    IMAGES, OVERLAY, POSES, StreamingService)


log = logging.getLogger(__name__)


class Closable(Protocol):
    """What holds topics or timers of the node."""

    def close(self) -> None:
        """Give them back."""


@dataclass(frozen=True)
class Application:
    """What the node starts when it is configured, and stops when it is cleaned up."""

    settings: SettingsHolder
    threads: Threads
    server: Server
    streaming: StreamingService
    bridge: Bridge
    camera: CameraNode
    diagnostics: DiagnosticsPublisher
    closables: tuple[Closable, ...]

    def start(self) -> None:
        """Listen first: a port that is taken must stop the start before anything runs."""
        try:
            self.server.start(self.bridge)
        except Exception:
            self._close()
            raise
        self.streaming.start()

    def set_active(self, active: bool) -> None:
        """Look at the camera when somebody wants it, or leave it alone; on the ROS thread."""
        self.camera.set_active(active)

    def stop(self) -> None:
        """Stop in the reverse order, whatever has died already."""
        with ExitStack() as stack:
            stack.callback(self._close)
            if not self.threads.is_alive(WEB):
                log.warning('the server is gone: its clients are cut off')
            else:
                stack.callback(self.server.stop)
            stack.callback(self.streaming.stop)

    def _close(self) -> None:
        """Take what is ours from the node."""
        for closable in self.closables:
            closable.close()


def build(node: Node, settings: SettingsHolder, threads: Threads | None = None) -> Application:
    """
    Build the bridge on a node, inactive; raises SettingsError for what cannot be used.

    ``threads`` starts and watches its threads.
    """
    threads = threads or Threads()
    metrics = Metrics()
    metrics.watch_threads((ROS, PROCESSING, WEB), threads.is_alive)
    bus = EventBus(_count_errors(metrics))
    health = HealthService(settings, threads=threads)
    access = Access(settings, metrics)

    aruco = ArucoService(settings(), load_board(settings()))
    images = ImageService(aruco)
    json = JsonService(aruco)

    poses = PosePublisher(node, aruco, settings)
    overlay = OverlayPublisher(node)

    def wanted_by_ros() -> frozenset[str]:
        wanted = {IMAGES: settings().tf.publish, POSES: poses.is_wanted,
                  OVERLAY: overlay.is_wanted}
        return frozenset(name for name, is_wanted in wanted.items() if is_wanted)

    server = Server(threads)
    connections = ConnectionManager(metrics)
    streaming = StreamingService(bus, aruco, images, json, connections, settings, metrics,
                                 server.call_in_loop, wanted_by_ros, threads=threads)
    status = StreamStatusService(health, aruco, streaming, connections)
    bridge = Bridge(
        access, connections, health, metrics, settings, status, streaming,
        clock=lambda: node.get_clock().now().nanoseconds * 1e-9, version=_version(),
        session_id=uuid.uuid4().hex)

    bus.subscribe(IMAGE_RECEIVED, streaming.on_image)
    bus.subscribe(DEPTH_PAIRED, streaming.on_depth)
    bus.subscribe(TRANSFORMS_COMPUTED, poses.publish)
    bus.subscribe(OVERLAY_DRAWN, overlay.publish)
    camera = CameraNode(node, bus, settings, health, metrics,
                        wants_images=lambda: streaming.is_wanted,
                        wants_depth=lambda: streaming.wants_depth, on_idle=streaming.forget,
                        is_active=False)
    bus.subscribe(DEMAND_CHANGED, lambda _: camera.look_soon())
    diagnostics = DiagnosticsPublisher(node, health, metrics, lambda: {
        'clients': connections.total, 'address': server.url})

    settings.add_check(aruco.check_settings)
    return Application(settings, threads, server, streaming, bridge, camera, diagnostics,
                       (camera, diagnostics, overlay, poses))


def _count_errors(metrics: Metrics) -> Callable[[Event[Any], Exception], None]:
    def on_error(event: Event[Any], error: Exception) -> None:
        metrics.handler_errors.labels(event.name).inc()
        log.error('a handler of %s failed: %s', event.name, error, exc_info=error)
    return on_error


def _version() -> str:
    try:
        return version('camws_bridge')
    except PackageNotFoundError:
        return 'unknown'
