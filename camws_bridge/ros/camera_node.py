"""The camera's topics: image, camera_info and depth become frames, IMAGE_RECEIVED."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
import time

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from camws_bridge.events import DEMAND_CHANGED, EventBus, IMAGE_RECEIVED
from camws_bridge.metrics import Metrics
from camws_bridge.models import Array, CameraModel, Frame, Stamp
from camws_bridge.ros import conversions
from camws_bridge.ros.matched_subscription import MatchedSubscription
from camws_bridge.services.health_service import HealthService
from camws_bridge.settings import Settings
from camws_bridge.vision.camera import CalibrationError, without_distortion
from camws_bridge.vision.pixel_formats import ImageError

_LOOK_EVERY = 0.5
# How long the camera stays subscribed to when nobody wants it any more (seconds).
_LINGER = 5.0
_KEPT_DEPTH_IMAGES = 4


class CameraNode:
    """
    Turns camera messages into frames on the event bus; ROS thread only.

    ``wants_images`` and ``wants_depth`` say what is wanted now (any thread).
    """

    def __init__(self, node: Node, bus: EventBus, settings: Callable[[], Settings],
                 health: HealthService, metrics: Metrics, wants_images: Callable[[], bool],
                 wants_depth: Callable[[], bool], on_idle: Callable[[], None]) -> None:
        """Subscribe when somebody wants images; ``on_idle`` is called when nobody does."""
        self._node, self._bus, self._settings = node, bus, settings
        self._health, self._metrics = health, metrics
        self._wants_images, self._wants_depth, self._on_idle = wants_images, wants_depth, on_idle
        self._seq = 0
        self._info: CameraInfo | None = None
        self._camera: CameraModel | None = None
        self._camera_problem = 'no camera_info has arrived'
        self._unpaired: Frame | None = None
        self._depths: deque[tuple[Stamp, Array]] = deque(maxlen=_KEPT_DEPTH_IMAGES)
        self._wanted_at = time.monotonic()
        self._was_unhealthy = ''
        self._image = self._image_subscription(settings())
        self._camera_info = MatchedSubscription(
            node, CameraInfo, node.resolve_topic_name('camera_info'), self._on_camera_info)
        self._depth = MatchedSubscription(
            node, Image, node.resolve_topic_name('depth/image'), self._on_depth)
        bus.subscribe(DEMAND_CHANGED, lambda _: self._look_soon())
        node.create_timer(_LOOK_EVERY, self.look)
        self.look()

    def look(self) -> None:
        """Look at what is wanted and at who publishes, and subscribe accordingly."""
        was_active = self._image.is_active
        active = self._is_wanted()
        self._image.update(active)
        self._camera_info.update(active)
        self._depth.update(active and self._wants_depth())
        self._health.set_publishers(self._image.topic, self._image.publishers)
        self._health.set_has_depth(self._depth.publishers > 0)
        if active != was_active:
            self._health.set_watching(active)
            if not active:
                self._unpaired = None
                self._depths.clear()
                self._on_idle()
        self._report_health()

    def _look_soon(self) -> None:
        """Have the ROS thread look now, from any thread: a client does not wait for the timer."""
        executor = self._node.executor
        if executor is not None and self._wants_images() and not self._image.is_active:
            executor.create_task(self.look)

    def _is_wanted(self) -> bool:
        now = time.monotonic()
        if not self._settings().lazy or self._wants_images():
            self._wanted_at = now
        return now - self._wanted_at < _LINGER

    def _report_health(self) -> None:
        health = self._health.check()
        problem = health.code if not health.is_ok and health.code != 'starting' else ''
        if problem and problem != self._was_unhealthy:
            self._node.get_logger().warning(health.message)
        elif self._was_unhealthy and not problem:
            self._node.get_logger().info(health.message)
        self._was_unhealthy = problem

    def _image_subscription(self, settings: Settings) -> MatchedSubscription:
        node = self._node
        if settings.image_transport == 'raw':
            return MatchedSubscription(node, Image, node.resolve_topic_name('image'),
                                       self._on_image)
        # image/compressed can be remapped itself; else it follows where image is remapped to.
        topic = node.resolve_topic_name('image/compressed')
        if topic == node.resolve_topic_name('image/compressed', only_expand=True):
            topic = node.resolve_topic_name('image') + '/compressed'
        return MatchedSubscription(node, CompressedImage, topic, self._on_compressed)

    def _on_image(self, message: Image) -> None:
        received = time.monotonic()
        try:
            pixels, encoding = conversions.to_pixels(message)
        except ImageError as error:
            self._drop(error)
            return
        self._publish(message.width, message.height, Frame(
            seq=0, stamp=conversions.to_stamp(message.header.stamp),
            frame_id=message.header.frame_id, width=message.width, height=message.height,
            encoding=encoding, pixels=pixels, received=received))

    def _on_compressed(self, message: CompressedImage) -> None:
        received = time.monotonic()
        try:
            encoded, width, height = conversions.to_encoded(message)
        except ImageError as error:
            self._drop(error)
            return
        self._publish(width, height, Frame(
            seq=0, stamp=conversions.to_stamp(message.header.stamp),
            frame_id=message.header.frame_id, width=width, height=height, encoded=encoded,
            received=received))

    def _publish(self, width: int, height: int, frame: Frame) -> None:
        self._seq += 1
        self._health.on_image()
        self._metrics.images_received.inc()
        self._metrics.image_age_seconds.observe(max(0.0, self._now() - frame.stamp.seconds))
        camera, problem = self._camera_for(width, height)
        frame = replace(frame, seq=self._seq, camera=camera, camera_problem=problem)
        depth = self._depth_of(frame)
        if depth is not None:
            frame = replace(frame, depth=depth)
        self._unpaired = frame if depth is None and self._depth.is_active else None
        self._bus.publish(IMAGE_RECEIVED, frame)

    def _on_depth(self, message: Image) -> None:
        try:
            depth = conversions.to_depth(message)
        except ImageError as error:
            self._drop(error)
            return
        stamp = conversions.to_stamp(message.header.stamp)
        frame = self._unpaired
        if frame is not None and _distance(stamp, frame) <= self._depth_tolerance:
            # The image did not wait for its depth: it goes through again, with it.
            self._unpaired = None
            self._bus.publish(IMAGE_RECEIVED, replace(frame, depth=depth))
        else:
            self._depths.appendleft((stamp, depth))

    def _depth_of(self, frame: Frame) -> Array | None:
        """Return the depth image nearest in time, if it is near enough."""
        if not self._depths:
            return None
        stamp, depth = min(self._depths, key=lambda item: _distance(item[0], frame))
        return depth if _distance(stamp, frame) <= self._depth_tolerance else None

    @property
    def _depth_tolerance(self) -> float:
        return self._settings().depth.max_stamp_difference * 1e9

    def _on_camera_info(self, message: CameraInfo) -> None:
        if self._info is not None and _same_calibration(message, self._info):
            return
        self._info = message
        try:
            camera = conversions.to_camera_model(message)
            self._camera = (without_distortion(camera) if self._settings().image_is_rectified
                            else camera)
        except CalibrationError as error:
            self._camera, self._camera_problem = None, str(error)
            self._node.get_logger().warning(f'poses need a calibration: {error}')

    def _camera_for(self, width: int, height: int) -> tuple[CameraModel | None, str]:
        camera = self._camera
        if camera is None:
            return None, self._camera_problem
        if (camera.width, camera.height) not in ((width, height), (0, 0)):
            return None, (f'camera_info is for {camera.width}x{camera.height} pixels, the image '
                          f'has {width}x{height}')
        if camera.width == 0:
            camera = self._camera = replace(camera, width=width, height=height)
        return camera, ''

    def _drop(self, error: ImageError) -> None:
        self._metrics.images_dropped.labels(error.kind).inc()
        if self._health.on_dropped(error.kind) == 1:
            self._node.get_logger().warning(
                f'an image was dropped ({error.kind}): {error}; more of this kind are counted '
                'only')

    def _now(self) -> float:
        return float(self._node.get_clock().now().nanoseconds * 1e-9)


def _distance(stamp: Stamp, frame: Frame) -> int:
    """Return how far a stamp is from that of a frame, in nanoseconds."""
    # In whole nanoseconds: floats of today's seconds are coarser.
    return abs((stamp.sec - frame.stamp.sec) * 10 ** 9 + stamp.nanosec - frame.stamp.nanosec)


def _same_calibration(a: CameraInfo, b: CameraInfo) -> bool:
    # Numbers by their bytes: a NaN equals itself, or each message would be a new bad calibration.
    return (a.width, a.height, a.distortion_model, a.header.frame_id) == (
        b.width, b.height, b.distortion_model, b.header.frame_id) and all(
            np.asarray(x).tobytes() == np.asarray(y).tobytes()
            for x, y in ((a.d, b.d), (a.k, b.k), (a.r, b.r), (a.p, b.p)))
