"""The ArUco overlay as ~/debug_image, while somebody subscribes."""
from __future__ import annotations

from rclpy.node import Node
from sensor_msgs.msg import Image

from camws_bridge.models import Array, Frame
from camws_bridge.ros.conversions import to_header, to_image_message


class OverlayPublisher:
    """The handler of OVERLAY_DRAWN; publishes from the thread that draws."""

    def __init__(self, node: Node) -> None:
        """Create the publisher."""
        self._node = node
        self._publisher = node.create_publisher(Image, '~/debug_image', 1)

    def close(self) -> None:
        """Publish no more."""
        self._node.destroy_publisher(self._publisher)

    @property
    def is_wanted(self) -> bool:
        """Tell whether somebody subscribes."""
        return bool(self._publisher.get_subscription_count() > 0)

    def publish(self, overlay: tuple[Frame, Array]) -> None:
        """Publish a drawn picture (BGR) under the stamp of its image."""
        frame, picture = overlay
        header = to_header(frame.stamp, frame.frame_id)
        self._publisher.publish(to_image_message(picture, header))
