"""Memory settings that large image messages need."""
from __future__ import annotations

import ctypes

# From <malloc.h> of glibc.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_MIB = 1 << 20


def keep_large_blocks() -> None:
    """
    Make malloc keep the memory of images instead of giving it back after each one.

    Otherwise every message of some megabytes is mapped, page-faulted and unmapped several times,
    which costs more than all the rest of receiving it. Does nothing where there is no glibc.
    """
    try:
        mallopt = ctypes.CDLL('libc.so.6').mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 1024 * _MIB)
    mallopt(_M_TRIM_THRESHOLD, 2 ** 31 - 1)
    mallopt(_M_TOP_PAD, 64 * _MIB)
