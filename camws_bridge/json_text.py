"""
JSON as the wire wants it: compact, UTF-8, every number finite.

The standard library's: faster ones are no ROS package on every distribution.
"""
from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def dumps(value: Any) -> bytes:
    """Return JSON text; raises ValueError for NaN and infinite numbers."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False,
                      separators=(',', ':')).encode()


def loads(text: str | bytes | memoryview) -> Any:
    """
    Return the value of JSON text.

    Raises ValueError for what is none, for numbers that are not finite (1e999) and for text that
    is nested too deeply.
    """
    data = bytes(text) if isinstance(text, memoryview) else text
    try:
        return json.loads(data, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError('it is nested too deeply') from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f'{constant} is not JSON')


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f'{text} is too large')
    return value
