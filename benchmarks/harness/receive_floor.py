"""
Floor (a): receive with rclpy and encode, nothing else; and the same with one bare socket.

A process: ``receive_floor TOPIC``. Prints 'listening PORT'; a client that connects gets every
image as a camws.v1 message, written by one plain send. On its standard input: 'reset' forgets,
'report' answers with the ages at the end of the encode since then, as one line of JSON.
"""
from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time

import cv2
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from benchmarks.harness.pictures import QUALITY
from camws_bridge.ros.memory import keep_large_blocks

_RESPONSE = (b'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
             b'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n'
             b'Sec-WebSocket-Protocol: camws.v1\r\n\r\n')


class Loop:
    """The bare loop."""

    def __init__(self) -> None:
        """Start with no client."""
        self.ages: list[float] = []
        self.seq = 0
        self.client: socket.socket | None = None

    def on_image(self, message: Image) -> None:
        """Encode an image and send it."""
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        data = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        stamp = message.header.stamp
        self.ages.append(time.time() - stamp.sec - stamp.nanosec * 1e-9)
        self.seq += 1
        if self.client is not None:
            self._send(self.client, data, stamp.sec, stamp.nanosec)

    def _send(self, client: socket.socket, data: np.ndarray, sec: int, nanosec: int) -> None:
        text = b'{"seq":%d,"stamp":{"sec":%d,"nanosec":%d}}' % (self.seq, sec, nanosec)
        text += b' ' * (-len(text) % 8)
        start = struct.pack('!BBQ', 0x82, 127, 8 + len(text) + len(data))
        try:
            client.sendall(b''.join((start, struct.pack('<BBHI', 1, 1, 0, len(text)), text,
                                     data.data)))
        except OSError:
            self.client = None
            client.close()

    def serve(self, listening: socket.socket) -> None:
        """Take clients, one after the other."""
        while True:
            client, _ = listening.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.recv(4096)
            client.sendall(_RESPONSE)
            self.client = client

    def answer(self) -> None:
        """Follow the standard input."""
        for line in sys.stdin:
            if line.strip() == 'reset':
                self.ages = []
                print('reset', flush=True)
            else:
                p50, p95, p99 = np.percentile(self.ages or [np.nan], (50, 95, 99)) * 1e3
                print(json.dumps({'frames': len(self.ages), 'age_ms': {
                    'p50': p50, 'p95': p95, 'p99': p99}}), flush=True)


def main() -> None:
    """Run until a signal comes."""
    keep_large_blocks()
    rclpy.init()
    node = Node('receive_floor')
    loop = Loop()
    node.create_subscription(Image, sys.argv[1], loop.on_image,
                             QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    listening = socket.create_server(('127.0.0.1', 0))
    for target, arguments in ((loop.serve, (listening,)), (loop.answer, ())):
        threading.Thread(target=target, args=arguments, daemon=True).start()
    print(f'listening {listening.getsockname()[1]}', flush=True)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except (ExternalShutdownException, KeyboardInterrupt):
        pass
    node.destroy_node()


if __name__ == '__main__':
    main()
