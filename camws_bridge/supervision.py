"""The threads the bridge lives by: started here, and watched until they have done their work."""
from __future__ import annotations

from collections.abc import Callable
import threading
import time

# The bridge's threads: R, P and W of docs/architecture.md.
ROS, PROCESSING, WEB = 'ros', 'processing', 'web'
# A thread whose pulse is older than this hangs (seconds): longer than any product takes.
STUCK_AFTER = 10.0


class Threads:
    """
    Starts threads and knows how they fare. Safe on every thread.

    A thread whose work returns has done it. One that ends by an exception (SystemExit and the
    like included) has died: this is told to ``on_death`` at once, on that thread, and stays a
    problem.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives monotonic seconds."""
        self._clock = clock
        self._threads: dict[str, threading.Thread] = {}
        self._pulses: dict[str, float] = {}
        self._death = ''
        self.on_death: Callable[[str], None] = lambda _: None

    def start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Run ``work`` on a new thread; it tells of its life by ``beat(name)``."""
        thread = threading.Thread(target=self._run, args=(name, work), name=name, daemon=True)
        self._threads = {**self._threads, name: thread}
        self.beat(name)
        thread.start()
        return thread

    def beat(self, name: str) -> None:
        """Note that a thread turns."""
        self._pulses[name] = self._clock()

    def is_alive(self, name: str) -> bool:
        """Tell whether a thread runs."""
        thread = self._threads.get(name)
        return thread is not None and thread.is_alive()

    @property
    def death(self) -> str:
        """Which thread died first, and of what; empty while none has."""
        return self._death

    @property
    def problem(self) -> str:
        """What is wrong with the threads, in words; empty when nothing is."""
        return self._death or self._stuck()

    def _stuck(self) -> str:
        now = self._clock()
        silent = {name: now - self._pulses[name] for name in self._threads if self.is_alive(name)}
        return ', '.join(f'the {name} thread hangs for {seconds:.0f} s'
                         for name, seconds in silent.items() if seconds > STUCK_AFTER)

    def _run(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # whatever ends a thread must not do so in silence
            death = f'the {name} thread died: {error!r}'
            self._death = self._death or death
            self.on_death(death)
