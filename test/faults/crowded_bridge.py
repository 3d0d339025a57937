"""A bridge with well-behaved clients, and what others do to it."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, ExitStack
import json
from pathlib import Path
import re
import sys
import time
from typing import Any

from processes import http_get, wait_until

# The benchmarks are no package that is installed.
sys.path.append(str(Path(__file__).parents[2]))

from benchmarks.harness.processes import Child
from benchmarks.soak.crowd import STREAMS

TEST = Path(__file__).parents[1]
# What the watchers read; the first one's figures are compared.
WATCHED = ('/ws/color', '/ws/color?fps=25', '/ws/markers', '/ws/transforms_board')
_WINDOW = 0.7
_ROUNDS = 4
# Delivery: p99 by this factor, and a little for what the machine does meanwhile (ms); and frames.
_FACTOR, _SLACK, _SHARE = 1.5, 4.0, 0.9
_MEMORY_KB = 6000
FORGOTTEN = re.compile('never awaited|never retrieved|was destroyed but it is pending|'
                       'ResourceWarning|Traceback')


class CrowdedBridge:
    """The web side in a process, and clients in another that do nothing wrong."""

    def __init__(self, stack: ExitStack, **values: Any) -> None:
        self._process = stack.enter_context(Child(
            [sys.executable, '-W', 'default', '-m', 'faults.web_process',
             *(f'{name}={json.dumps(value)}' for name, value in values.items())],
            {'PYTHONPATH': f'{TEST}:{TEST.parent}'}))
        self.url = self._process.wait_for(r'^listening on (http://\S+)$')[1]
        self.port = int(self.url.rpartition(':')[2])
        self._watchers = stack.enter_context(Child(
            [sys.executable, '-m', 'benchmarks.soak.watchers', str(self.port), *WATCHED]))
        wait_until(lambda: self.held()['clients'] == len(WATCHED), 10, 'all watch')
        # What is made when it is first asked for is made now: threads, tables, encoders.
        for stream in STREAMS:
            http_get(f'{self.url}/api/v1/images/{stream}.png')
            http_get(f'{self.url}/api/v1/images/{stream}.jpg')
        time.sleep(0.3)
        self._before = self.held()

    def held(self) -> dict[str, int]:
        self._process.say('state')
        found: dict[str, int] = json.loads(self._process.wait_for(r'^\{.*\}$')[0])
        return found

    def count(self, name: str, **labels: str) -> float:
        wanted = ','.join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        text = http_get(self.url + '/metrics')[2].decode()
        found = re.findall(rf'^{name}\{{{re.escape(wanted)}\}} (\S+)$', text, re.MULTILINE)
        return sum(map(float, found))

    @contextmanager
    def counting(self, name: str, **labels: str) -> Iterator[Callable[[], float]]:
        """Yield what tells by how much a metric has grown since."""
        before = self.count(name, **labels)
        yield lambda: self.count(name, **labels) - before

    def _delivery(self) -> dict[str, float]:
        """Return how old the pictures were that a watcher got in one window, and how many."""
        self._watchers.say('forget')
        self._watchers.wait_for(r'^\{.*\}$')
        time.sleep(_WINDOW)
        self._watchers.say('report')
        report = json.loads(self._watchers.wait_for(r'^\{.*\}$')[0])
        assert report['broken'] == []
        found: dict[str, float] = report['streams'][WATCHED[0]]
        return found

    def check_delivery(self, fault: Callable[[], Any]) -> None:
        """
        Compare how the others are served while a fault is there with how they are without.

        ``fault`` makes a context. What a busy machine does to one window is no fault of ours: it
        is enough when delivery does not suffer in one of some rounds.
        """
        seen = []
        for _ in range(_ROUNDS):
            without = self._delivery()
            with fault():
                during = self._delivery()
            seen.append((without, during))
            if (during['p99'] <= _FACTOR * without['p99'] + _SLACK
                    and during['count'] >= _SHARE * without['count']):
                return
        raise AssertionError(f'the others were served worse, without and with the fault: {seen}')

    def check_nothing_is_left(self) -> None:
        """Fail when something of a fault is left, or a log says that something was forgotten."""
        def left() -> dict[str, int]:
            now = self.held()
            # A socket, a task of /metrics being read right now, and what Python keeps for reuse.
            spare = {'sockets': 1, 'tasks': 1, 'memory_kb': _MEMORY_KB}
            return {name: value for name, value in now.items()
                    if value > self._before[name] + spare.get(name, 0)}

        try:
            wait_until(lambda: not left(), 6.0, 'nothing is left')
        except AssertionError:
            raise AssertionError(f'left: {left()}, before: {self._before}') from None
        text = '\n'.join(self._process.lines)
        assert not FORGOTTEN.search(text), text[-5000:]
