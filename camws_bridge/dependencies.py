"""
The composition root: every object built once, in the order of dependency.

Nothing else names both the ROS side and the web side.
"""
from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
import uuid

from rclpy.node import Node

from camws_bridge.api.access import Access
from camws_bridge.api.bridge import Bridge
from camws_bridge.api.server import Server
from camws_bridge.events import (
    DEMAND_CHANGED, DEPTH_PAIRED, EventBus, IMAGE_RECEIVED, OVERLAY_DRAWN, TRANSFORMS_COMPUTED)
from camws_bridge.metrics import Metrics
from camws_bridge.ros.camera_node import CameraNode
from camws_bridge.ros.diagnostics_publisher import DiagnosticsPublisher
from camws_bridge.ros.overlay_publisher import OverlayPublisher
from camws_bridge.ros.parameters import declare_settings, follow_changes
from camws_bridge.ros.pose_publisher import PosePublisher
from camws_bridge.services.aruco_service import ArucoService, load_board
from camws_bridge.services.health_service import HealthService
from camws_bridge.services.image_service import ImageService
from camws_bridge.services.json_service import JsonService
from camws_bridge.settings import SettingsHolder
from camws_bridge.websockets.connection_manager import ConnectionManager
from camws_bridge.websockets.stream_status import StreamStatusService
from camws_bridge.websockets.streaming_service import (
    IMAGES, OVERLAY, POSES, StreamingService)


@dataclass(frozen=True)
class Application:
    """What ``main`` starts and stops."""

    settings: SettingsHolder
    server: Server
    streaming: StreamingService
    bridge: Bridge
    camera: CameraNode

    def start(self) -> None:
        """Listen first: a port that is taken must stop the start before anything runs."""
        self.server.start(self.bridge)
        self.streaming.start()

    def stop(self) -> None:
        """Stop in the reverse order."""
        try:
            self.streaming.stop()
        finally:
            self.server.stop()


def build(node: Node) -> Application:
    """Build the bridge on a node; raises SettingsError for a parameter that is not allowed."""
    settings = declare_settings(node)
    metrics = Metrics()
    bus = EventBus()
    health = HealthService(settings)
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

    server = Server()
    connections = ConnectionManager(metrics)
    streaming = StreamingService(bus, aruco, images, json, connections, settings, metrics,
                                 server.call_in_loop, wanted_by_ros)
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
                        wants_depth=lambda: streaming.wants_depth, on_idle=streaming.forget)
    bus.subscribe(DEMAND_CHANGED, lambda _: camera.look_soon())
    DiagnosticsPublisher(node, health, lambda: connections.total, lambda: server.url)

    settings.add_check(aruco.check_settings)
    follow_changes(node, settings)
    return Application(settings, server, streaming, bridge, camera)


def _version() -> str:
    try:
        return version('camws_bridge')
    except PackageNotFoundError:
        return 'unknown'
