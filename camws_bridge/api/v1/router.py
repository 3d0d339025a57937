"""The table of routes of version 1."""
from __future__ import annotations

from camws_bridge.api.bridge import Bridge, Route
from camws_bridge.api.v1.endpoints import images, system, transforms, websockets


def routes(bridge: Bridge) -> list[Route]:
    """Return every route of version 1."""
    return [*websockets.routes(bridge), *images.routes(bridge), *transforms.routes(bridge),
            *system.routes(bridge)]
