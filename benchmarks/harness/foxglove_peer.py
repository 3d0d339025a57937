"""
What the bridge is compared with: a foxglove-sdk server fed by rclpy and simplejpeg.

A process: ``foxglove_peer TOPIC``, as its users run it (no malloc tuning). Prints
'listening PORT'.
"""
from __future__ import annotations

import socket
import sys

import foxglove
from foxglove.channels import CompressedImageChannel
from foxglove.messages import CompressedImage, Timestamp
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
import simplejpeg

from benchmarks.harness.pictures import QUALITY


def _free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as probe:
        return int(probe.getsockname()[1])


def main() -> None:
    """Run until a signal comes."""
    rclpy.init()
    node = Node('foxglove_peer')
    port = _free_port()
    server = foxglove.start_server(host='127.0.0.1', port=port)
    channel = CompressedImageChannel('/image')

    def on_image(message: Image) -> None:
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        data = simplejpeg.encode_jpeg(pixels, quality=QUALITY, colorspace='BGR',
                                      colorsubsampling='420')
        stamp = message.header.stamp
        channel.log(CompressedImage(timestamp=Timestamp(stamp.sec, stamp.nanosec),
                                    frame_id='camera', data=data, format='jpeg'),
                    log_time=stamp.sec * 10 ** 9 + stamp.nanosec)

    node.create_subscription(Image, sys.argv[1], on_image,
                             QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    print(f'listening {port}', flush=True)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except (ExternalShutdownException, KeyboardInterrupt):
        pass
    server.stop()
    node.destroy_node()


if __name__ == '__main__':
    main()
