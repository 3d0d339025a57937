"""The command line: measure, print the table, write the JSON file and the plots."""
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
import time

import cv2

from benchmarks.fiducials.conditions import ORDINARY
from benchmarks.fiducials.measures import MEASURES
from benchmarks.fiducials.methods import all_methods, APRILTAG, OURS, packages, SUBPIX
from benchmarks.fiducials.plots import charts, draw
from benchmarks.fiducials.report import format_table, Row
from benchmarks.fiducials.studies import Bench, FULL, QUICK
from benchmarks.harness.native import BUILD
from benchmarks.harness.peer import PeerError

METHODS = (OURS, 'NONE', SUBPIX, 'CONTOUR', APRILTAG)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='benchmarks/pose', description='Compares the poses of the bridge with those of plain '
        'OpenCV and of AprilTag on rendered pictures with known truth: one table. Exit code: 0 '
        'when every target is met, 1 when one is missed, 2 when something could not be measured.')
    parser.add_argument('--quick', action='store_true',
                        help='a minute or two instead of a quarter of an hour: fewer pictures')
    parser.add_argument('--only', action='append', choices=sorted(MEASURES), metavar='MEASURE',
                        help='only this one, may be given several times: ' + ', '.join(MEASURES))
    parser.add_argument('--json', type=Path, default=BUILD / 'pose.json', metavar='FILE',
                        help='where everything goes (default: %(default)s)')
    parser.add_argument('--plots', type=Path, metavar='FOLDER',
                        help='also draw the error against size and tilt, as SVG files')
    parser.add_argument('--markdown', action='store_true', help='print the table as Markdown')
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _measure(bench: Bench, names: Sequence[str]) -> list[Row]:
    rows = []
    for name in names:
        begun = time.monotonic()
        for row in MEASURES[name](bench):
            rows.append(row)
            _say(f'  {"  ".join(filter(None, row.cells(METHODS)))}')
        _say(f'{name}: {time.monotonic() - begun:.0f} s')
    return rows


def _machine() -> dict[str, object]:
    return {'cpus': os.cpu_count(), 'kernel': platform.release(),
            'python': platform.python_version(), 'opencv': cv2.__version__,
            'time': datetime.now(timezone.utc).isoformat(timespec='seconds')}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _parse(arguments)
    # Ended from outside, it takes AprilTag's process with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = QUICK if options.quick else FULL
    names = [name for name in MEASURES if not options.only or name in options.only]
    begun = time.monotonic()
    try:
        packages()
    except PeerError as error:
        _say(f'benchmarks/pose: AprilTag and matplotlib cannot be had: {error}')
        return 2
    bench = Bench(plan, all_methods)
    rows = _measure(bench, names)
    drawn = charts(bench.singles(ORDINARY)) if options.plots or 'corners' in names else []
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        draw(drawn, options.plots, packages())
    print(format_table(rows, METHODS, options.markdown))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({
        'machine': _machine(), 'plan': 'quick' if options.quick else 'full',
        'seconds': time.monotonic() - begun, 'rows': [row.as_dict() for row in rows],
        'charts': [asdict(chart) for chart in drawn]},
        indent=1) + '\n')
    _say(f'{time.monotonic() - begun:.0f} s; everything is in {options.json}')
    verdicts = {row.verdict for row in rows}
    return 2 if 'not measured' in verdicts else int('MISSED' in verdicts)


if __name__ == '__main__':
    sys.exit(main())
