"""``/api/v1/streams``, ``/healthz``, ``/livez``, ``/readyz`` and ``/metrics``."""
from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from camws_bridge.api.access import METRICS
from camws_bridge.api.bridge import Bridge, Route
from camws_bridge.api.handlers import ApiHandler
from camws_bridge.services.health_service import Health


class StreamsHandler(ApiHandler):
    """The catalogue of streams."""

    def get(self) -> None:
        """Answer with every stream, and why one is not available, or not to this client."""
        entries = self.bridge.status.catalogue()
        for entry in entries:
            entry['allowed'] = self.grant is not None and self.grant.allows(entry['id'])
            if not entry['allowed']:
                entry.update(available=False, reason='your token is not for this stream')
        self.write_json({'streams': entries})


class HealthHandler(ApiHandler):
    """The state of the bridge; probes need no token, but learn no details without it."""

    is_open = True

    def get(self) -> None:
        """Answer 200 while images arrive (or nobody wants any), 503 with the reason otherwise."""
        self.answer(self.bridge.health.check())

    def answer(self, health: Health) -> None:
        """Answer 200 when it is well, 503 with the reason otherwise."""
        if self.grant is None:
            self.set_status(200 if health.is_ok else 503)
            self.write_json({'status': 'ok' if health.is_ok else 'error'})
            return
        if not health.is_ok:
            self.set_status(503)
            self.write_json({'status': 'error', 'code': health.code, 'message': health.message,
                             'error': {'code': health.code, 'message': health.message}})
            return
        self.write_json({'status': 'ok', 'code': health.code, 'message': health.message})


class LivenessHandler(HealthHandler):
    """Whether the process works; one that does not shall be restarted."""

    def get(self) -> None:
        """Answer 200 while all threads turn, whatever the camera does."""
        self.answer(self.bridge.health.check_life())


class ReadinessHandler(HealthHandler):
    """Whether clients are served."""

    def get(self) -> None:
        """Answer 200 while the node is active, whatever the camera does."""
        self.answer(self.bridge.health.check_readiness())


class MetricsHandler(ApiHandler):
    """The counters, for Prometheus."""

    def get(self) -> None:
        """Answer in Prometheus' text format."""
        self.need(METRICS)
        self.set_header('Content-Type', CONTENT_TYPE_LATEST)
        self.write(generate_latest(self.bridge.metrics.registry))


def routes(bridge: Bridge) -> list[Route]:
    """Return the routes of this module."""
    services = {'bridge': bridge}
    return [
        (r'/api/v1/streams', StreamsHandler, services),
        (r'/healthz', HealthHandler, services),
        (r'/livez', LivenessHandler, services),
        (r'/readyz', ReadinessHandler, services),
        (r'/metrics', MetricsHandler, services),
    ]
