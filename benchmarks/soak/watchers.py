"""
Clients that do nothing wrong; ``python -m benchmarks.soak.watchers PORT PATH...``.

They read all the time. For every line on standard input one JSON line comes back: what they got
since the last one, by path, and how old it was on arrival (ms: now minus the image's stamp).
"""
from __future__ import annotations

import asyncio
from collections import defaultdict
import json
import os
import statistics
import sys
import time
from typing import Any

from benchmarks.soak import frames
from benchmarks.soak.visitor import Left, Visitor


def quantile(values: list[float], share: float) -> float:
    """Return the value that ``share`` of the values do not exceed; 0.0 without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Watchers:
    """What they got since the last report."""

    def __init__(self, port: int) -> None:
        """Watch the bridge on ``port``."""
        self._port = port
        self._ages: defaultdict[str, list[float]] = defaultdict(list)
        self._broken: list[str] = []

    async def watch(self, path: str) -> None:
        """Read one stream for ever."""
        try:
            async with await Visitor.connect(self._port) as visitor:
                await visitor.open(path, 'camws.v1')
                while True:
                    found = await visitor.next_message()
                    if found.opcode == frames.CLOSE:
                        raise Left(f'closed with {found.close_code}')
                    stamp = _stamp_of(found)
                    if stamp is not None:
                        self._ages[path].append((time.time() - stamp) * 1e3)
        except (Left, OSError) as error:
            self._broken.append(f'{path}: {error!r}')

    def report(self) -> dict[str, Any]:
        """Return what came since the last report, and what has ended, and forget it."""
        ages, self._ages = self._ages, defaultdict(list)
        broken, self._broken = self._broken, []
        return {'broken': broken, 'streams': {
            path: {'count': len(seen), 'p50': statistics.median(seen),
                   'p99': quantile(seen, 0.99), 'max': max(seen)}
            for path, seen in ages.items()}}


def _stamp_of(found: frames.Frame) -> float | None:
    if found.opcode == frames.BINARY:
        length = int.from_bytes(found.payload[4:8], 'little')
        fields = json.loads(found.payload[8:8 + length])
    else:
        fields = json.loads(found.payload)
    stamp = fields.get('stamp')
    return None if stamp is None else stamp['sec'] + stamp['nanosec'] * 1e-9


async def _main(port: int, paths: list[str]) -> None:
    watchers = Watchers(port)
    tasks = [asyncio.create_task(watchers.watch(path)) for path in paths]
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(0, 'rb', 0))
    while await lines.readline():
        print(json.dumps(watchers.report()), flush=True)
    for task in tasks:
        task.cancel()


if __name__ == '__main__':
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2:]))
