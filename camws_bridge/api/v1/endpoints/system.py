"""``/api/v1/streams``, ``/healthz`` and ``/metrics``."""
from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from camws_bridge.api.access import METRICS
from camws_bridge.api.bridge import Bridge, Route
from camws_bridge.api.handlers import ApiHandler


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
    """The state of the image source; probes need no token, but learn no details without it."""

    is_open = True

    def get(self) -> None:
        """Answer 200 while they do (or nobody wants any), 503 with the reason otherwise."""
        health = self.bridge.health.check()
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
        (r'/metrics', MetricsHandler, services),
    ]
