from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from camws_bridge.ros.qos import matching_profile

R, B = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
V, T = DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL


@pytest.mark.parametrize(('offered', 'reliability', 'durability'), [
    ([], B, V),
    ([(R, V)], R, V),
    ([(B, V)], B, V),
    ([(R, T)], R, T),
    ([(R, V), (R, V)], R, V),
    ([(R, V), (B, V)], B, V),
    ([(R, T), (R, V)], R, V),
    ([(R, T), (B, V)], B, V)])
def test_asked_for_is_what_every_publisher_offers(offered, reliability, durability):
    publishers = [SimpleNamespace(qos_profile=QoSProfile(depth=7, reliability=r, durability=d))
                  for r, d in offered]
    profile = matching_profile(publishers)
    assert (profile.reliability, profile.durability) == (reliability, durability)
    # The newest is all that is ever wanted of a camera.
    assert (profile.history, profile.depth) == (HistoryPolicy.KEEP_LAST, 1)
