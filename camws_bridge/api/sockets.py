"""The sockets of streaming clients: nothing old waits in them, and whole frames go straight in."""
from __future__ import annotations

from collections.abc import Callable
import socket
import struct
import sys

from tornado.concurrent import Future
from tornado.iostream import IOStream, SSLIOStream, StreamClosedError

# struct tcp_info of <linux/tcp.h>: tcpi_bytes_acked.
_ACKED_OFFSET, _ACKED = 120, struct.Struct('=Q')


def keep_fresh(sock: socket.socket, unsent: int) -> None:
    """
    Have small messages sent at once, and the kernel hide no backlog of old images.

    ``unsent`` is how much may wait in the kernel unsent before the socket counts as full (bytes).
    Where the platform cannot limit that, the whole send buffer is made as small.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent)
    except (AttributeError, OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, unsent)


def acknowledged_bytes(sock: socket.socket) -> int | None:
    """Return how many bytes the peer's kernel has acknowledged so far; None: not known here."""
    if sys.platform != 'linux':
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED_OFFSET + _ACKED.size)
    if len(info) < _ACKED_OFFSET + _ACKED.size:
        return None     # Linux before 4.1
    return int(_ACKED.unpack_from(info, _ACKED_OFFSET)[0])


class FrameWriter:
    """
    Writes complete frames to the socket below one of tornado's streams, without waiting.

    A frame goes to the kernel by one non-blocking ``send`` of the shared bytes; tornado's stream,
    which keeps a list and a future for every write, sees only what the kernel did not take.
    """

    def __init__(self, stream: IOStream, unsent: int, on_drained: Callable[[], None]) -> None:
        """
        Take over a stream's writing; ``unsent`` as in ``keep_fresh``.

        ``on_drained`` is called when the rest of a frame is gone that ``write`` left behind.
        Raises StreamClosedError or OSError when the connection is gone already.
        """
        if stream.closed():
            raise StreamClosedError()
        self._stream, self._on_drained = stream, on_drained
        self._send = stream.socket.send
        # TLS makes its own records: they go through the stream.
        self._is_plain = not isinstance(stream, SSLIOStream)
        self._acknowledged = acknowledged_bytes(stream.socket)
        keep_fresh(stream.socket, unsent)

    def write(self, frame: bytes) -> bool:
        """
        Send a frame; return True when the kernel took all of it.

        Raises StreamClosedError or OSError when the connection is gone.
        """
        stream = self._stream
        sent = 0
        # What tornado has buffered goes first.
        if self._is_plain and not stream.writing():
            try:
                sent = self._send(frame)
            except BlockingIOError:
                pass
            if sent == len(frame):
                return True
        stream.write(memoryview(frame)[sent:]).add_done_callback(self._on_written)
        return False

    def is_taken(self) -> bool:
        """
        Tell whether a peer that is behind has taken bytes since the last call.

        Of one that is not behind this says nothing: its kernel takes pings, even for a program
        that has stopped.
        """
        if self._stream.closed():
            return False
        before, self._acknowledged = self._acknowledged, acknowledged_bytes(self._stream.socket)
        return self._stream.writing() and self._acknowledged != before

    def abort(self) -> None:
        """Cut the connection."""
        self._stream.close()

    def _on_written(self, future: Future[None]) -> None:
        error = future.exception()
        if error is None:
            self._on_drained()
        elif not isinstance(error, StreamClosedError):
            raise error
