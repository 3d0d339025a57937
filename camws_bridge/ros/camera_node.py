"""The camera's topics: image, camera_info and depth become frames, IMAGE_RECEIVED."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import logging
import math
import re
import time
from typing import Any

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from camws_bridge.events import DEPTH_PAIRED, EventBus, IMAGE_RECEIVED
from camws_bridge.metrics import Metrics
from camws_bridge.models import CameraModel, Frame
from camws_bridge.ros import conversions
from camws_bridge.ros.depth_pairing import DepthPairing
from camws_bridge.ros.guard import guarded
from camws_bridge.ros.matched_subscription import MatchedSubscription
from camws_bridge.services.health_service import HealthService
from camws_bridge.settings import Settings
from camws_bridge.vision.camera import CalibrationError, without_distortion
from camws_bridge.vision.pixel_formats import ImageError

log = logging.getLogger(__name__)

_LOOK_EVERY = 0.5
# How long the camera stays subscribed to when nobody wants it any more (seconds).
_LINGER = 5.0
# DDS lists a publisher that was killed for 20 s: only then are two publishers two (seconds).
_LEASE = 30.0


class _Demand:
    """A demand that lasts a little longer than it is there."""

    def __init__(self, is_there: Callable[[], bool]) -> None:
        self._is_there = is_there
        self._last = -math.inf

    def lasts(self) -> bool:
        now = time.monotonic()
        if self._is_there():
            self._last = now
        return now - self._last < _LINGER


class CameraNode:
    """
    Turns camera messages into frames on the event bus; ROS thread only.

    ``wants_images`` and ``wants_depth`` say what is wanted now (any thread).
    """

    def __init__(self, node: Node, bus: EventBus, settings: Callable[[], Settings],
                 health: HealthService, metrics: Metrics, wants_images: Callable[[], bool],
                 wants_depth: Callable[[], bool], on_idle: Callable[[], None],
                 is_active: bool = True) -> None:
        """Subscribe when somebody wants images; ``on_idle`` is called when nobody does."""
        self._is_active, self._is_closed = is_active, False
        self._last_arrival: float | None = None
        self._node, self._bus, self._settings = node, bus, settings
        self._health, self._metrics = health, metrics
        health.set_active(is_active)
        self._wants_images, self._wants_depth, self._on_idle = wants_images, wants_depth, on_idle
        self._clock = node.get_clock()
        self._seq = 0
        self._info: CameraInfo | None = None
        self._camera: CameraModel | None = None
        self._camera_problem = 'no camera_info has arrived'
        self._pairing = DepthPairing(lambda: settings().depth.max_stamp_difference)
        self._images_demand = _Demand(lambda: wants_images() or not settings().lazy)
        self._depth_demand = _Demand(wants_depth)
        self._was_unhealthy = ''
        self._one_publisher_at, self._is_mix_reported = time.monotonic(), False
        self._image = self._image_subscription(settings())
        self._camera_info = MatchedSubscription(
            node, CameraInfo, node.resolve_topic_name('camera_info'),
            self._dropping(self._on_camera_info))
        self._depth = MatchedSubscription(
            node, Image, node.resolve_topic_name('depth/image'), self._dropping(self._on_depth))
        # By the wall: a ROS clock that stands must not blind the bridge.
        self._timer = node.create_timer(
            _LOOK_EVERY, guarded('look', self.look, metrics.ros_errors),
            clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.look()

    def set_active(self, active: bool) -> None:
        """Follow what is wanted, or leave the camera alone whatever is wanted."""
        self._is_active = active
        self._health.set_active(active)
        self.look()

    def close(self) -> None:
        """Unsubscribe for good."""
        self._is_closed = True
        self._node.destroy_timer(self._timer)
        for subscription in (self._image, self._camera_info, self._depth):
            subscription.close()

    def look(self) -> None:
        """Look at what is wanted and at who publishes, and subscribe accordingly."""
        if self._is_closed:
            return
        was_active = self._image.is_active
        active = self._is_active and self._images_demand.lasts()
        self._image.update(active)
        self._camera_info.update(active)
        self._depth.update(active and self._depth_demand.lasts())
        self._health.set_publishers(
            self._image.topic, self._image.publishers, self._image.other_types)
        self._health.set_has_depth(self._depth.publishers > 0)
        if active != was_active:
            self._health.set_watching(active)
            self._last_arrival = None
            if not active:
                self._on_idle()
        if not self._depth.is_active:
            self._pairing.clear()
        self._report_health()
        self._report_publishers()

    def look_soon(self) -> None:
        """Have the ROS thread look now, from any thread: a client does not wait for the timer."""
        executor = self._node.executor
        if executor is not None and self._is_active and (
                (self._wants_images() and not self._image.is_active)
                or (self._wants_depth() and not self._depth.is_active)):
            executor.create_task(guarded('look', self.look, self._metrics.ros_errors))

    def _report_health(self) -> None:
        health = self._health.check()
        # Another reason is news, another number of seconds is not.
        problem = ('' if health.is_ok or health.code == 'starting'
                   else re.sub(r'\d+', '', health.message))
        if problem and problem != self._was_unhealthy:
            self._node.get_logger().warning(health.message)
        elif self._was_unhealthy and not problem:
            self._node.get_logger().info(health.message)
        self._was_unhealthy = problem

    def _report_publishers(self) -> None:
        publishers, now = self._image.publishers, time.monotonic()
        if publishers <= 1:
            self._one_publisher_at, self._is_mix_reported = now, False
        elif not self._is_mix_reported and now - self._one_publisher_at > _LEASE:
            self._is_mix_reported = True
            self._node.get_logger().warning(
                f'{publishers} publishers on {self._image.topic}: their images are mixed')

    def _image_subscription(self, settings: Settings) -> MatchedSubscription:
        node = self._node
        if settings.image_transport == 'raw':
            return MatchedSubscription(node, Image, node.resolve_topic_name('image'),
                                       self._dropping(self._on_image))
        # image/compressed can be remapped itself; else it follows where image is remapped to.
        topic = node.resolve_topic_name('image/compressed')
        if topic == node.resolve_topic_name('image/compressed', only_expand=True):
            topic = node.resolve_topic_name('image') + '/compressed'
        return MatchedSubscription(node, CompressedImage, topic,
                                   self._dropping(self._on_compressed))

    def _dropping(self, take: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return a callback of which no failure costs more than the message."""
        def receive(message: Any) -> None:
            try:
                take(message)
            except ImageError as error:
                self._drop(error.kind, str(error))
            except Exception as error:  # the next message must find a thread that runs
                log.error('a message could not be taken: %r', error, exc_info=error)
                self._drop('internal_error', repr(error))
        return receive

    def _on_image(self, message: Image) -> None:
        pixels, encoding = conversions.to_pixels(message)
        self._publish(message.header, message.width, message.height, encoding=encoding,
                      pixels=pixels)

    def _on_compressed(self, message: CompressedImage) -> None:
        encoded, width, height = conversions.to_encoded(message)
        self._publish(message.header, width, height, encoded=encoded)

    def _publish(self, header: Header, width: int, height: int, **content: Any) -> None:
        arrived = self._clock.now().nanoseconds * 1e-9
        self._seq += 1
        stamp = conversions.to_stamp(header.stamp)
        camera, problem = self._camera_for(width, height)
        # A driver that names no frame may name it in camera_info.
        frame_id = header.frame_id or (self._camera.frame_id if self._camera else '')
        frame = Frame(self._seq, stamp, frame_id, width, height, camera=camera,
                      camera_problem=problem, **content)
        if self._depth.is_active:
            frame = self._pairing.add_frame(frame)
        self._health.on_image()
        self._bus.publish(IMAGE_RECEIVED, frame)
        # Counting comes last: the picture is on its way already.
        self._metrics.images_received.inc()
        self._note_arrival(time.monotonic())
        self._metrics.image_age_seconds.observe(max(0.0, arrived - stamp.seconds))

    def _note_arrival(self, now: float) -> None:
        if self._last_arrival is not None:
            self._metrics.receive_gap_seconds.observe(now - self._last_arrival)
        self._last_arrival = now

    def _on_depth(self, message: Image) -> None:
        depth = conversions.to_depth(message)
        # The image did not wait for its depth: the pair is an event of its own.
        frame = self._pairing.add_depth(conversions.to_stamp(message.header.stamp), depth)
        if frame is not None:
            self._bus.publish(DEPTH_PAIRED, frame)

    def _on_camera_info(self, message: CameraInfo) -> None:
        if self._info is not None and _same_calibration(message, self._info):
            return
        self._info = message
        self._camera, self._camera_problem = None, 'camera_info cannot be used'
        try:
            camera = conversions.to_camera_model(message)
            self._camera = (without_distortion(camera) if self._settings().image_is_rectified
                            else camera)
        except CalibrationError as error:
            self._camera_problem = str(error)
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

    def _drop(self, kind: str, reason: str) -> None:
        self._metrics.images_dropped.labels(kind).inc()
        if self._health.on_dropped(kind) == 1:
            self._node.get_logger().warning(
                f'an image was dropped ({kind}): {reason}; more of this kind are counted only')


def _same_calibration(a: CameraInfo, b: CameraInfo) -> bool:
    # Numbers by their bytes: a NaN equals itself, or each message would be a new bad calibration.
    return _layout(a) == _layout(b) and all(
        np.asarray(x).tobytes() == np.asarray(y).tobytes()
        for x, y in ((a.d, b.d), (a.k, b.k), (a.r, b.r), (a.p, b.p)))


def _layout(info: CameraInfo) -> tuple[Any, ...]:
    return (info.width, info.height, info.binning_x, info.binning_y, info.roi,
            info.distortion_model, info.header.frame_id)
