"""Which depth image belongs to which image."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from camws_bridge.models import Array, Frame, Stamp

# Registered depth takes some image periods longer than the image it belongs to.
_KEPT_FRAMES, _KEPT_DEPTHS = 6, 4


class DepthPairing:
    """
    Pairs by stamp, whichever comes first; each depth image is used once.

    ``tolerance`` returns how far stamps may be apart, in seconds.
    """

    def __init__(self, tolerance: Callable[[], float]) -> None:
        """Start with nothing to pair."""
        self._tolerance = tolerance
        self._frames: deque[Frame] = deque(maxlen=_KEPT_FRAMES)
        self._depths: deque[tuple[Stamp, Array]] = deque(maxlen=_KEPT_DEPTHS)

    def add_frame(self, frame: Frame) -> Frame:
        """Return the frame, with its depth image if that has come already."""
        found = min(self._depths, key=lambda item: _distance(item[0], frame.stamp), default=None)
        if found is None or not self._is_near(found[0], frame.stamp):
            self._frames.append(frame)
            return frame
        # By identity: arrays do not compare.
        self._depths = deque((item for item in self._depths if item is not found), _KEPT_DEPTHS)
        return replace(frame, depth=found[1])

    def add_depth(self, stamp: Stamp, depth: Array) -> Frame | None:
        """Return the frame that waited for this depth image; None when none did."""
        frame = min(self._frames, key=lambda frame: _distance(stamp, frame.stamp), default=None)
        if frame is None or not self._is_near(stamp, frame.stamp):
            self._depths.append((stamp, depth))
            return None
        self._frames.remove(frame)
        return replace(frame, depth=depth)

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()
        self._depths.clear()

    def _is_near(self, a: Stamp, b: Stamp) -> bool:
        return _distance(a, b) <= self._tolerance() * 1e9


def _distance(a: Stamp, b: Stamp) -> int:
    """Return how far two stamps are apart, in nanoseconds."""
    # In whole nanoseconds: floats of today's seconds are coarser.
    return abs((a.sec - b.sec) * 10 ** 9 + a.nanosec - b.nanosec)
