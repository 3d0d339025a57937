"""Small text files that people write: read with a limit, YAML without silent mistakes."""
from __future__ import annotations

from typing import Any

import yaml

# Also of what never ends, as a device named by mistake.
_MOST_BYTES = 1_000_000


class FileError(ValueError):
    """A file that cannot be read; the text says why, and in which line."""


def read_text(path: str) -> str:
    """Return the text (UTF-8) of a file; raises FileError."""
    try:
        with open(path, 'rb') as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise FileError(error.strerror or str(error)) from error
    except ValueError as error:     # a name with a NUL
        raise FileError(str(error)) from error
    if len(data) > _MOST_BYTES:
        raise FileError(f'it is too large; allowed: up to {_MOST_BYTES // 1000} kB')
    try:
        return data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = data.count(b'\n', 0, error.start) + 1
        raise FileError(f'line {line}: it is not text (UTF-8)') from error


def load_yaml(text: str) -> Any:
    """Return what the first document of a YAML text holds; raises FileError."""
    try:
        return next(yaml.load_all(text, _Loader), None)
    except yaml.YAMLError as error:
        mark = getattr(error, 'problem_mark', None)
        where = f'line {mark.line + 1}: ' if mark else ''
        problem = getattr(error, 'problem', None) or error
        raise FileError(f'{where}it is not YAML: {_one_line(problem)}') from error
    except RecursionError:
        raise FileError('it is nested too deeply') from None
    except (ValueError, OverflowError, TypeError, AttributeError, LookupError) as error:
        # What looks like a date or a number to YAML and is none.
        raise FileError(f'it holds a value that is none: {_one_line(error)}') from error


class _Loader(yaml.SafeLoader):
    """PyYAML takes the last of two equal names in silence; here they are an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != '<<':
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f'{key.value} stands twice', key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _one_line(problem: object) -> str:
    return ' '.join(str(problem).split())[:200]
