import numpy as np
import pytest

pytest.importorskip('rclpy')

from builders import make_frame
from ros_side import RELIABLE
from sensor_msgs.msg import Image

from camws_bridge.models import Stamp
from camws_bridge.ros.overlay_publisher import OverlayPublisher


def test_the_overlay_is_an_image_while_somebody_subscribes(graph):
    overlay = OverlayPublisher(graph.node())
    assert not overlay.is_wanted
    images = graph.listen(Image, 'camws_bridge/debug_image', RELIABLE)
    graph.spin_until(lambda: overlay.is_wanted, 'wanted')
    picture = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    overlay.publish((make_frame(picture, stamp=Stamp(12, 34), frame_id='optical'), picture))
    graph.spin_until(lambda: images, 'the overlay arrives')
    image, = images
    assert (image.header.stamp.sec, image.header.stamp.nanosec) == (12, 34)
    assert (image.header.frame_id, image.encoding, image.step) == ('optical', 'bgr8', 24)
    np.testing.assert_array_equal(np.frombuffer(image.data, np.uint8), picture.ravel())
    subscription, = graph.peer.subscriptions
    graph.peer.destroy_subscription(subscription)
    graph.spin_until(lambda: not overlay.is_wanted, 'not wanted any more')
