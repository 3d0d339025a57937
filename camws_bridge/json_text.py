"""
JSON as the wire wants it: compact, UTF-8, every number finite.

The standard library's: faster ones are no ROS package on every distribution.
"""
from __future__ import annotations

import json
from typing import Any, NoReturn


def dumps(value: Any) -> bytes:
    """Return JSON text; raises ValueError for NaN and infinite numbers."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False,
                      separators=(',', ':')).encode()


def loads(text: str | bytes | memoryview) -> Any:
    """Return the value of JSON text; raises ValueError for what is none (NaN included)."""
    data = bytes(text) if isinstance(text, memoryview) else text
    return json.loads(data, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f'{constant} is not JSON')
