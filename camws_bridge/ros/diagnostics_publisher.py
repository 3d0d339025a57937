"""The bridge's state on /diagnostics, once a second."""
from __future__ import annotations

from collections.abc import Callable, Mapping
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from camws_bridge.metrics import Metrics, total
from camws_bridge.ros.guard import guarded
from camws_bridge.services.health_service import Health, HealthService

_PERIOD = 1.0


class DiagnosticsPublisher:
    """The levels are OK, WARN (stale, starting), ERROR (no images, a thread died or hangs)."""

    def __init__(self, node: Node, health: HealthService, metrics: Metrics,
                 facts: Callable[[], Mapping[str, object]]) -> None:
        """``facts`` are what else to tell, by name: clients, the server's address."""
        self._node, self._health, self._metrics, self._facts = node, health, metrics, facts
        self._images, self._images_at = health.images, time.monotonic()
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 1)
        self._timer = node.create_timer(
            _PERIOD, guarded('diagnostics', self.publish, metrics.ros_errors),
            clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        """Publish no more."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)

    def publish(self) -> None:
        """Publish the state now; usually on the ROS thread, on another when that has died."""
        health, age = self._health.check(), self._health.age
        values = {'code': health.code, 'images': self._health.images,
                  'rate (Hz)': f'{self._rate():.1f}',
                  'seconds since the last image': 'none' if age is None else f'{age:.2f}',
                  'replaced before sending': total(self._metrics.messages_replaced),
                  'products failed': total(self._metrics.processing_errors),
                  'clients removed': total(self._metrics.clients_removed),
                  **self._facts(),
                  **{f'dropped {reason}': count
                     for reason, count in self._health.dropped.items()}}
        status = DiagnosticStatus(
            level=_level(health), name=f'{self._node.get_fully_qualified_name()}: images',
            message=health.message, hardware_id=self._node.get_name(),
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()])
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _rate(self) -> float:
        """Return how many images a second arrived since the last time (Hz)."""
        images, now = self._health.images, time.monotonic()
        rate = (images - self._images) / max(now - self._images_at, 1e-3)
        self._images, self._images_at = images, now
        return rate


def _level(health: Health) -> bytes:
    if health.is_ok:
        level: bytes = DiagnosticStatus.OK
    elif health.code in ('stale', 'starting'):
        level = DiagnosticStatus.WARN
    else:
        level = DiagnosticStatus.ERROR
    return level
