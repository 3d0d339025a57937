"""What a client may ask of a stream, in the query of /ws/ and by ``configure``."""
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

DEFAULT_WINDOW = 2
MAX_WINDOW = 100
_MAX_RATE = 1000
_MAX_WIDTH = 1000000


class OptionError(ValueError):
    """An option with a value that is not allowed; the text names it and what is allowed."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """
    What one client asked for; None means the stream's own.

    ``fps``: at most so many messages a second. ``width``: px. ``quality``: JPEG, 1-100.
    ``window``: messages on their way to a client that sends acks. ``embed``: names of objects in
    the header of camws.v1 images. ``adaptive``: less than that while the client falls behind.
    """

    fps: float | None = None
    width: int | None = None
    quality: int | None = None
    marker_id: int | None = None
    window: int = DEFAULT_WINDOW
    embed: tuple[str, ...] = ()
    adaptive: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return what ``configured`` reports."""
        return {'fps': self.fps, 'width': self.width, 'quality': self.quality,
                'window': self.window, 'embed': list(self.embed), 'adaptive': self.adaptive}


def parse_query(query: Mapping[str, str], embeddable: Collection[str]) -> ClientOptions:
    """Return the options of a query string; raises OptionError. Other names are ignored."""
    values: dict[str, Any] = {}
    for name, convert in (('fps', float), ('width', int), ('quality', int), ('id', int)):
        if name in query:
            values[name] = _from_text(name, query[name], convert)
    if 'adaptive' in query:
        values['adaptive'] = _SWITCH.get(query['adaptive'], query['adaptive'])
    if 'embed' in query:
        values['embed'] = [name for name in query['embed'].split(',') if name]
    return apply(ClientOptions(), values, embeddable)


def apply(options: ClientOptions, values: Mapping[str, Any],
          embeddable: Collection[str]) -> ClientOptions:
    """
    Return the options with some changed, by name as on the wire; raises OptionError.

    A value of None goes back to the stream's own; names that are no option are ignored.
    """
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name == 'embed':
            changes['embed'] = _check_embed(value, embeddable)
        elif name in _FIELDS:
            field, check, allowed = _FIELDS[name]
            if value is not None and not check(value):
                raise _error(name, value, allowed)
            changes[field] = DEFAULTS[field] if value is None else value
    return replace(options, **changes)


def _is_int(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_rate(value: Any) -> bool:
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and 0 < value <= _MAX_RATE)


_FIELDS: dict[str, tuple[str, Callable[[Any], bool], str]] = {
    'fps': ('fps', _is_rate, f'a number greater than 0, at most {_MAX_RATE}'),
    'width': ('width', lambda value: _is_int(value, 1, _MAX_WIDTH),
              f'a whole number from 1 to {_MAX_WIDTH}'),
    'quality': ('quality', lambda value: _is_int(value, 1, 100), 'a whole number from 1 to 100'),
    'id': ('marker_id', lambda value: _is_int(value, 0, 65535), 'a marker id from 0 to 65535'),
    'window': ('window', lambda value: _is_int(value, 1, MAX_WINDOW),
               f'a whole number from 1 to {MAX_WINDOW}'),
    'adaptive': ('adaptive', lambda value: isinstance(value, bool), '0 or 1 (false or true)'),
}
DEFAULTS = {'fps': None, 'width': None, 'quality': None, 'marker_id': None,
            'window': DEFAULT_WINDOW, 'adaptive': False}
_SWITCH = {'0': False, '1': True, 'false': False, 'true': True}


def _from_text(name: str, text: str, convert: Callable[[str], Any]) -> Any:
    try:
        # Python's own numbers may hold underscores and foreign digits; the web's do not.
        if '_' in text or not text.isascii():
            raise ValueError(text)
        return convert(text)
    except ValueError:
        raise _error(name, text, _FIELDS[name][2]) from None


def _check_embed(value: Any, embeddable: Collection[str]) -> tuple[str, ...]:
    names = [] if value is None else value
    if not isinstance(names, list) or not all(name in embeddable for name in names):
        raise _error('embed', value, ', '.join(embeddable))
    # Sorted and unique, so that clients that ask for the same share the same bytes.
    return tuple(sorted(set(names)))


def _error(name: str, value: Any, allowed: str) -> OptionError:
    return OptionError(f'{name}: {value!r} is not allowed; allowed: {allowed}')
