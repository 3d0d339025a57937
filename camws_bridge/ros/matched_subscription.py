"""A subscription that follows its publishers and can be switched off."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from camws_bridge.ros.qos import matching_profile


class MatchedSubscription:
    """
    Subscribes to a topic with the QoS that its publishers offer, while it is active.

    ``update`` looks at the graph; call it regularly. ROS thread only.
    """

    def __init__(self, node: Node, message_type: Any, topic: str,
                 callback: Callable[[Any], None]) -> None:
        """``topic`` is the resolved name; inactive at first."""
        self.topic = topic
        self.publishers = 0
        self.other_types: list[str] = []
        package = message_type.__module__.partition('.')[0]
        self._type_name = f'{package}/msg/{message_type.__name__}'
        self._node, self._type, self._callback = node, message_type, callback
        self._subscription: Subscription[Any] | None = None
        self._profile: QoSProfile | None = None

    @property
    def is_active(self) -> bool:
        """Tell whether the topic is subscribed to."""
        return self._subscription is not None

    def update(self, active: bool) -> None:
        """Be active or not, and follow publishers that came or went."""
        everybody = self._node.get_publishers_info_by_topic(self.topic)
        publishers = [info for info in everybody if info.topic_type == self._type_name]
        self.publishers = len(publishers)
        self.other_types = sorted({info.topic_type for info in everybody} - {self._type_name})
        profile = matching_profile(publishers)
        if self._subscription is not None and not (active and _same(profile, self._profile)):
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
        if active and self._subscription is None:
            self._profile = profile
            # Without rclpy's warning of a publisher that offers less: update follows it.
            self._subscription = self._node.create_subscription(
                self._type, self.topic, self._callback, profile,
                event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False))

    def close(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None


def _same(a: QoSProfile, b: QoSProfile | None) -> bool:
    return b is not None and (a.reliability, a.durability) == (b.reliability, b.durability)
