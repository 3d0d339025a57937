"""Child processes, ended by their id and never left behind, and what they cost."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
import ctypes
import os
from pathlib import Path
import queue
import re
import signal
import subprocess
import threading
import time

ROOT = Path(__file__).resolve().parents[2]

_PR_SET_PDEATHSIG = 1
# Fast DDS's own: other libraries keep files there that belong to the whole machine.
_SHARED_MEMORY = re.compile(r'/dev/shm/(\S*fast(?:dds|rtps)_\S+)')


class ChildError(RuntimeError):
    """A child process that did not do what it is there for; the text holds what it printed."""


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A process whose lines are read; ``with`` ends it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None
                 ) -> None:
        """Start it; ``environment`` is added to this process's."""
        self.lines: list[str] = []
        self._name = ' '.join(command[:3])
        self.shared_memory: set[str] = set()
        self._new: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, preexec_fn=_die_with_parent,
            env={**os.environ, **(environment or {})})
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + '\n')
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._error('it has ended') from None

    def last_words(self) -> str:
        """Return the last lines it has printed."""
        return ' | '.join(self.lines[-6:]) or 'nothing'

    def wait_for(self, pattern: str, timeout: float = 40.0) -> re.Match[str]:
        """Return the first new line that matches; raises ChildError."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._new.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise self._error(f'no line {pattern!r} within {timeout:g} s') from None
            if line is None:
                raise self._error(f'it ended without a line {pattern!r}')
            match = re.search(pattern, line)
            if match:
                return match

    def terminate(self) -> None:
        """Ask it to end; what it still prints can be waited for."""
        self._process.terminate()

    def wait(self, timeout: float = 15.0) -> int:
        """Wait until it has ended by itself; return its exit code. Raises ChildError."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self._error(f'it did not end within {timeout:g} s') from None

    def stop(self, timeout: float = 15.0) -> None:
        """End it: asked first, killed when it does not."""
        if self._process.poll() is None:
            self.shared_memory |= shared_memory_of(self.pid)
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
            self._new.put(line.rstrip())
        self._new.put(None)

    def _error(self, what: str) -> ChildError:
        said = self.last_words()
        return ChildError(f'{self._name}: {what}; it said: {said}')


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process has used, user and system, all its threads (seconds)."""
    # What clock_getcpuclockid(3) returns: to the nanosecond, where /proc/PID/stat counts in ticks
    # of 10 ms.
    return time.clock_gettime((~pid << 3) | 2)


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process that is its own: without shared memory (bytes)."""
    # Images lie in Fast DDS's shared segment for a while: that is the publisher's memory.
    status = Path(f'/proc/{pid}/status').read_text()
    found = re.search(r'^RssAnon:\s+(\d+) kB', status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def shared_memory_of(pid: int) -> set[str]:
    """Return the files of Fast DDS in /dev/shm that a process has mapped."""
    try:
        return set(_SHARED_MEMORY.findall(Path(f'/proc/{pid}/maps').read_text()))
    except OSError:
        return set()


def remove_shared_memory(names: set[str]) -> list[str]:
    """Remove the files of these in /dev/shm that nobody maps any more; return their names."""
    left = {name for name in names if (Path('/dev/shm') / name).exists()}
    if left:
        for entry in Path('/proc').iterdir():
            if entry.name.isdigit():
                left -= shared_memory_of(int(entry.name))
    for name in left:
        (Path('/dev/shm') / name).unlink(missing_ok=True)
    return sorted(left)
