"""The soak: the demo camera, the bridge, a crowd; a line by minute, a verdict at the end."""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import re
import statistics
import sys
import time
from typing import Any
import urllib.request

from benchmarks.harness.processes import (
    Child, ChildError, cpu_seconds, remove_shared_memory, rss_bytes, shared_memory_of)
from benchmarks.soak.trend import complain, find_trend, Limit
from camws_bridge.demo.run import bridge_command, camera_command, parse_options

CLIENTS = 30
WATCHED = ('/ws/color', '/ws/color?fps=10', '/ws/transforms_board', '/ws/markers')
# What ages are told of.
_MAIN = WATCHED[0]
_SAMPLE = 5.0
# What is loaded when it is first used, and how far memory grows until it is used again and again,
# is no leak: that much of the time is not looked at (seconds, at most half of it).
WARM_UP = 120.0
# Every minute has a crush; the middle one of a long soak is one from end to end.
_CRUSH_AT, _CRUSH, _CRUSH_RATE, _LONG = 20.0, 10.0, 500, 60.0
_LONG_FROM = 5.0
_STEER_EVERY = 3.0
LIMITS = (
    Limit('memory', 'MB', 8.0, 0.04), Limit('threads', '', 1.0),
    Limit('descriptors', '', 8.0, 0.1), Limit('age p50', 'ms', 5.0, 0.5))
# What nobody may find in the log of the bridge.
_FORGOTTEN = re.compile('never awaited|never retrieved|was destroyed but it is pending|'
                        'ResourceWarning|Traceback')
_LINES = 30
# How long the bridge has to get rid of what the crowd has left (seconds).
_AFTERWARDS = 40.0


@dataclass
class Samples:
    """What was seen, one entry each time; ``times`` in seconds since the start."""

    times: list[float] = field(default_factory=list)
    columns: dict[str, list[float]] = field(default_factory=dict)

    def add(self, at: float, **values: float) -> None:
        """Add one entry."""
        self.times.append(at)
        for name, value in values.items():
            self.columns.setdefault(name, []).append(value)

    def since(self, begin: float, end: float = float('inf')) -> Samples:
        """Return the entries of a part of the time."""
        chosen = [i for i, at in enumerate(self.times) if begin <= at < end]
        return Samples([self.times[i] for i in chosen], {
            name: [values[i] for i in chosen] for name, values in self.columns.items()})

    def median(self, name: str) -> float:
        """Return the median of a column; 0.0 of nothing."""
        return statistics.median(self.columns.get(name) or [0.0])


def held(pid: int) -> dict[str, float]:
    """Return what a process holds: memory of its own (MB), threads, descriptors."""
    process = Path(f'/proc/{pid}')
    return {'memory': rss_bytes(pid) / 1e6, 'threads': len(os.listdir(process / 'task')),
            'descriptors': len(os.listdir(process / 'fd'))}


class Soak:
    """All processes of one soak."""

    def __init__(self, minutes: float, stack: ExitStack) -> None:
        """Start the camera and the bridge as scripts/demo does."""
        self._stack, self._seconds = stack, minutes * 60.0
        self._long = minutes >= _LONG_FROM
        options = parse_options(['--port', '0', '--', '-p', 'limits.clients_per_address:=1000'])
        self.problems: list[str] = []
        self.camera = stack.enter_context(Child(camera_command(options)))
        self.bridge = stack.enter_context(Child(bridge_command(options)))
        self.url = self.bridge.wait_for(r'listening on (http://\S+)')[1]
        self._port = int(self.url.rpartition(':')[2])
        self.samples = Samples()
        self._crush: Child | None = None
        self._crush_due = _CRUSH_AT

    def run(self) -> None:
        """Measure without a crowd, with one, and when it has gone."""
        watchers = self._start('watchers', *WATCHED)
        self._settle(watchers)
        before = held(self.bridge.pid)
        crowd = self._start('crowd', str(CLIENTS))
        steering = self._stack.enter_context(Child(
            [sys.executable, '-m', 'benchmarks.soak.steering', str(_STEER_EVERY)]))
        print(_HEADER, flush=True)
        self._row('before', before | {'cpu': 0.0}, self._report(watchers), 4)
        self._watch(watchers)
        for child, name in ((crowd, 'crowd'), (steering, 'parameters')):
            self._take_result(child, name)
        self._check_afterwards(before, watchers)
        self._check_trends()

    def _start(self, module: str, *arguments: str) -> Child:
        return self._stack.enter_context(Child(
            [sys.executable, '-m', f'benchmarks.soak.{module}', str(self._port), *arguments]))

    def _settle(self, watchers: Child) -> None:
        deadline = time.monotonic() + 60.0
        while _MAIN not in self._report(watchers)['streams']:
            if time.monotonic() > deadline:
                raise ChildError('no image comes to a client within 60 s')
            time.sleep(0.5)
        self._report(watchers)
        time.sleep(3.0)

    def _report(self, watchers: Child) -> dict[str, Any]:
        watchers.say('report')
        found: dict[str, Any] = json.loads(watchers.wait_for(r'^\{.*\}$')[0])
        self.problems += [f'a client that did nothing wrong was lost: {text}'
                          for text in found['broken']]
        return found

    def _watch(self, watchers: Child) -> None:
        begun = time.monotonic()
        minute, cpu, clients = 1, cpu_seconds(self.bridge.pid), 0.0
        while (now := time.monotonic() - begun) < self._seconds:
            self._steer_crush(now)
            time.sleep(min(_SAMPLE, max(0.0, self._seconds - now)))
            now = time.monotonic() - begun
            used, cpu = cpu_seconds(self.bridge.pid) - cpu, cpu_seconds(self.bridge.pid)
            report = self._report(watchers)
            main = report['streams'].get(_MAIN, {'count': 0, 'p50': 0.0, 'p99': 0.0, 'max': 0.0})
            if not main['count']:
                self.problems.append(f'no picture came to a client from {now - _SAMPLE:.0f} to '
                                     f'{now:.0f} s')
            clients = self._clients() or clients
            self.samples.add(now, **held(self.bridge.pid), cpu=100 * used / _SAMPLE,
                             clients=clients, **{'age p50': main['p50'], 'age p99': main['p99'],
                                                 'age max': main['max'], 'count': main['count']})
            if now >= 60.0 * minute or now >= self._seconds:
                self._print_minute(minute)
                minute += 1

    def _steer_crush(self, now: float) -> None:
        if self._crush is not None or now < self._crush_due:
            if self._crush is not None and now > self._crush_ends:
                self._take_crush()
            return
        middle = self._seconds / 2
        is_long = self._long and middle <= now < middle + 60.0
        seconds = _LONG if is_long else _CRUSH
        self._crush = self._start('crush', str(_CRUSH_RATE), str(seconds))
        self._crush_ends = now + seconds + 2.0
        self._crush_due = 60.0 * (now // 60.0 + (2 if is_long else 1)) + _CRUSH_AT

    def _take_crush(self) -> None:
        assert self._crush is not None
        found = json.loads(self._crush.wait_for(r'^\{.*\}$')[0])
        self._crush.stop()
        self._crush = None
        print(f'  connected and gone: {found["connected"]} ({found["rate"]} a second), '
              f'{found["opened"]} WebSockets opened, {found["failed"]} turned away', flush=True)

    def _clients(self) -> float:
        try:
            with urllib.request.urlopen(self.url + '/metrics', timeout=20) as response:
                text = response.read().decode()
        except OSError as error:
            # In a crush it may wait in the queue behind a thousand others.
            self.problems += [] if self._crush else [f'/metrics: {error}']
            return 0.0
        return sum(map(float, re.findall(r'^camws_clients\{.*\} (\S+)$', text, re.MULTILINE)))

    def _print_minute(self, minute: int) -> None:
        part = self.samples.since(60.0 * (minute - 1), 60.0 * minute + _SAMPLE / 2)
        values = {name: part.median(name) for name in part.columns}
        self._row(str(minute), values, {'streams': {_MAIN: {
            'count': sum(part.columns['count']), 'p50': values['age p50'],
            'p99': values['age p99'], 'max': max(part.columns['age max'])}}}, values['clients'])

    def _row(self, name: str, values: dict[str, float], report: dict[str, Any], clients: float
             ) -> None:
        ages = report['streams'].get(_MAIN, {'count': 0, 'p50': 0.0, 'p99': 0.0, 'max': 0.0})
        print(_ROW.format(name, values['memory'], values['threads'], values['descriptors'],
                          clients, values.get('cpu', 0.0), ages['count'], ages['p50'],
                          ages['p99'], ages['max']), flush=True)

    def _take_result(self, child: Child, name: str) -> None:
        child.terminate()
        found = json.loads(child.wait_for(r'^\{.*\}$', 60.0)[0])
        child.stop()
        wrong = found.pop('wrong')
        print(f'  {name}: {json.dumps(found)}', flush=True)
        self.problems += [f'{name}: {text}' for text in (
            wrong if isinstance(wrong, list) else map(' × '.join, (
                (text, str(count)) for text, count in wrong.items())))]

    def _check_afterwards(self, before: dict[str, float], watchers: Child) -> None:
        if self._crush is not None:
            self._take_crush()
        deadline = time.monotonic() + _AFTERWARDS
        while True:
            now = held(self.bridge.pid)
            left = [name for name, most in (('threads', 1), ('descriptors', 6))
                    if now[name] > before[name] + most]
            if self._clients() > len(WATCHED):
                left.append('clients')
            if not left or time.monotonic() > deadline:
                break
            time.sleep(1.0)
        self._row('after', now, self._report(watchers), self._clients())
        self.problems += [f'{name} are left when everybody has gone: {now.get(name, 0):g}, '
                          f'before {before.get(name, 0):g}' for name in left]

    def _check_trends(self) -> None:
        looked_at = self.samples.since(min(WARM_UP, self._seconds / 2))
        for limit in LIMITS:
            values = looked_at.columns[limit.name]
            trend = find_trend(looked_at.times, values)
            print(f'  trend of {limit.name}: {trend.growth:+.1f} {limit.unit} in '
                  f'{looked_at.times[-1] - looked_at.times[0]:.0f} s', flush=True)
            text = complain(limit, looked_at.times, values)
            self.problems += [text] if text else []

    def end(self) -> None:
        """Stop the bridge, and look at its last words."""
        self.bridge.terminate()
        code = self.bridge.wait()
        if code != 0:
            self.problems.append(f'the bridge ended with exit code {code}')
        found = [number for number, line in enumerate(self.bridge.lines)
                 if _FORGOTTEN.search(line)]
        if found:
            lines = self.bridge.lines[found[0]:found[0] + _LINES]
            self.problems.append('\n  '.join((f'in its log, {len(found)} times:', *lines)))


_COLUMNS = (('minute', 7, 's'), ('RssAnon MB', 11, '.1f'), ('threads', 8, 'g'),
            ('fds', 5, 'g'), ('clients', 8, 'g'), ('CPU %', 6, '.0f'), ('frames', 7, 'g'),
            ('age p50', 8, '.1f'), ('p99', 7, '.1f'), ('max ms', 7, '.0f'))
_HEADER = ' '.join(f'{name:>{width}}' for name, width, _ in _COLUMNS)
_ROW = ' '.join(f'{{:>{width}{form}}}' for _, width, form in _COLUMNS)


def _parse(arguments: Sequence[str] | None) -> float:
    parser = argparse.ArgumentParser(
        prog='scripts/soak', description='The demo camera and the bridge under a crowd that '
        'comes, goes, stalls and sends rubbish, while parameters change. Exit code 1 when '
        'something grows, is left, or is not answered as it must be.')
    parser.add_argument('minutes', type=_minutes, metavar='MINUTES', help='how long')
    return float(parser.parse_args(arguments).minutes)


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.5 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f'{text!r} is not allowed; allowed: 0.5 to 100000')
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak; return the exit code."""
    minutes = _parse(arguments)
    memory: set[str] = set()
    with ExitStack() as stack:
        stack.callback(lambda: remove_shared_memory(memory))
        try:
            soak = Soak(minutes, stack)
            soak.run()
            memory |= shared_memory_of(soak.bridge.pid) | shared_memory_of(soak.camera.pid)
            soak.end()
        except ChildError as error:
            print(f'FAILED: {error}')
            return 1
    for text in soak.problems:
        print(f'FAILED: {text}')
    if not soak.problems:
        print('nothing grew, nothing was left, everything was answered')
    return 1 if soak.problems else 0


if __name__ == '__main__':
    sys.exit(main())
