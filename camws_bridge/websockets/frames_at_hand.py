"""
Of which frame each message is made: the newest, the newest with depth, or the one for poses.

They are often the same. A depth image may come some images late; what shows depth is made of the
frame it belongs to. With depth.refine_poses, poses wait for it too, each for a short while.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
import time

from camws_bridge.models import Frame, Variant
from camws_bridge.services import image_service, json_service
from camws_bridge.services.frame_context import FrameContext

# Frames that wait for their depth at the same time: for older ones none is paired any more.
_MOST_WAITING = 6
# How long poses go on waiting for depth after the last depth image (seconds).
_RECENT = 1.0


class FramesAtHand:
    """Used by the processing thread; other threads may read its attributes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with no frame; ``clock`` gives monotonic seconds."""
        self.newest: FrameContext | None = None
        self.with_depth: FrameContext | None = None
        self.for_poses: FrameContext | None = None
        self.depth_paired_at = 0.0
        self._clock = clock
        self._waiting: deque[tuple[float, FrameContext]] = deque()

    def clear(self) -> None:
        """Forget all frames."""
        self.newest = self.with_depth = self.for_poses = None
        self._waiting.clear()

    def begin(self, context: FrameContext) -> None:
        """Take the newest frame."""
        self.newest = context
        now, depth = self._clock(), context.settings.depth
        if context.frame.depth is not None:
            self.with_depth, self.depth_paired_at = context, now
        elif depth.refine_poses and now - self.depth_paired_at < _RECENT:
            self._waiting.append((now + depth.max_wait, context))
            if len(self._waiting) > _MOST_WAITING:
                self._stop_at(self._waiting[0][1])
            return
        self._stop_at(context)

    def add_depth(self, frame: Frame, make: Callable[[Frame], FrameContext]) -> None:
        """Take the depth of an earlier frame; ``make`` makes its context if it is gone."""
        known = (self.newest, *(context for _, context in self._waiting))
        context = next((context for context in known
                        if context is not None and context.frame.seq == frame.seq), None)
        waits = any(context is waiting for _, waiting in self._waiting)
        if context is None:
            context = make(frame)
        else:
            context.add_depth(frame)
        self.with_depth, self.depth_paired_at = context, self._clock()
        if waits:
            self._stop_at(context)

    def stop_waiting(self) -> None:
        """Go on with the newest frame that has waited for its depth long enough."""
        now = self._clock()
        late = [context for until, context in self._waiting if until <= now]
        if late:
            self._stop_at(late[-1])

    @property
    def patience(self) -> float | None:
        """How long until ``stop_waiting`` has something to do (seconds); None: for ever."""
        return max(0.0, self._waiting[0][0] - self._clock()) if self._waiting else None

    def of(self, variant: Variant) -> FrameContext | None:
        """Return what a message is made of; None when there is nothing yet."""
        if needs_depth(variant):
            return self.with_depth
        return self.for_poses if shows_poses(variant) else self.newest

    def _stop_at(self, context: FrameContext) -> None:
        """Wait no longer: poses are made of this frame, and never of an earlier one."""
        self.for_poses = context
        while self._waiting and self._waiting[0][1].frame.seq <= context.frame.seq:
            self._waiting.popleft()


def needs_depth(variant: Variant) -> bool:
    """Tell whether a message is made of the depth image."""
    product = image_service.CATALOGUE.get(variant.stream_id)
    return product is not None and 'depth' in product.needs


def shows_poses(variant: Variant) -> bool:
    """Tell whether a message holds anything of what was detected in the frame."""
    product = image_service.CATALOGUE.get(variant.stream_id)
    if product is not None and product.shows_poses:
        return True
    names = variant.embed if product else (variant.stream_id,)
    return any(name != json_service.CAMERA_INFO for name in names)
