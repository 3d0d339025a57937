"""Listening sockets that outlast a process without free file descriptors."""
from __future__ import annotations

from collections.abc import Callable, Sequence
import errno
import logging
import socket
from typing import Any

from tornado.ioloop import IOLoop

from camws_bridge.metrics import Metrics

log = logging.getLogger(__name__)

_BACKLOG = 1024
# What the kernel answers when there is no room for one more connection, for now.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# How long nothing is accepted then (seconds): who waits, waits in the backlog.
_PAUSE = 0.5


class ListeningSocket(socket.socket):
    """A listening socket; ``on_exhausted`` is told when a connection cannot be accepted."""

    on_exhausted: Callable[[OSError], None] | None = None

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection; BlockingIOError when there is none, or no room for it."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED or self.on_exhausted is None:
                raise
            self.on_exhausted(error)
            raise BlockingIOError(error.errno, error.strerror) from None


def listen(family: int, address: str, port: int) -> ListeningSocket:
    """Return a socket that listens; raises OSError."""
    server = socket.create_server((address, port), family=family, backlog=_BACKLOG)
    server.setblocking(False)
    listening = ListeningSocket(fileno=server.detach())
    listening.setblocking(False)
    return listening


def watch_sockets(sockets: Sequence[ListeningSocket], metrics: Metrics) -> None:
    """
    Have exhausted sockets pause, on the loop's thread.

    The connection that could not be accepted still waits: without a pause the loop would be woken
    for it again and again, and do nothing else.
    """
    loop = IOLoop.current()

    def resume(listening: ListeningSocket) -> None:
        if listening.fileno() >= 0:
            loop.update_handler(listening.fileno(), IOLoop.READ)

    def watch(listening: ListeningSocket) -> None:
        def pause(error: OSError) -> None:
            metrics.accept_failures.inc()
            log.warning('no connection can be accepted for now: %s', error.strerror)
            loop.update_handler(listening.fileno(), 0)
            loop.call_later(_PAUSE, resume, listening)
        listening.on_exhausted = pause

    for listening in sockets:
        watch(listening)
