"""How sockets of streaming clients are set up."""
from __future__ import annotations

import socket

from tornado.iostream import IOStream

# What may wait in the kernel unsent before a client counts as busy (bytes).
_UNSENT = 32 * 1024


def keep_fresh(stream: IOStream) -> None:
    """Have small messages sent at once, and the kernel hide no backlog of old images."""
    stream.set_nodelay(True)
    if hasattr(socket, 'TCP_NOTSENT_LOWAT'):
        stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
