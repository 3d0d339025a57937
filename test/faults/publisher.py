"""
A camera driver as a process of its own, which can be killed.

    python -m faults.publisher TOPIC WIDTH HEIGHT reliable|best_effort FRAME_ID
"""
from __future__ import annotations

import sys
import time

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from ros_side import BEST_EFFORT, header, image_message, RELIABLE
from sensor_msgs.msg import Image


def main() -> None:
    topic, width, height, reliability, frame_id = sys.argv[1:]
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node('driver')
    publisher = node.create_publisher(
        Image, topic, RELIABLE if reliability == 'reliable' else BEST_EFFORT)
    picture = np.full((int(height), int(width), 3), 90, np.uint8)
    print('publishing', flush=True)
    while True:
        now = time.time()
        at = header(int(now), int(now % 1 * 1e9), frame_id)
        publisher.publish(image_message(picture, at=at))
        time.sleep(0.05)


if __name__ == '__main__':
    main()
