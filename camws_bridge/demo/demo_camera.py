"""The demo camera: a ROS 2 node that publishes a scene with a known truth, a video or a webcam."""
from __future__ import annotations

import array
from collections.abc import Sequence
import sys

from builtin_interfaces.msg import Time
import cv2
from geometry_msgs.msg import Transform, TransformStamped
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from camws_bridge.demo.encodings import ENCODERS, NEED_EVEN_SIZE
from camws_bridge.demo.options import declare_options, OptionError, Options
from camws_bridge.demo.scene import Truth
from camws_bridge.demo.sources import open_source, Picture, SourceEnded
from camws_bridge.models import Array, CameraModel, FloatArray
from camws_bridge.vision.encoding import encode, JPEG
from camws_bridge.vision.geometry import to_quaternion

_NAME = 'demo_camera'
_DEPTH_OF_QUEUE = 5
_JPEG_QUALITY = 85


class DemoCamera:
    """Publishes one picture at each tick: first all that belongs to it, then the image itself."""

    def __init__(self, node: Node, options: Options) -> None:
        """Open the source (raises OptionError) and start the timer."""
        self._node, self._options = node, options
        self._source = open_source(options)
        self._make_publishers()
        self._image, self._depth = _ImageMessage(), _ImageMessage()
        self._camera_info = (None if self._source.camera is None
                             else _camera_info(self._source.camera))
        self._started = node.get_clock().now()
        # rcl's timers keep their pace and skip the ticks that were missed.
        node.create_timer(1 / options.rate, self._tick)

    @property
    def topic(self) -> str:
        """Where the images are, in full."""
        return str(self._to_image.topic_name)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _make_publishers(self) -> None:
        qos = QoSProfile(depth=_DEPTH_OF_QUEUE, reliability=ReliabilityPolicy[
            self._options.reliability.upper()])
        create = self._node.create_publisher
        self._to_image = create(Image, 'image_raw', qos)
        self._to_compressed = create(CompressedImage, 'image_raw/compressed', qos)
        if self._source.camera is not None:
            self._to_camera_info = create(CameraInfo, 'camera_info', qos)
            self._to_depth = create(Image, 'depth/image_raw', qos)
            self._to_truth = create(TFMessage, '~/truth', 10)

    def _tick(self) -> None:
        elapsed = (self._node.get_clock().now() - self._started).nanoseconds * 1e-9
        picture = self._source.picture(elapsed)
        if picture is None:
            return
        # Stamped once drawn: ages then count from the moment an image could first be sent.
        header = Header(stamp=self._node.get_clock().now().to_msg(),
                        frame_id=self._options.frame_id)
        self._publish_companions(picture, header)
        self._publish_image(picture.image, header)

    def _publish_companions(self, picture: Picture, header: Header) -> None:
        """Publish what a subscriber wants to have when the image comes."""
        if self._camera_info is not None:
            self._camera_info.header = header
            self._to_camera_info.publish(self._camera_info)
        if picture.truth is not None:
            self._to_truth.publish(truth_message(picture.truth, header.stamp, header.frame_id))
        if picture.depth is not None:
            height, width = picture.depth.shape
            self._to_depth.publish(self._depth.fill(
                header, picture.depth, width, height, '16UC1', 2 * width))

    def _publish_image(self, image: Array, header: Header) -> None:
        encoding = self._options.encoding
        if encoding in NEED_EVEN_SIZE:
            image = image[:image.shape[0] & ~1, :image.shape[1] & ~1]
        height, width = image.shape[:2]
        pixel_bytes, encoder = ENCODERS[encoding]
        self._to_image.publish(self._image.fill(
            header, encoder(image), width, height, encoding, width * pixel_bytes))
        if self._to_compressed.get_subscription_count():
            data = array.array('B', encode(image, JPEG, _JPEG_QUALITY))
            self._to_compressed.publish(CompressedImage(
                header=header, format='bgr8; jpeg compressed bgr8', data=data))


class _ImageMessage:
    """One sensor_msgs/Image whose buffer serves again and again: publishing copies it."""

    def __init__(self) -> None:
        self._message = Image()
        self._view = np.zeros(0, np.uint8)

    def fill(self, header: Header, pixels: Array, width: int, height: int, encoding: str,
             step: int) -> Image:
        if self._view.size != pixels.nbytes:
            # An array.array: bytes would be checked one by one. Some ROS versions copy it, so
            # the view is on what the message holds.
            self._message.data = array.array('B', bytes(pixels.nbytes))
            self._view = np.frombuffer(self._message.data, np.uint8)
        self._view[:] = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
        message = self._message
        message.header, message.encoding = header, encoding
        message.width, message.height, message.step = width, height, step
        return message


def truth_message(truth: Truth, stamp: Time, frame_id: str) -> TFMessage:
    """Return the truth as tf names it: the camera is the parent."""
    poses = {'aruco_board': truth.camera_from_board,
             **{f'aruco_marker_{marker_id}': pose
                for marker_id, pose in truth.camera_from_marker.items()}}
    header = Header(stamp=stamp, frame_id=frame_id)
    return TFMessage(transforms=[
        TransformStamped(header=header, child_frame_id=child, transform=_transform(pose))
        for child, pose in poses.items()])


def _transform(pose: FloatArray) -> Transform:
    transform = Transform()
    for target, names, values in ((transform.translation, 'xyz', pose[:3, 3]),
                                  (transform.rotation, 'xyzw', to_quaternion(pose))):
        for name, value in zip(names, values, strict=True):
            setattr(target, name, float(value))
    return transform


def _camera_info(camera: CameraModel) -> CameraInfo:
    return CameraInfo(
        width=camera.width, height=camera.height, distortion_model=camera.model.value,
        d=camera.d.tolist(), k=camera.k.ravel(), r=camera.r.ravel(), p=camera.p.ravel())


def run(arguments: Sequence[str]) -> int:
    """Publish until a signal comes; return the exit code."""
    node: Node | None = None
    camera: DemoCamera | None = None
    try:
        rclpy.init(args=list(arguments))
        node = rclpy.create_node(_NAME)
        options = declare_options(node)
        camera = DemoCamera(node, options)
        node.get_logger().info(
            f'publishing {options.source or "the demo scene"} on '
            f'{camera.topic} at {options.rate:g} Hz')
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except (OptionError, SourceEnded) as error:
        print(f'camws_demo_camera: {error}', file=sys.stderr)
        return 1
    except Exception:
        # A signal ends the context at any moment, also in the middle of a tick.
        if rclpy.ok():
            raise
        return 0
    finally:
        if camera is not None:
            camera.close()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def main() -> None:
    """Run the console script camws_demo_camera."""
    # One core is the demo's share: the others belong to the bridge.
    cv2.setNumThreads(1)
    sys.exit(run(sys.argv))


if __name__ == '__main__':
    main()
