"""
Many connects and disconnects a second; ``python -m benchmarks.soak.crush PORT RATE SECONDS``.

Every second one opens a WebSocket and leaves when that is open; the others connect and go. The
last line says how many there were, how many WebSockets were opened, how many a second.
"""
from __future__ import annotations

import asyncio
import json
import sys

from benchmarks.soak.visitor import Left, Visitor

_TICK = 0.02
_PATIENCE = 15.0


class Crush:
    """Connects at an even rate, however long each of them takes."""

    def __init__(self, port: int, path: str = '/ws/markers') -> None:
        """Connect to the bridge on ``port``."""
        self._port, self._path = port, path
        self.connected = self.opened = self.failed = 0

    async def run(self, rate: float, seconds: float) -> float:
        """Connect ``rate`` times a second; return the rate that came about."""
        loop = asyncio.get_running_loop()
        begun, started, running = loop.time(), 0, set[asyncio.Task[None]]()
        while (now := loop.time()) - begun < seconds:
            while started < (now - begun) * rate:
                task = asyncio.create_task(self._come_and_go(started % 2 == 0))
                running.add(task)
                task.add_done_callback(running.discard)
                started += 1
            await asyncio.sleep(_TICK)
        if running:
            await asyncio.wait(running)
        return self.connected / (loop.time() - begun)

    async def _come_and_go(self, opens: bool) -> None:
        try:
            visitor = await Visitor.connect(self._port)
            self.connected += 1
            async with visitor:
                if opens:
                    status = await asyncio.wait_for(visitor.open(self._path), _PATIENCE)
                    self.opened += status == 101
        except (Left, OSError, asyncio.TimeoutError):
            self.failed += 1


async def _main(port: int, rate: float, seconds: float) -> None:
    crush = Crush(port)
    reached = await crush.run(rate, seconds)
    print(json.dumps({'connected': crush.connected, 'opened': crush.opened,
                      'failed': crush.failed, 'rate': round(reached)}), flush=True)


if __name__ == '__main__':
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
