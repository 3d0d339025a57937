"""
The bridge's counters, in one registry that /metrics exposes.

Names follow Prometheus' conventions; prometheus_client's objects are safe on every thread.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_SECONDS = (.0005, .001, .002, .004, .008, .016, .033, .066, .133, .266, .533, 1.0, 2.0)


class StreamTally:
    """
    What the clients of one stream were sent; counted on the loop's thread only.

    Plain numbers: they are counted for every message and client, where the lock of a Counter
    would cost as much as all the rest of the bridge's own work.
    """

    __slots__ = ('bytes', 'messages')

    def __init__(self) -> None:
        """Start at zero."""
        self.messages = self.bytes = 0


class _Tallies(Collector):
    """Shows the tallies of all streams as counters."""

    _FAMILIES: tuple[tuple[str, str, Callable[[StreamTally], int]], ...] = (
        ('camws_messages_sent', "Messages handed to clients' sockets", lambda it: it.messages),
        ('camws_bytes_sent', "Bytes of messages handed to clients' sockets", lambda it: it.bytes))

    def __init__(self) -> None:
        self.streams: dict[str, StreamTally] = {}

    def collect(self) -> Iterable[Metric]:
        for name, text, value in self._FAMILIES:
            family = CounterMetricFamily(name, text, labels=['stream'])
            for stream_id, tally in list(self.streams.items()):
                family.add_metric([stream_id], value(tally))
            yield family


@dataclass(frozen=True, slots=True)
class ClientFigures:
    """
    How one client is served.

    ``client`` is its address and port, ``name`` that of its token. ``age`` of what it was sent
    last: now minus the image's stamp (s). ``unacknowledged``: by how many images what it has
    acknowledged is behind what it was sent. None: nothing was sent, or it never acknowledges.
    """

    stream: str
    client: str
    name: str
    sent: int
    replaced: int
    age: float | None
    unacknowledged: int | None


class _Clients(Collector):
    """Shows the figures of clients as they are when they are asked for."""

    _LABELS = ('stream', 'client', 'name')

    def __init__(self) -> None:
        self.find: Callable[[], Sequence[ClientFigures]] = list

    def collect(self) -> Iterable[Metric]:
        sent = CounterMetricFamily(
            'camws_client_messages_sent', 'Messages handed to the socket of one client',
            labels=self._LABELS)
        replaced = CounterMetricFamily(
            'camws_client_messages_replaced', 'Messages of one client replaced by a newer one '
            'before they were sent', labels=self._LABELS)
        age = GaugeMetricFamily(
            'camws_client_age_seconds', 'Age of what one client was sent last (now minus the '
            "image's stamp)", labels=self._LABELS)
        behind = GaugeMetricFamily(
            'camws_client_unacknowledged_images', 'By how many images what one client has '
            'acknowledged is behind what it was sent', labels=self._LABELS)
        for found in self.find():
            labels = (found.stream, found.client, found.name)
            sent.add_metric(labels, found.sent)
            replaced.add_metric(labels, found.replaced)
            if found.age is not None:
                age.add_metric(labels, found.age)
            if found.unacknowledged is not None:
                behind.add_metric(labels, found.unacknowledged)
        return sent, replaced, age, behind


class Metrics:
    """Every metric of one bridge; each instance has its own registry."""

    def __init__(self) -> None:
        """Create the metrics at zero."""
        registry = self.registry = CollectorRegistry()
        self.images_received = Counter(
            'camws_images_received', 'Camera images received', registry=registry)
        self.images_dropped = Counter(
            'camws_images_dropped', 'Images dropped before processing, by reason', ['reason'],
            registry=registry)
        self.receive_gap_seconds = Histogram(
            'camws_receive_gap_seconds', 'Time between one camera image and the next',
            buckets=_SECONDS, registry=registry)
        self.processing_errors = Counter(
            'camws_processing_errors', 'Products that failed, by stream', ['stream'],
            registry=registry)
        self.stage_seconds = Histogram(
            'camws_stage_seconds', 'Time spent by stage of the work on an image', ['stage'],
            buckets=_SECONDS, registry=registry)
        self.image_age_seconds = Histogram(
            'camws_image_age_seconds', 'Age of an image (now minus its stamp) on arrival',
            buckets=_SECONDS, registry=registry)
        self.messages_produced = Counter(
            'camws_messages_produced', 'Messages made', ['stream'], registry=registry)
        self._tallies = _Tallies()
        registry.register(self._tallies)
        self._clients = _Clients()
        registry.register(self._clients)
        self.messages_replaced = Counter(
            'camws_messages_replaced', 'Messages replaced by a newer one before they were sent, '
            'by where they waited', ['stream', 'hop'], registry=registry)
        self.clients = Gauge(
            'camws_clients', 'Clients connected', ['stream'], registry=registry)
        self.clients_removed = Counter(
            'camws_clients_removed', 'Clients removed by the bridge, by reason', ['reason'],
            registry=registry)
        self.refused = Counter(
            'camws_refused', 'Connections, requests, clients and messages refused, by reason',
            ['reason'], registry=registry)
        self.connections = Gauge(
            'camws_connections', 'TCP connections open', registry=registry)
        self.markers_detected = Counter(
            'camws_markers_detected', 'Markers detected', registry=registry)
        self.handler_errors = Counter(
            'camws_handler_errors', 'Events whose handler failed (tf, overlay), by event',
            ['event'], registry=registry)
        self.ros_errors = Counter(
            'camws_ros_errors', 'Failures on the ROS side that were caught, by place', ['place'],
            registry=registry)
        self.loop_lag_seconds = Histogram(
            'camws_loop_lag_seconds', "How much too late the web server's loop turns",
            buckets=_SECONDS, registry=registry)
        self.threads_alive = Gauge(
            'camws_threads_alive', 'Whether a thread of the bridge runs', ['thread'],
            registry=registry)
        # Memory, CPU and open files of the process, under Prometheus' own names.
        ProcessCollector(registry=registry)
        self.adaptations = Counter(
            'camws_adaptations', 'Changes of size, quality or rate for adaptive clients, by '
            'direction', ['direction'], registry=registry)

    def tally(self, stream_id: str) -> StreamTally:
        """Return what the clients of a stream were sent (loop's thread)."""
        return self._tallies.streams.setdefault(stream_id, StreamTally())

    def watch_clients(self, find: Callable[[], Sequence[ClientFigures]]) -> None:
        """Show the figures of these clients whenever the metrics are read."""
        self._clients.find = find

    def watch_threads(self, names: Iterable[str], is_alive: Callable[[str], bool]) -> None:
        """Show whether threads run whenever the metrics are read."""
        for name in names:
            self.threads_alive.labels(name).set_function(partial(is_alive, name))


def total(counter: Counter) -> int:
    """Return the sum of a counter over all its labels."""
    return int(sum(sample.value for metric in counter.collect() for sample in metric.samples
                   if sample.name.endswith('_total')))
