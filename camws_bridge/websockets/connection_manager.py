"""Who is connected to what, and the one place where messages fan out."""
from __future__ import annotations

import heapq
import logging
from typing import Protocol

from camws_bridge.metrics import ClientFigures, Metrics
from camws_bridge.models import Message, Variant

log = logging.getLogger(__name__)


class Client(Protocol):
    """
    One subscriber. ``offer`` never waits; it raises when the client is dead.

    ``since``: when it came (seconds, monotonic clock).
    """

    since: float

    def offer(self, message: Message) -> None:
        """Take the newest message, replacing what was not yet sent."""

    def is_due(self, now: float) -> bool:
        """Tell whether the client would take a message now (seconds, monotonic clock)."""

    def check(self, now: float) -> None:
        """Look after the connection: called regularly (seconds, monotonic clock)."""

    def figures(self, now: float) -> ClientFigures:
        """Return how the client is served (seconds, clock of the stamps)."""

    def close(self, code: int, reason: str) -> None:
        """Say goodbye with a WebSocket close code; what cannot say it just closes."""

    def abort(self) -> None:
        """Cut the connection without a word; never raises."""


class ConnectionManager:
    """
    The subscribers of every stream, one set for each variant of it.

    Used on the loop's thread. The sets are replaced, never changed, so that other threads may
    look at ``wanted`` and ``variants`` at any time.
    """

    def __init__(self, metrics: Metrics) -> None:
        """Start with nobody."""
        self._metrics = metrics
        self._subscribers: dict[Variant, frozenset[Client]] = {}

    def connect(self, stream: Variant, client: Client) -> None:
        """Add a client to the subscribers of a stream."""
        clients = self._subscribers.get(stream, frozenset()) | {client}
        self._subscribers = {**self._subscribers, stream: clients}
        self._update_gauge(stream.stream_id)

    def disconnect(self, stream: Variant, client: Client) -> None:
        """Remove a client from the subscribers of a stream; one that is not there is no error."""
        clients = self._subscribers.get(stream, frozenset()) - {client}
        remaining = {key: value for key, value in self._subscribers.items() if key != stream}
        self._subscribers = {**remaining, stream: clients} if clients else remaining
        self._update_gauge(stream.stream_id)

    def broadcast_bytes(self, stream: Variant, message: Message) -> None:
        """Offer an image message to every subscriber of a stream."""
        self._broadcast(stream, message)

    def broadcast_text(self, stream: Variant, message: Message) -> None:
        """Offer a JSON message to every subscriber of a stream."""
        self._broadcast(stream, message)

    def wanted(self, now: float) -> list[Variant]:
        """Return the variants that some client would take now (seconds, monotonic clock)."""
        return [variant for variant, clients in self._subscribers.items()
                if any(client.is_due(now) for client in clients)]

    @property
    def variants(self) -> list[Variant]:
        """The variants that have subscribers."""
        return list(self._subscribers)

    def count(self, stream_id: str) -> int:
        """Return the number of subscribers of a stream, all its variants together."""
        return sum(len(clients) for variant, clients in self._subscribers.items()
                   if variant.stream_id == stream_id)

    @property
    def total(self) -> int:
        """The number of subscribers of all streams."""
        return sum(map(len, self._subscribers.values()))

    def clients(self) -> list[Client]:
        """Return every client."""
        return [client for clients in self._subscribers.values() for client in clients]

    def figures(self, most: int, now: float) -> list[ClientFigures]:
        """
        Return how clients are served: of those that have been there for longest, so many.

        ``now`` is in seconds on the clock of the stamps.
        """
        chosen = heapq.nsmallest(most, self.clients(), key=lambda client: client.since)
        return [client.figures(now) for client in chosen]

    def _broadcast(self, stream: Variant, message: Message) -> None:
        for client in self._subscribers.get(stream, frozenset()):
            try:
                client.offer(message)
            except Exception as error:  # one client's failure is never another's
                self._remove_dead(stream, client, error)

    def _remove_dead(self, stream: Variant, client: Client, error: Exception) -> None:
        log.info('a client of %s is dead and removed: %r', stream.stream_id, error)
        self.disconnect(stream, client)
        self._metrics.clients_removed.labels('send_failed').inc()
        client.abort()

    def _update_gauge(self, stream_id: str) -> None:
        self._metrics.clients.labels(stream_id).set(self.count(stream_id))
