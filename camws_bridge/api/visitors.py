"""What is remembered of each address, in a bounded place."""
from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

# An attacker with many addresses must not grow memory: the longest unseen one is forgotten.
MOST_IDLE = 4096


@dataclass(slots=True)
class Bucket:
    """A token bucket: ``rate`` a second, ``burst`` at once. Times are monotonic seconds."""

    level: float | None = None
    at: float = 0.0

    def wait(self, now: float, rate: float, burst: float) -> float:
        """Return the seconds until one may be taken; 0.0 for now."""
        level = burst if self.level is None else self.level + (now - self.at) * rate
        self.level, self.at = min(burst, level), now
        return 0.0 if self.level >= 1.0 else (1.0 - self.level) / rate

    def take(self, now: float, rate: float, burst: float) -> float:
        """Take one; return 0.0, or the seconds until there is one again."""
        seconds = self.wait(now, rate, burst)
        if seconds == 0.0:
            assert self.level is not None
            self.level -= 1.0
        return seconds


@dataclass(slots=True)
class Visitor:
    """One address: what it holds now, how fast it came, which tokens it has shown rightly."""

    key: str
    connections: int = 0
    clients: int = 0
    connects: Bucket = field(default_factory=Bucket)
    answers: Bucket = field(default_factory=Bucket)
    wrong_tokens: Bucket = field(default_factory=Bucket)
    known: set[bytes] = field(default_factory=set)

    @property
    def is_idle(self) -> bool:
        """Tell whether it holds nothing now."""
        return not self.connections and not self.clients


class Visitors:
    """
    The visitors by key (``addresses.visitor_key``). Used on the loop's thread.

    Those that hold something are kept (the limits of connections and clients bound them); of the
    others, the ones seen last.
    """

    def __init__(self, most_idle: int = MOST_IDLE) -> None:
        """``most_idle``: how many visitors that hold nothing are remembered."""
        self._most_idle = most_idle
        self._busy: dict[str, Visitor] = {}
        self._idle: OrderedDict[str, Visitor] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._busy) + len(self._idle)

    def find(self, key: str) -> Visitor:
        """Return what is known of a visitor; a new one if that is nothing."""
        visitor = self._busy.get(key) or self._idle.get(key) or Visitor(key)
        self.changed(visitor)
        return visitor

    def changed(self, visitor: Visitor) -> None:
        """Keep a visitor where it belongs, after what it holds has changed."""
        if not visitor.is_idle:
            self._idle.pop(visitor.key, None)
            self._busy[visitor.key] = visitor
            return
        self._busy.pop(visitor.key, None)
        self._idle[visitor.key] = visitor
        self._idle.move_to_end(visitor.key)
        if len(self._idle) > self._most_idle:
            self._idle.popitem(last=False)
