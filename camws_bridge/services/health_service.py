"""Do images arrive, and if not, why: one answer for /healthz, /diagnostics, logs and clients."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
import threading
import time

from camws_bridge.settings import Settings
from camws_bridge.supervision import Threads

# How long a publisher may be there without an image arriving before this is called a fault.
_SILENCE = 3.0
# So few images may get through by luck where most are lost.
_FEW = 10

REMEDY = (
    'Fast DDS loses large best-effort images with its default 512 KB of shared memory: set '
    'FASTDDS_DEFAULT_PROFILES_FILE to config/fastdds_large_images.xml of camws_bridge for the '
    "camera driver's process, too (see Troubleshooting in the README)")
_INACTIVE = 'inactive', 'the node is deactivated: the camera is left alone'


@dataclass(frozen=True, slots=True)
class Health:
    """
    The state of the image source.

    ``code``: ``ok``, ``idle`` (nobody wants images), ``starting``, ``no_images``, ``stale``,
    ``inactive`` (the node was deactivated), ``threads`` (one died or hangs).
    """

    is_ok: bool
    code: str
    message: str


class HealthService:
    """Watches the arrival of images. Safe on every thread."""

    def __init__(self, settings: Callable[[], Settings],
                 clock: Callable[[], float] = time.monotonic,
                 threads: Threads | None = None) -> None:
        """``clock`` gives monotonic seconds; ``threads`` are those the bridge lives by."""
        self._settings = settings
        self._clock = clock
        self._threads = threads or Threads()
        self._is_active = True
        self._lock = threading.Lock()
        self._watching_since: float | None = None
        self._last_image: float | None = None
        self._topic = 'image'
        self._publishers = 0
        self._published_since, self._images_before = 0.0, 0
        self._other_types: tuple[str, ...] = ()
        self._has_depth = False
        self._images = 0
        self._dropped: Counter[str] = Counter()
        # Since the last good image: what was dropped before explains nothing.
        self._dropped_lately: Counter[str] = Counter()

    def set_watching(self, watching: bool) -> None:
        """Say whether the bridge subscribes to the camera now."""
        with self._lock:
            self._watching_since = self._clock() if watching else None
            self._last_image = None

    def set_active(self, active: bool) -> None:
        """Say whether the node is active (see the lifecycle of managed nodes)."""
        self._is_active = active

    def set_publishers(self, topic: str, count: int, other_types: Sequence[str] = ()) -> None:
        """Say how many publishers the image topic has, and what others send on it."""
        with self._lock:
            if count > self._publishers:
                self._published_since, self._images_before = self._clock(), self._images
            self._topic, self._publishers, self._other_types = topic, count, tuple(other_types)

    def set_has_depth(self, has_depth: bool) -> None:
        """Say whether the depth topic has a publisher."""
        self._has_depth = has_depth

    @property
    def has_depth(self) -> bool:
        """Tell whether the depth topic has a publisher."""
        return self._has_depth

    def on_image(self) -> None:
        """Note that a good image arrived."""
        with self._lock:
            self._last_image = self._clock()
            self._images += 1
            self._dropped_lately.clear()

    def on_dropped(self, reason: str) -> int:
        """Note that an image was dropped; return how many were for this reason."""
        with self._lock:
            self._dropped[reason] += 1
            self._dropped_lately[reason] += 1
            return self._dropped[reason]

    @property
    def age(self) -> float | None:
        """How long ago the last good image arrived (seconds); None: none has."""
        last = self._last_image
        return None if last is None else self._clock() - last

    @property
    def images(self) -> int:
        """How many good images have arrived."""
        return self._images

    @property
    def dropped(self) -> dict[str, int]:
        """How many images were dropped, by reason."""
        with self._lock:
            return dict(self._dropped)

    def check(self) -> Health:
        """Return the state now."""
        with self._lock:
            return self._check(self._clock(), self._settings().stale_after)

    def check_life(self) -> Health:
        """Return whether the process works at all, whatever the camera does."""
        problem = self._threads.problem
        return Health(not problem, 'threads' if problem else 'ok', problem or 'all threads turn')

    def check_readiness(self) -> Health:
        """Return whether clients are served: the node is active and its threads turn."""
        life = self.check_life()
        if not life.is_ok:
            return life
        return Health(True, 'ok', 'clients are served') if self._is_active \
            else Health(False, *_INACTIVE)

    def _check(self, now: float, stale_after: float) -> Health:
        life = self.check_life()
        if not life.is_ok:
            return life
        if not self._is_active:
            return Health(True, *_INACTIVE)
        if self._watching_since is None:
            return Health(True, 'idle', 'nobody wants images: the camera is left alone')
        if self._last_image is not None:
            age = now - self._last_image
            if age <= stale_after:
                return Health(True, 'ok', 'images arrive')
            # Of a publisher that came some time ago hardly an image got through.
            is_new = (self._published_since < now - _SILENCE
                      and self._images - self._images_before < _FEW)
            return Health(False, 'stale', f'no image on {self._topic} for {age:.0f} s'
                          + self._why_not(REMEDY if is_new else ''))
        if now - self._watching_since <= _SILENCE:
            return Health(False, 'starting', f'waiting for the first image on {self._topic}')
        return Health(False, 'no_images', f'no image on {self._topic}' + self._why_not(REMEDY))

    def _why_not(self, remedy: str = '') -> str:
        if not self._publishers and self._other_types:
            return (f': what is published there is {", ".join(self._other_types)}; see parameter '
                    'image_transport')
        if not self._publishers:
            return ': it has no publisher'
        dropped = ', '.join(f'{count} {reason}' for reason, count in self._dropped_lately.items())
        if dropped:
            return f'; images were dropped: {dropped}'
        return f', though it has {self._publishers} publisher(s). {remedy}'.rstrip(' .')
