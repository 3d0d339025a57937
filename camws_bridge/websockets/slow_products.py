"""Products that take long wait, so that the others get their turn."""
from __future__ import annotations

from collections.abc import Callable
import time

from camws_bridge.models import Variant

# What takes longer than this is slow (seconds).
_SLOW = 0.15


class SlowProducts:
    """
    Says which products may be made now; used by the processing thread only.

    A product that took long pauses for twice as long: at least two thirds of the time are left to
    all others, and a slow product among quick ones costs them a third of their images at most.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives monotonic seconds."""
        self._clock = clock
        self._pauses_until: dict[Variant, float] = {}

    def may_be_made(self, variant: Variant) -> bool:
        """Tell whether a product does not pause now."""
        until = self._pauses_until.get(variant)
        if until is None or self._clock() < until:
            return until is None
        del self._pauses_until[variant]
        return True

    def note(self, variant: Variant, seconds: float) -> None:
        """Note how long a product took just now."""
        if seconds > _SLOW:
            self._pauses_until[variant] = self._clock() + 2.0 * seconds
