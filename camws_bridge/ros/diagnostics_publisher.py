"""The bridge's state on /diagnostics, once a second."""
from __future__ import annotations

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from camws_bridge.services.health_service import Health, HealthService

_PERIOD = 1.0


class DiagnosticsPublisher:
    """Publishes on the ROS thread; the levels are OK, WARN (stale, starting), ERROR."""

    def __init__(self, node: Node, health: HealthService, count_clients: Callable[[], int],
                 address: Callable[[], str]) -> None:
        """``address`` is the server's URL."""
        self._node, self._health = node, health
        self._count_clients, self._address = count_clients, address
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 1)
        node.create_timer(_PERIOD, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self) -> None:
        """Publish the state now."""
        health = self._health.check()
        values = {'code': health.code, 'images': self._health.images,
                  'clients': self._count_clients(), 'address': self._address(),
                  **{f'dropped {reason}': count
                     for reason, count in self._health.dropped.items()}}
        status = DiagnosticStatus(
            level=_level(health), name=f'{self._node.get_fully_qualified_name()}: images',
            message=health.message, hardware_id=self._node.get_name(),
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()])
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)


def _level(health: Health) -> bytes:
    if health.is_ok:
        level: bytes = DiagnosticStatus.OK
    elif health.code in ('stale', 'starting'):
        level = DiagnosticStatus.WARN
    else:
        level = DiagnosticStatus.ERROR
    return level
