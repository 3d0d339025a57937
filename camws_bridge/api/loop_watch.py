"""How punctually the loop turns."""
from __future__ import annotations

import asyncio
from collections.abc import Callable

from camws_bridge.metrics import Metrics

_EVERY = 0.25


def watch_loop(loop: asyncio.AbstractEventLoop, metrics: Metrics, beat: Callable[[], None]
               ) -> None:
    """Measure four times a second how late the loop is, and call ``beat``; loop's thread."""
    def turn(due: float) -> None:
        beat()
        metrics.loop_lag_seconds.observe(max(0.0, loop.time() - due))
        plan()

    def plan() -> None:
        due = loop.time() + _EVERY
        loop.call_at(due, turn, due)

    plan()
