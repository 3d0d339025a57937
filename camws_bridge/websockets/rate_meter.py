"""How often something happens."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
import time

_WINDOW = 2.0


class RateMeter:
    """Events a second over the last two seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives monotonic seconds."""
        self._clock = clock
        self._times: deque[float] = deque(maxlen=1000)
        self._last_seq = -1

    def add(self, seq: int) -> None:
        """Note an event; the same ``seq`` as before is the same event."""
        if seq != self._last_seq:
            self._last_seq = seq
            self._times.append(self._clock())

    @property
    def rate(self) -> float:
        """Events a second (Hz)."""
        oldest = self._clock() - _WINDOW
        while self._times and self._times[0] < oldest:
            self._times.popleft()
        if len(self._times) < 2:
            return 0.0
        return (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-9)
