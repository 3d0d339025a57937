"""Rows of the table of the proof, and how they are printed."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
import math

Values = tuple[float, ...]


@dataclass(frozen=True)
class Target:
    """
    What is wanted of ours: limits for its values, or not to be worse than another method.

    ``kind`` is '<=', '>=' or 'in' (``limits`` are a lowest and a highest for every value). With
    ``method``, what that one has is the limit.
    """

    kind: str
    limits: Values = ()
    method: str = ''

    def is_met(self, values: Mapping[str, Values], ours: Values) -> bool:
        """Tell whether ours are good enough."""
        if any(map(math.isnan, ours)):
            return False
        if self.kind == 'in':
            return all(self.limits[0] <= value <= self.limits[1] for value in ours)
        limits = values[self.method] if self.method else self.limits
        if self.kind == '>=':
            return all(value >= limit for value, limit in zip(ours, limits))
        return all(value <= limit for value, limit in zip(ours, limits))

    def text(self) -> str:
        """Return what stands in the table."""
        if self.kind == 'in':
            return f'{self.limits[0]:g} to {self.limits[1]:g}'
        if self.method:
            return f'{self.kind} {self.method}'
        return f'{self.kind} ' + ' / '.join(f'{limit:g}' for limit in self.limits)


@dataclass(frozen=True)
class Row:
    """
    One line of the proof: the values (one or two) of every method that has them.

    ``count`` is how many things were measured, ``note`` what else is to be known.
    """

    measure: str
    case: str
    values: Mapping[str, Values]
    target: Target | None = None
    count: int = 0
    note: str = ''
    digits: Sequence[int] = field(default=(3,))

    @property
    def verdict(self) -> str:
        """Say whether the target is met."""
        if self.target is None:
            return ''
        ours = self.values.get('ours')
        if ours is None:
            return 'not measured'
        return 'met' if self.target.is_met(self.values, ours) else 'MISSED'

    def cells(self, methods: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of the table."""
        target = self.target.text() if self.target else ''
        shown = [self._shown(self.values.get(method)) for method in methods]
        return (self.measure, self.case, shown[0], target, self.verdict, *shown[1:],
                str(self.count or ''), self.note)

    def _shown(self, values: Values | None) -> str:
        if values is None:
            return ''
        digits = [*self.digits] + [self.digits[-1]] * len(values)
        return ' / '.join('-' if math.isnan(value) else f'{value:.{places}f}'
                          for value, places in zip(values, digits))

    def as_dict(self) -> dict[str, object]:
        """Return the row for a JSON file."""
        return {'measure': self.measure, 'case': self.case, 'count': self.count,
                'values': {name: [None if math.isnan(value) else value for value in values]
                           for name, values in self.values.items()},
                'target': self.target.text() if self.target else None,
                'verdict': self.verdict, 'note': self.note}


def format_table(rows: Iterable[Row], methods: Sequence[str], markdown: bool = False) -> str:
    """Return the table, for a terminal or for a Markdown page; ours stand first in methods."""
    titles = ('measure', 'case', methods[0], 'target', '', *methods[1:], 'of', '')
    lines = [titles, *(row.cells(methods) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    if markdown:
        lines.insert(1, ('---',) * len(titles))
        return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
    lines.insert(1, tuple('-' * width for width in widths))
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
                     for line in lines)
