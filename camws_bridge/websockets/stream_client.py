"""
One client of one stream: which message it gets next, and when.

Everything happens on the loop's thread, except ``is_due``, which any thread may ask.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
import time
from typing import Protocol

from camws_bridge.latest_slot import LatestSlot
from camws_bridge.metrics import ClientFigures, Metrics
from camws_bridge.models import Message, Stamp
from camws_bridge.websockets.options import ClientOptions, MAX_WINDOW

# How much too early a message may be to count for the next place in a rate, in periods.
_EARLY = 0.1


class Transport(Protocol):
    """The socket of a client, as it is needed here."""

    def peer(self) -> tuple[str, str]:
        """Return whose it is: address and port, and the name of the token."""

    def send_message(self, message: Message) -> bool:
        """
        Send a message without waiting; raises when the socket is dead.

        True when the kernel took all of it. Otherwise the rest follows by itself, and
        StreamClient.on_drained is called once it is gone.
        """

    def check(self, now: float) -> None:
        """Look after the connection (seconds, monotonic clock)."""

    def close(self, code: int, reason: str) -> None:
        """Say goodbye with a WebSocket close code; what cannot say it just closes."""

    def abort(self) -> None:
        """Cut the connection without a word."""


class StreamClient:
    """
    Paces one client: at most one message waits for it, always the newest.

    Three things hold a message back: the socket has not taken the last one yet, the window of
    unacknowledged messages is full (for clients that have sent an ack), or the client's ``fps``.
    ``sent``, ``replaced`` and ``last_stamp`` say what it got so far.
    """

    def __init__(self, transport: Transport, stream_id: str, options: ClientOptions,
                 metrics: Metrics, on_ready: Callable[[], None],
                 clock: Callable[[], float] = time.monotonic) -> None:
        """``on_ready`` is called when a busy client is free again; ``clock`` gives seconds."""
        self.options = options
        self.since = self.last_alive = clock()
        self.sent = self.replaced = 0
        self.last_stamp: Stamp | None = None
        self._on_ready = on_ready
        self._transport = transport
        self._clock = clock
        self._slot: LatestSlot[Message] = LatestSlot()
        self._sending = False
        self._paced_by_acks = False
        # Bounded for those that never acknowledge; nobody's window is wider.
        self._unacknowledged: deque[int] = deque(maxlen=MAX_WINDOW)
        self._next_due = 0.0
        self._last_seq = self._sent_seq = self._acknowledged_seq = -1
        self._stream_id, self._peer = stream_id, transport.peer()
        self._busy_since: float | None = None
        self._busy_seconds = 0.0
        self._tally = metrics.tally(stream_id)
        self._replaced = metrics.messages_replaced.labels(stream_id, 'client')

    def is_due(self, now: float) -> bool:
        """
        Tell whether the client would be sent a message now (seconds, monotonic clock).

        For a busy client nothing is made; it asks for the newest when it is ready again.
        """
        return not self._is_busy() and self._is_in_time(now)

    def busy_seconds(self, now: float) -> float:
        """Return for how long in all the client could not be sent anything (seconds)."""
        return self._busy_seconds + (0.0 if self._busy_since is None else now - self._busy_since)

    def figures(self, now: float) -> ClientFigures:
        """Return how the client is served (``now``: seconds on the clock of the stamps)."""
        stamp = self.last_stamp
        return ClientFigures(
            self._stream_id, *self._peer, self.sent, self.replaced,
            None if stamp is None else now - stamp.sec - stamp.nanosec * 1e-9,
            self._sent_seq - self._acknowledged_seq if self._acknowledged_seq >= 0 else None)

    def offer(self, message: Message) -> None:
        """Take the newest message: sent now, or kept in place of an older one."""
        # Once for every client and message: what most clients do not need costs them no call.
        # Equal: sent before. Less: two threads made pictures, and this one was overtaken.
        if message.seq <= self._last_seq:
            return
        if self.options.fps is not None and not self._takes_its_place(self.options.fps):
            return
        self._last_seq = message.seq
        if not (self._sending or self._paced_by_acks) or not self._is_busy():
            self._send(message)
        elif self._slot.put(message) is not None:
            self.replaced += 1
            self._replaced.inc()

    def acknowledge(self, seq: int) -> None:
        """Note that the client has shown message ``seq`` (and all before it)."""
        self._paced_by_acks = True
        self._acknowledged_seq = max(self._acknowledged_seq, min(seq, self._sent_seq))
        while self._unacknowledged and self._unacknowledged[0] <= seq:
            self._unacknowledged.popleft()
        self._go_on()

    def configure(self, options: ClientOptions, is_other_variant: bool) -> None:
        """Change what the client asked for, from the next message on."""
        self.options = options
        self._next_due = 0.0
        if is_other_variant:
            # What waits is of the old variant, and its image may come again in the new one.
            self._slot.take()
            self._last_seq -= 1
        self._go_on()

    def on_drained(self) -> None:
        """Go on: the kernel has taken the last message."""
        self.on_alive()
        self._sending = False
        self._go_on()

    def on_alive(self) -> None:
        """Note a sign of life: a backlog taken, a pong, a message."""
        self.last_alive = self._clock()

    def check(self, now: float) -> None:
        """Look after the connection (seconds, monotonic clock)."""
        self._transport.check(now)

    def close(self, code: int, reason: str) -> None:
        """Say goodbye with a WebSocket close code."""
        self._transport.close(code, reason)

    def abort(self) -> None:
        """Cut the connection without a word."""
        self._transport.abort()

    def _is_in_time(self, now: float) -> bool:
        fps = self.options.fps
        return fps is None or now >= self._next_due - _EARLY / fps

    def _takes_its_place(self, fps: float) -> bool:
        """Take the next place in the client's rate; False when it is too early for one."""
        now, period = self._clock(), 1.0 / fps
        if not self._is_in_time(now):
            return False
        # Places in the rate are even; places that were missed are not made up for.
        place = self._next_due if now - self._next_due < period else now
        self._next_due = place + period
        return True

    def _go_on(self) -> None:
        """Send what waits; if nothing does, the newest may not have been made for this client."""
        if self._is_busy():
            return
        if self._busy_since is not None:
            self._busy_seconds += self._clock() - self._busy_since
            self._busy_since = None
        message = self._slot.take()
        if message is not None:
            self._send(message)
        if self.is_due(self._clock()):
            self._on_ready()

    def _send(self, message: Message) -> None:
        self._unacknowledged.append(message.seq)
        self._sending = not self._transport.send_message(message)
        self.sent += 1
        self.last_stamp = message.stamp
        self._sent_seq = message.seq
        self._tally.messages += 1
        self._tally.bytes += len(message.frame)
        if (self._sending or self._paced_by_acks) and self._busy_since is None and self._is_busy():
            self._busy_since = self._clock()

    def _is_busy(self) -> bool:
        return self._sending or (
            self._paced_by_acks and len(self._unacknowledged) >= self.options.window)
