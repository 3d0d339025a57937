"""
Less for clients whose link or page falls behind: first quality, then width, then rate.

Pure: time comes in as an argument. The rungs are the same for all clients, so that adaptive
clients share variants instead of having an encoder each.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from camws_bridge.websockets.options import ClientOptions

# Behind: cannot be sent anything for this share of the time, and misses this share of images.
_BUSY, _MISSED = 0.85, 0.15
# Room: on the rung above, busy for at most this share of the time.
_ROOM = 0.7
# How long is looked at; how long there must be room before a step up, at first and at most; how
# soon after a step up being behind means that it went too far (seconds).
_LOOK, _HOLD, _MOST_HOLD, _TRIAL = 1.0, 4.0, 128.0, 8.0
# Rungs taken at most in one step down: a short break in the air is no slow link.
_STRIDE = 2


@dataclass(frozen=True, slots=True)
class Rung:
    """
    One step of the ladder; ``load`` is about how many bytes it costs by second, of the first.

    ``quality`` (JPEG) and ``fps`` (Hz) are upper limits, ``scale`` is by the stream's own width;
    None leaves it.
    """

    load: float
    quality: int | None = None
    scale: float | None = None
    fps: float | None = None


# The loads were measured on textured pictures of 640 to 1920 pixels, from quality 80, 30 Hz.
LADDER = (
    Rung(1.0),
    Rung(0.64, quality=60),
    Rung(0.49, quality=40),
    Rung(0.18, quality=40, scale=0.5),
    Rung(0.06, quality=40, scale=0.25),
    Rung(0.02, quality=40, scale=0.25, fps=10.0),
    Rung(0.005, quality=40, scale=0.25, fps=2.5),
)
_LEAST_WIDTH = 160


def rungs(options: ClientOptions, own_width: int, own_quality: int | None
          ) -> list[tuple[ClientOptions, float]]:
    """
    Return what a client may be given, from what it asked for down to the floor, with the loads.

    ``own_width`` (px; 0: not known, or no picture) and ``own_quality`` (None: no JPEG) are the
    stream's. Rungs that change nothing are left out.
    """
    steps = [(options, LADDER[0].load)]
    for rung in LADDER[1:]:
        below = _limited(options, rung, own_width, own_quality)
        if below != steps[-1][0]:
            steps.append((below, rung.load))
    return steps


def _limited(options: ClientOptions, rung: Rung, own_width: int, own_quality: int | None
             ) -> ClientOptions:
    quality, width, fps = options.quality, options.width, options.fps
    if rung.quality is not None and own_quality is not None:
        asked = own_quality if quality is None else quality
        quality = quality if asked <= rung.quality else rung.quality
    if rung.scale is not None and own_width:
        scaled = max(round(own_width * rung.scale), _LEAST_WIDTH)
        asked = own_width if width is None else width
        width = width if asked <= scaled else scaled
    if rung.fps is not None:
        fps = rung.fps if fps is None else min(fps, rung.fps)
    return replace(options, quality=quality, width=width, fps=fps)


@dataclass(frozen=True, slots=True)
class Delivery:
    """
    What happened to a client so far, all counted from the beginning.

    ``busy``: seconds in which nothing could be sent to it. ``images``: how many arrived at the
    bridge. ``sent``: how many of them went to the client.
    """

    busy: float
    images: int
    sent: int


class Adaptation:
    """
    Decides on which rung a client stands.

    It steps down when the client was hardly ever free and missed images, by as much as what it
    did get suggests; up, one rung at a time, when it had room for a while. A rung that turned out
    to be too high is tried again only after twice the time, so that the picture stays steady.
    """

    def __init__(self) -> None:
        """Start on the first rung."""
        self.level = 0
        self._begun: tuple[float, Delivery] | None = None
        self._room_since: float | None = None
        self._hold = _HOLD
        self._went_up_at: float | None = None

    def update(self, now: float, delivery: Delivery, rungs: Sequence[tuple[ClientOptions, float]]
               ) -> bool:
        """
        Look at what happened since the last look; return whether ``level`` has changed.

        ``now`` is in seconds on a monotonic clock; call it a few times a second.
        """
        if self._begun is None:
            # What is on its way just after a change is still of the old rung.
            self._begun = now, delivery
            return False
        since, before = self._begun
        if now - since < _LOOK:
            return False
        self._begun = now, delivery
        options, load = rungs[min(self.level, len(rungs) - 1)]
        images: float = delivery.images - before.images
        if options.fps is not None:
            images = min(images, options.fps * (now - since))
        busy = (delivery.busy - before.busy) / (now - since)
        share = (delivery.sent - before.sent) / images if images else 1.0
        level = self.level
        if busy >= _BUSY and share <= 1 - _MISSED:
            self._step_down(now, [load for _, load in rungs], share)
        elif level == 0 or busy * rungs[min(level, len(rungs)) - 1][1] / load > _ROOM:
            self._room_since = None
        else:
            self._step_up(now)
        if self.level != level:
            self._begun = None
        return self.level != level

    def _step_down(self, now: float, loads: Sequence[float], share: float) -> None:
        self._room_since = None
        if self._went_up_at is not None:
            if now - self._went_up_at < _TRIAL:
                self._hold = min(2 * self._hold, _MOST_HOLD)
            else:
                self._hold = _HOLD
            self._went_up_at = None
        last = len(loads) - 1
        target = min(self.level + 1, last)
        while (target < min(last, self.level + _STRIDE)
               and loads[target] > share * loads[self.level]):
            target += 1
        self.level = target

    def _step_up(self, now: float) -> None:
        if self._room_since is None:
            self._room_since = now
        elif now - self._room_since >= self._hold:
            self.level -= 1
            self._room_since, self._went_up_at = None, now
