"""The command line: measure, print the table, write the JSON file."""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
import json
import os
from pathlib import Path
import platform
import signal
import sys
import tempfile
import time

from benchmarks.harness.measures import FULL, MEASURES, Plan, QUICK
from benchmarks.harness.native import BUILD, build, CompilerError
from benchmarks.harness.processes import ChildError
from benchmarks.harness.report import format_rows, format_windows, Row
from benchmarks.harness.rig import Rig


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='benchmarks/streaming', description='Measures the bridge against its floors in the '
        'same run: a table on the terminal, everything in a JSON file. Exit code: 0 when every '
        'target is met, 1 when one is missed, 2 when something could not be measured.')
    parser.add_argument('--quick', action='store_true',
                        help='three minutes instead of sixteen: fewer sizes and seconds')
    parser.add_argument('--only', action='append', choices=sorted(MEASURES), metavar='MEASURE',
                        help='only this one, may be given several times: ' + ', '.join(MEASURES))
    parser.add_argument('--json', type=Path, default=BUILD / 'streaming.json', metavar='PATH',
                        help='where everything goes (default: %(default)s)')
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _measure(rig: Rig, plan: Plan, names: Sequence[str], rows: list[Row]) -> list[str]:
    """Fill ``rows``; return what failed. One measure's failure is never another's."""
    failures = []
    for name in names:
        begun = time.monotonic()
        try:
            for row in MEASURES[name](rig, plan):
                rows.append(row)
                _say(f'  {"  ".join(filter(None, row.cells()))}')
        except (ChildError, LookupError, OSError) as error:
            failures.append(f'{name}: {error}')
            _say(f'  FAILED {name}: {error}')
        _say(f'{name}: {time.monotonic() - begun:.0f} s')
    return failures


def _machine() -> dict[str, object]:
    return {'cpus': os.cpu_count(), 'load': os.getloadavg(), 'kernel': platform.release(),
            'python': platform.python_version(),
            'time': datetime.now(timezone.utc).isoformat(timespec='seconds')}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = QUICK if options.quick else FULL
    names = [name for name in MEASURES if not options.only or name in options.only]
    try:
        for program in ('load_client', 'floor_server'):
            build(program)
    except CompilerError as error:
        _say(f'benchmarks/streaming: {error}')
        return 2
    rows: list[Row] = []
    machine, begun = _machine(), time.monotonic()
    with tempfile.TemporaryDirectory() as logs:
        os.environ.setdefault('ROS_LOG_DIR', logs)
        with Rig(_say) as rig:
            failures = _measure(rig, plan, names, rows)
    print(format_windows(rig.windows), format_rows(rows), sep='\n\n')
    for failure in failures:
        print(f'FAILED {failure}')
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({
        'machine': machine, 'plan': 'quick' if options.quick else 'full',
        'seconds': time.monotonic() - begun, 'failures': failures,
        'left_in_shared_memory': rig.left_behind,
        'rows': [{**asdict(row), 'verdict': row.verdict} for row in rows],
        'windows': [window.as_dict() for window in rig.windows]}, indent=1) + '\n')
    _say(f'{time.monotonic() - begun:.0f} s; everything is in {options.json}')
    if failures:
        return 2
    return int(any(row.verdict == 'MISS' for row in rows))


if __name__ == '__main__':
    sys.exit(main())
