"""
The camera of the benchmark: pictures from a ring at a fixed rate, stamped when published.

A process. Each line on its standard input is a JSON object that says what to publish from now on:
``topic`` (a name to put in front, '' for nothing at all), ``width``, ``height``, ``jpeg_bytes``
(0: the demo's scene with camera_info and depth). It answers 'ok' when the first one is out.
"""
from __future__ import annotations

import array
import json
import queue
import sys
import threading
import time
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from benchmarks.harness.pictures import PictureSize, scenes, textures
from camws_bridge.models import Array, CameraModel
from camws_bridge.ros.memory import keep_large_blocks

RATE = 30.0
_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# What belongs to one picture, by topic, in the order in which it is published.
Messages = list[tuple[str, Any]]


class Camera:
    """Publishes one picture of the ring at each tick."""

    def __init__(self, node: Node) -> None:
        """Publish nothing at first."""
        self._node = node
        self._topic = ''
        self._publishers: dict[str, Any] = {}
        self._rings: dict[PictureSize, list[Messages]] = {}
        self._ring: list[Messages] = []
        self._count = 0

    def follow(self, request: dict[str, Any]) -> None:
        """Publish something else from now on."""
        self._topic = request['topic']
        if not self._topic:
            return
        size = PictureSize(request['width'], request['height'], request['jpeg_bytes'])
        if size not in self._rings:
            # One ring at a time: six pictures of 1080p are 37 MB.
            self._rings = {size: _make_ring(size)}
        self._ring = self._rings[size]
        for name, message in self._ring[0]:
            full = f'{self._topic}/{name}'
            if full not in self._publishers:
                self._publishers[full] = self._node.create_publisher(type(message), full, _QOS)

    def tick(self) -> None:
        """Publish the next picture."""
        if not self._topic:
            return
        self._count += 1
        messages = self._ring[self._count % len(self._ring)]
        sec, nanosec = divmod(time.time_ns(), 10 ** 9)
        for name, message in messages:
            message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
            self._publishers[f'{self._topic}/{name}'].publish(message)


def _make_ring(size: PictureSize) -> list[Messages]:
    if size.jpeg_bytes:
        return [[('image', _image(picture, 'bgr8'))] for picture in textures(size)]
    pictures, camera = scenes(size)
    ring: list[Messages] = []
    for picture in pictures:
        assert picture.depth is not None
        ring.append([('camera_info', _camera_info(camera)),
                     ('depth/image', _image(picture.depth, '16UC1')),
                     ('image', _image(picture.image, 'bgr8'))])
    return ring


def _image(pixels: Array, encoding: str) -> Image:
    height, width = pixels.shape[:2]
    message = Image(width=width, height=height, encoding=encoding, step=pixels.strides[0])
    message.header.frame_id = 'camera'
    # An array.array: bytes would be checked one by one.
    message.data = array.array('B', pixels.tobytes())
    return message


def _camera_info(camera: CameraModel) -> CameraInfo:
    message = CameraInfo(
        width=camera.width, height=camera.height, distortion_model=camera.model.value,
        d=camera.d.tolist(), k=camera.k.ravel(), r=camera.r.ravel(), p=camera.p.ravel())
    message.header.frame_id = 'camera'
    return message


def _read_requests(requests: queue.Queue[dict[str, Any] | None]) -> None:
    for line in sys.stdin:
        requests.put(json.loads(line))
    requests.put(None)


def main(arguments: list[str] | None = None) -> None:
    """Publish until the standard input ends or a signal comes."""
    keep_large_blocks()
    rclpy.init(args=arguments)
    requests: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    node = Node('benchmark_camera')
    camera = Camera(node)
    print('ready', flush=True)
    due = time.monotonic()
    while rclpy.ok():
        asked = False
        while not requests.empty():
            request = requests.get()
            if request is None:
                rclpy.shutdown()
                return
            camera.follow(request)
            asked, due = True, time.monotonic()
        camera.tick()
        if asked:
            print('ok', flush=True)
        # Ticks that were missed are not made up for.
        due = max(due + 1 / RATE, time.monotonic() - 1 / RATE)
        time.sleep(max(0.0, due - time.monotonic()))
    node.destroy_node()


if __name__ == '__main__':
    main()
