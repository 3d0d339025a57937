"""The quality of service that matches whatever the publishers of a topic offer."""
from __future__ import annotations

from collections.abc import Sequence

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo


def matching_profile(publishers: Sequence[TopicEndpointInfo]) -> QoSProfile:
    """
    Return the profile that receives from every publisher.

    Reliable and transient-local only when all of them offer it. Only the newest message is kept.
    """
    offered = [publisher.qos_profile for publisher in publishers]
    reliable = bool(offered) and all(
        profile.reliability is ReliabilityPolicy.RELIABLE for profile in offered)
    latched = bool(offered) and all(
        profile.durability is DurabilityPolicy.TRANSIENT_LOCAL for profile in offered)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE)
