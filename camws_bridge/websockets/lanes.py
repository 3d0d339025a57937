"""Work on frames beside the processing thread: one lane for each stream, newest frame only."""
from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import logging
import os
import threading

from camws_bridge.latest_slot import LatestSlot
from camws_bridge.services.frame_context import FrameContext

log = logging.getLogger(__name__)


def usable_cores() -> int:
    """Return the number of cores this process may use (taskset and containers included)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:      # not Linux
        return os.cpu_count() or 1


class Lane:
    """
    Works on one frame at a time; what comes meanwhile replaces what waits.

    A lane that is slow holds up nobody but itself.
    """

    def __init__(self, pool: ThreadPoolExecutor, work: Callable[[FrameContext], None],
                 on_replaced: Callable[[], None]) -> None:
        """``work`` runs on a thread of the pool; it must not raise."""
        self._pool, self._work, self._on_replaced = pool, work, on_replaced
        self._slot: LatestSlot[FrameContext] = LatestSlot()
        self._lock = threading.Lock()
        self._is_running = False

    def put(self, context: FrameContext) -> None:
        """Work on a frame as soon as possible (any thread)."""
        with self._lock:
            replaced = self._slot.put(context)
            must_start, self._is_running = not self._is_running, True
        if replaced is not None and replaced is not context:
            self._on_replaced()
        if must_start:
            self._pool.submit(self._run)

    def _run(self) -> None:
        while True:
            with self._lock:
                context = self._slot.take()
                if context is None:
                    self._is_running = False
                    return
            try:
                self._work(context)
            except BaseException as error:
                # The pool would swallow it, and this lane would wait for ever.
                log.error('a lane failed on an image: %r', error, exc_info=error)
