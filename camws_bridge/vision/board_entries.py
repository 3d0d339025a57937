"""Reading the entries of a board file one by one, with one clear error for a wrong one."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
import reprlib
from typing import Any

import numpy as np

from camws_bridge.models import FloatArray

_LONGEST = 1000.0       # metres: more is a length in other units
# A value in an error's text is short, whatever the file holds (aliases in YAML can stand for
# billions of values).
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 60, 60
_LONGEST_TEXT = 150


class BoardError(ValueError):
    """A board description that cannot be used; the text names the entry and what is allowed."""


def shown(value: Any) -> str:
    """Return a value as an error's text shows it: in one line, and short."""
    try:
        text = _SHORT.repr(value)
    except ValueError:      # a whole number with more digits than Python prints
        text = f'a {type(value).__name__} that is too large'
    text = ' '.join(text.split())
    return text if len(text) <= _LONGEST_TEXT else f'{text[:_LONGEST_TEXT]}...'


class Entries:
    """The names and values of a mapping; whoever asks for one says what is allowed."""

    def __init__(self, mapping: Any, where: str) -> None:
        """Take a mapping; ``where`` is its place in the file, for errors. Raises BoardError."""
        if not isinstance(mapping, Mapping):
            raise BoardError(f'{where} must be a mapping of names to values, not '
                             f'{type(mapping).__name__}')
        self.where = where
        self._mapping, self._used = mapping, set[str]()

    def has(self, name: str) -> bool:
        """Tell whether there is a value of that name."""
        return name in self._mapping

    def text(self, name: str, default: str | None = None) -> str:
        """Return a value as text: a name may look like a number (``name: 1``)."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self.error(name, value, 'text')
        return value if isinstance(value, str) else shown(value)

    def choice(self, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """Return one of the ``allowed`` texts."""
        value = self._get(name, default)
        if not isinstance(value, str) or value not in allowed:
            raise self.error(name, value, ' or '.join(allowed))
        return value

    def flag(self, name: str, default: bool | None = False) -> bool:
        """Return true or false."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self.error(name, value, 'true or false')
        return value

    def count(self, name: str, default: int | None = None, least: int = 1) -> int:
        """Return a whole number."""
        value = self._get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.error(name, value, f'a whole number from {least} on')
        return value

    def length(self, name: str, default: float | None = None) -> float:
        """Return a length in metres; zero is allowed where there is a default of zero."""
        value = self._get(name, default)
        least = 0.0 if default == 0.0 else 1e-6
        if not _is_number(value) or not least <= value <= _LONGEST:
            raise self.error(name, value, 'a length in metres')
        return float(value)

    def numbers(self, name: str, shape: tuple[int, ...], default: Any = None) -> FloatArray:
        """Return an array of that shape: metres or radians, at most 1000."""
        value = self._get(name, default)
        if not _has_shape(value, shape):
            wanted = f'{" x ".join(map(str, shape))} numbers' if shape else 'a number'
            raise self.error(name, value, f'{wanted} (metres or radians)')
        return np.array(value, np.float64)

    def sequence(self, name: str) -> Sequence[Any]:
        """Return a list with at least one entry."""
        value = self._get(name, None)
        if not isinstance(value, list) or not value:
            raise self.error(name, value, 'a list with at least one entry')
        return value

    def check_all_used(self) -> None:
        """Raise BoardError for names nobody asked for."""
        unknown = sorted(_bare(name) for name in set(self._mapping) - self._used)
        if unknown:
            raise BoardError(f'{self.where}: {", ".join(unknown[:5])} is not known here; known: '
                             f'{", ".join(sorted(self._used))}')

    def error(self, name: str, value: Any, allowed: str) -> BoardError:
        """Return the error of a wrong value."""
        return BoardError(f'{self.where}: {name} is {shown(value)}; allowed: {allowed}')

    def _get(self, name: str, default: Any) -> Any:
        self._used.add(name)
        value = self._mapping.get(name, default)
        if value is None:
            raise BoardError(f'{self.where}: {name} is missing')
        return value


def _bare(name: Any) -> str:
    return shown(name).strip('\'"')


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    if not shape:
        # NaN and infinite numbers are not within it, either.
        return _is_number(value) and abs(value) <= _LONGEST
    return (isinstance(value, (list, tuple)) and len(value) == shape[0]
            and all(_has_shape(item, shape[1:]) for item in value))
