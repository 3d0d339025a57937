"""Rows of the table of the proof, and how they are printed."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.harness.rig import Window


@dataclass(frozen=True)
class Row:
    """
    One line of the proof.

    ``ratio`` is what ``target`` limits; None where nothing was measured, and ``detail`` says why.
    A row without a target is there to be known.
    """

    measure: str
    case: str
    ratio: float | None
    target: float | None
    detail: str
    unit: str = 'x'

    @property
    def verdict(self) -> str:
        """Say whether the target is met."""
        if self.ratio is None:
            return 'skipped'
        if self.target is None:
            return ''
        return 'pass' if self.ratio <= self.target else 'MISS'

    def cells(self) -> tuple[str, ...]:
        """Return the columns of the table."""
        def number(value: float | None) -> str:
            return '' if value is None else f'{value:.3g}{self.unit}'
        target = '' if self.target is None else f'<= {number(self.target)}'
        return self.measure, self.case, number(self.ratio), target, self.verdict, self.detail


def format_rows(rows: Iterable[Row]) -> str:
    """Return the table of the proof."""
    return _table(('measure', 'case', 'measured', 'target', '', 'detail'),
                  [row.cells() for row in rows])


def format_windows(windows: Iterable[Window]) -> str:
    """Return the table of what was seen: medians by server, size and number of clients."""
    kinds: dict[tuple[str, str, str], list[Window]] = {}
    for window in windows:
        if window.groups and all(group['age_ms'] for group in window.groups.values()
                                 if group.get('messages')):
            names = [f'{group.get("clients", 0)} {name}' for name, group in window.groups.items()]
            groups = (' + '.join(names) if len(names) < 3
                      else f'{names[0]} + {len(names) - 1} streams')
            kinds.setdefault((window.server, window.size, groups), []).append(window)
    lines = []
    for (server, size, groups), seen in kinds.items():
        try:
            ages = [f'{median(window.age(name) for window in seen):.2f}'
                    for name in ('p50', 'p95', 'p99')]
        except (LookupError, TypeError):
            continue
        lines.append((
            server, size, groups, *ages,
            f'{median(window.cpu_per_source_ms for window in seen):.2f}',
            f'{median(window.cpu_per_delivered_us for window in seen):.1f}',
            f'{median(window.rss_mb for window in seen):.0f}',
            f'{median(sum(window.replaced.values()) for window in seen):.0f}',
            f'{median(window.client_cpu_s / window.seconds for window in seen):.0%}'))
    return _table(('server', 'size', 'clients', 'age p50 ms', 'p95', 'p99', 'CPU ms/image',
                   'CPU us/delivered', 'RSS MB', 'replaced', 'load client'), lines)


def _table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in (titles, *lines)) for i in range(len(titles))]
    rows = (titles, ['-' * width for width in widths], *lines)
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
                     for row in rows)
