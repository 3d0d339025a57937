"""Nodes of this process over real DDS: the bridge's side, and cameras and listeners outside."""
from __future__ import annotations

import array
from collections.abc import Callable, Sequence
from functools import cached_property
import itertools
import time
from typing import Any

from builtin_interfaces.msg import Time
import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

RELIABLE = QoSProfile(depth=10)
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_numbers = itertools.count()


class Side:
    """A context, as a process has one, and its executor."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(args=[], context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)

    def close(self) -> None:
        self.executor.shutdown()
        rclpy.shutdown(context=self.context)


class Graph:
    """What one test puts into the graph, in a namespace of its own."""

    def __init__(self, bridge: Side, outside: Side) -> None:
        self.namespace = f'/test{next(_numbers)}'
        self._bridge, self._outside = bridge, outside
        self._nodes: list[tuple[Side, Node]] = []

    @cached_property
    def peer(self) -> Node:
        """The node of all that is outside the bridge."""
        return self._add(self._outside, 'peer', start_parameter_services=False,
                         enable_rosout=False)

    def node(self, *ros_arguments: str) -> Node:
        """Return a node such as main makes it; what is global in ROS is remapped, too."""
        remaps = [word for topic in ('tf', 'tf_static', 'diagnostics')
                  for word in ('-r', f'/{topic}:={self.namespace}/{topic}')]
        return self._add(self._bridge, 'camws_bridge',
                         cli_args=['--ros-args', *remaps, *ros_arguments])

    def _add(self, side: Side, name: str, **options: Any) -> Node:
        node = Node(name, context=side.context, namespace=self.namespace, **options)
        side.executor.add_node(node)
        self._nodes.append((side, node))
        return node

    def remove(self, node: Node) -> None:
        side = next(side for side, found in self._nodes if found is node)
        self._nodes.remove((side, node))
        side.executor.remove_node(node)
        node.destroy_node()

    def topic(self, name: str) -> str:
        return f'{self.namespace}/{name}'

    def publisher(self, kind: Any, name: str, qos: QoSProfile = RELIABLE) -> Any:
        # rclpy's default for incompatible subscriptions uses what rclpy itself has deprecated.
        return self.peer.create_publisher(
            kind, self.topic(name), qos,
            event_callbacks=PublisherEventCallbacks(use_default_callbacks=False))

    def listen(self, kind: Any, name: str, qos: QoSProfile = RELIABLE) -> list[Any]:
        """Return the list that what arrives on a topic is appended to."""
        arrived: list[Any] = []
        self.peer.create_subscription(
            kind, self.topic(name), arrived.append, qos,
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False))
        return arrived

    def spin(self) -> None:
        for side in {self._bridge, self._outside}:
            side.executor.spin_once(timeout_sec=0.005)

    def spin_until(self, condition: Callable[[], object], what: str = '',
                   seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f'not within {seconds} s: {what}'
            self.spin()

    def spin_for(self, seconds: float) -> None:
        """Only to see that something does not come."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.spin()

    def close(self) -> None:
        for _, node in list(self._nodes):
            self.remove(node)


def header(sec: int = 100, nanosec: int = 5, frame_id: str = 'camera_optical') -> Header:
    return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame_id)


def image_message(samples: np.ndarray, encoding: str = 'bgr8', at: Header | None = None,
                  padding: int = 0, big: bool = False, size: Sequence[int] | None = None) -> Image:
    """Return stored rows as a message, padded with garbage; ``size`` where rows differ (h, w)."""
    rows = [row.tobytes() + b'\xa5' * padding
            for row in samples.astype(samples.dtype.newbyteorder('>' if big else '<'))]
    height, width = size or samples.shape[:2]
    return Image(header=at or header(), height=height, width=width, encoding=encoding,
                 is_bigendian=int(big), step=len(rows[0]), data=array.array('B', b''.join(rows)))


def camera_info(width: int = 8, height: int = 6, focal: float = 400.0,
                model: str = 'plumb_bob', d: Sequence[float] = (0.1, 0, 0, 0, 0),
                p_focal: float = 300.0, frame_id: str = 'camera_optical') -> CameraInfo:
    k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0]
    p = [p_focal, 0.0, width / 2, 0.0, 0.0, p_focal, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
    return CameraInfo(header=header(frame_id=frame_id), width=width, height=height,
                      distortion_model=model, d=[float(value) for value in d], k=k,
                      r=np.eye(3).ravel(), p=p)
