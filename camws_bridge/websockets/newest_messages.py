"""The newest message of every variant, and those who wait for one."""
from __future__ import annotations

import asyncio
from collections import OrderedDict

from camws_bridge.models import Message, Variant
from camws_bridge.websockets.rate_meter import RateMeter

# Variants whose newest message is kept for those who come next.
_KEPT = 64


class NewestMessages:
    """Used on the loop's thread, except ``awaited``, which any thread may read."""

    def __init__(self) -> None:
        """Start empty."""
        self._messages: OrderedDict[Variant, Message] = OrderedDict()
        self._futures: dict[Variant, list[asyncio.Future[Message]]] = {}
        self._rates: dict[str, RateMeter] = {}
        self.awaited: frozenset[Variant] = frozenset()

    def get(self, variant: Variant) -> Message | None:
        """Return the newest message of a variant that is still kept."""
        return self._messages.get(variant)

    def keep(self, message: Message) -> None:
        """Keep a message as the newest of its variant, and give it to those who wait."""
        variant = message.variant
        kept = self._messages.get(variant)
        if kept is not None and kept.seq > message.seq:
            return
        self._rates.setdefault(variant.stream_id, RateMeter()).add(message.seq)
        self._messages[variant] = message
        self._messages.move_to_end(variant)
        if len(self._messages) > _KEPT:
            self._messages.popitem(last=False)
        for future in self._futures.pop(variant, []):
            if not future.done():
                future.set_result(message)
        self._update_awaited()

    def clear(self) -> None:
        """Forget all messages; who waits goes on waiting."""
        self._messages.clear()

    def expect(self, variant: Variant) -> asyncio.Future[Message]:
        """Return a future of the next message of a variant; give it to ``give_up`` at the end."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(variant, []).append(future)
        self._update_awaited()
        return future

    def give_up(self, variant: Variant, future: asyncio.Future[Message]) -> None:
        """No longer expect a message; it does not matter whether it came."""
        futures = self._futures.get(variant, [])
        if future in futures:
            futures.remove(future)
        if not futures:
            self._futures.pop(variant, None)
        self._update_awaited()

    def rate(self, stream_id: str) -> float:
        """Return how many messages a second a stream had lately (Hz)."""
        meter = self._rates.get(stream_id)
        return meter.rate if meter else 0.0

    def _update_awaited(self) -> None:
        # Replaced, never changed: another thread may be reading it.
        self.awaited = frozenset(self._futures)
