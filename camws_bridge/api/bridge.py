"""What the endpoints get: the services, as one value."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from camws_bridge.api.access import Access
from camws_bridge.metrics import Metrics
from camws_bridge.services.health_service import HealthService
from camws_bridge.settings import Settings
from camws_bridge.websockets.connection_manager import ConnectionManager
from camws_bridge.websockets.stream_status import StreamStatusService
from camws_bridge.websockets.streaming_service import StreamingService


@dataclass(frozen=True)
class Bridge:
    """
    The services behind the API.

    ``clock`` gives seconds on the clock of the stamps; ``session_id`` differs at every start.
    """

    access: Access
    connections: ConnectionManager
    health: HealthService
    metrics: Metrics
    settings: Callable[[], Settings]
    status: StreamStatusService
    streaming: StreamingService
    clock: Callable[[], float]
    version: str
    session_id: str


# One row of the routing table: pattern, handler, its arguments.
Route = tuple[str, type, dict[str, Any]]
