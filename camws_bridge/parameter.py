"""What a parameter is: its name, default, description and what is allowed for it."""
from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
import math
from typing import Any, get_type_hints


class SettingsError(ValueError):
    """A value that is not allowed; the text names parameter, value and what is allowed."""


@dataclass(frozen=True)
class Parameter:
    """
    What is allowed for one parameter.

    ``live`` parameters take effect while the bridge runs; the value of a ``secret`` one is never
    shown. ``check`` raises ValueError with the reason for a value that the range cannot exclude.
    ``numerals``: a whole number is as good as its text, since ROS reads ``7`` as a number.
    """

    name: str
    kind: str
    default: Any
    description: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False
    secret: bool = False
    numerals: bool = False
    check: Callable[[Any], None] | None = None

    @property
    def allowed(self) -> str:
        """Say in words what is allowed."""
        if self.choices:
            return ' or '.join(repr(choice) for choice in self.choices)
        words = {'bool': 'true or false', 'int': 'a whole number', 'float': 'a number',
                 'str': 'text', 'strings': 'a list of texts', 'floats': 'a list of numbers'}
        text = words[self.kind]
        if self.least is not None and self.most is not None:
            text += f' from {_plain(self.least)} to {_plain(self.most)}'
        elif self.least is not None:
            text += f' from {_plain(self.least)} on'
        return text

    def validate(self, value: Any) -> Any:
        """Return the value in the parameter's type; raises SettingsError."""
        converted = _CONVERTERS[self.kind](_numerals(value) if self.numerals else value)
        if converted is None or not self._in_range(converted):
            shown = 'the value given' if self.secret else repr(value)
            raise SettingsError(f'parameter {self.name}: {shown} is not allowed; allowed: '
                                f'{self.allowed}')
        if self.check is not None:
            try:
                self.check(converted)
            except ValueError as error:
                raise SettingsError(f'parameter {self.name}: {error}') from None
        return converted

    def _in_range(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if self.kind not in ('int', 'float'):
            return True
        return ((self.least is None or value >= self.least)
                and (self.most is None or value <= self.most))


def _plain(number: float) -> str:
    """Return a number as people write it, without an exponent."""
    return f'{number:f}'.rstrip('0').rstrip('.')


def _to_bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _to_int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _to_float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _to_str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _numerals(value: Any) -> Any:
    """Return whole numbers, and those in lists, as their text; other values as they are."""
    if isinstance(value, (array, list, tuple)):
        return [_numerals(item) for item in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _to_tuple(value: Any, convert: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    if isinstance(value, array):
        value = value.tolist()      # so rclpy hands number arrays over
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        return None
    converted = tuple(convert(item) for item in value)
    return None if None in converted else converted


def _to_strings(value: Any) -> tuple[str, ...] | None:
    return _to_tuple(value, _to_str)


def _to_floats(value: Any) -> tuple[float, ...] | None:
    return _to_tuple(value, _to_float)


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    'bool': _to_bool, 'int': _to_int, 'float': _to_float, 'str': _to_str,
    'strings': _to_strings, 'floats': _to_floats,
}
_KINDS = {bool: 'bool', int: 'int', float: 'float', str: 'str',
          tuple[str, ...]: 'strings', tuple[float, ...]: 'floats'}


def parameter(default: Any, description: str, **allowed: Any) -> Any:
    """Return a dataclass field that is a parameter; ``allowed`` as in Parameter."""
    return field(default=default, metadata={'description': description, **allowed})


def describe(group: type, prefix: str = '') -> Iterator[Parameter]:
    """Yield the parameters that the fields of a dataclass (and of its groups) describe."""
    hints = get_type_hints(group)
    for item in fields(group):
        hint = hints[item.name]
        if is_dataclass(hint):
            yield from describe(hint, f'{prefix}{item.name}.')  # type: ignore[arg-type]
        else:
            yield Parameter(prefix + item.name, _KINDS[hint], item.default, **item.metadata)
