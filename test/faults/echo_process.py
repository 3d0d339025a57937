"""
An echo endpoint with the server's settings and protocol, for tests of conformance only.

    python -m faults.echo_process

It prints its address. Messages may be as long as the conformance suites send them.
"""
from __future__ import annotations

import sys
from typing import Any

from tornado.websocket import WebSocketHandler
from web_bridge import running_bridge

from camws_bridge.api.bridge import Bridge, Route
from camws_bridge.api.v1 import router
from camws_bridge.api.v1.endpoints.websockets import StreamSocket


class EchoSocket(StreamSocket):
    """Sends back what it gets, over the same protocol as streams."""

    def open(self, *_: str) -> None:
        pass

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))

    close = WebSocketHandler.close


def main() -> None:
    streams = router.routes

    def routes(bridge: Bridge) -> list[Route]:
        arguments: dict[str, Any] = {'bridge': bridge}
        return [(r'/(echo)', EchoSocket, arguments), *streams(bridge)]

    router.routes = routes
    with running_bridge(limits__message_bytes=1 << 24,
                        limits__messages_per_second=100000.0) as bridge:
        print(f'listening on {bridge.http}', flush=True)
        sys.stdin.read()


if __name__ == '__main__':
    main()
