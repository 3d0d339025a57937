"""Accepts connections: counted, timed, and turned away where there are too many."""
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
import errno
import logging
import socket
import ssl
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection, HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine)
from tornado.iostream import IOStream, SSLIOStream, UnsatisfiableReadError
from tornado.netutil import ssl_wrap_socket

from camws_bridge.api.limits import Limits
from camws_bridge.api.refusals import (
    BODY_TOO_LONG, HEADER_TOO_LONG, LATE, MALFORMED, Refusal)
from camws_bridge.settings import Settings

log = logging.getLogger(__name__)

# At most so many are accepted before others have their turn.
_AT_ONCE = 16
# How long nothing is accepted when there are no descriptors (seconds).
_PAUSE = 0.25
# How many that are turned away may take their time to read why, and how long (seconds).
_MOST_LINGERING, _LINGER = 64, 1.0
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# What tornado logs of what is neither TLS nor HTTP.
_RUBBISH = ('SSL Error', 'Malformed HTTP message', 'Unsatisfiable read', 'error on read')
# What tornado answers to what is no HTTP.
_BARE_400 = b'HTTP/1.1 400 Bad Request\r\n\r\n'


class ClientStream(IOStream):
    """A connection that says why it is closed, and to whom it may concern."""

    _on_closed: Callable[[ClientStream], None] | None = None
    _on_refused: Callable[[str], None] | None = None
    _linger: Callable[[socket.socket], None] | None = None
    _timer: asyncio.TimerHandle | None = None
    _has_asked = False

    def begin(self, timer: asyncio.TimerHandle, on_closed: Callable[[ClientStream], None],
              on_refused: Callable[[str], None],
              linger: Callable[[socket.socket], None] | None) -> None:
        """
        Start: ``timer`` ends when the first request has arrived.

        ``linger`` closes a socket when its peer has read what was sent.
        """
        self._timer, self._on_closed, self._on_refused = timer, on_closed, on_refused
        self._linger = linger

    def on_request(self) -> None:
        """Note that a request has arrived as a whole."""
        self._has_asked = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def refuse(self, refusal: Refusal) -> None:
        """Say why, if that is possible, and close."""
        if self.closed():
            return
        if self._on_refused is not None:
            self._on_refused(refusal.code)
        if self._can_talk():
            try:
                self.socket.send(refusal.response())
                if self._linger is not None:
                    self._linger(self.socket.dup())
            except OSError:
                pass    # it is closed anyway
        super().close()
        self._ended()

    def write(self, data: bytes | memoryview) -> Any:
        """Write; what tornado says of malformed requests, in the words of the contract."""
        if len(data) == len(_BARE_400) and data == _BARE_400 and not self.closed():
            if self._on_refused is not None:
                self._on_refused('malformed')
            return super().write(MALFORMED.response())
        return super().write(data)

    def close(self, exc_info: Any = False) -> None:
        """Close; who sends a header that never ends is told so."""
        if isinstance(exc_info, UnsatisfiableReadError) and not self._has_asked:
            self.refuse(HEADER_TOO_LONG)
            return
        if isinstance(exc_info, ssl.SSLError) and not self._has_asked and self._on_refused:
            self._on_refused('tls')
        super().close(exc_info)
        self._ended()

    def _can_talk(self) -> bool:
        return not self.writing()

    def _ended(self) -> None:
        on_closed, self._on_closed = self._on_closed, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if on_closed is not None:
            on_closed(self)


class TlsClientStream(ClientStream, SSLIOStream):
    """The same over TLS."""

    def _can_talk(self) -> bool:
        # A version is known when the handshake is done; before, nobody would understand.
        return super()._can_talk() and self.socket.version() is not None


class GuardedServer(HTTPServer):
    """tornado's server, whose streams know when a request has arrived."""

    def start_request(self, server_conn: object, request_conn: HTTPConnection
                      ) -> HTTPMessageDelegate:
        """Watch over the delegate of a request."""
        stream = getattr(request_conn, 'stream', None)
        delegate = super().start_request(server_conn, request_conn)
        if not isinstance(stream, ClientStream):
            return delegate
        most = self.conn_params.max_body_size
        return _Watched(delegate, stream, 0 if most is None else most)


class _Watched(HTTPMessageDelegate):
    def __init__(self, delegate: HTTPMessageDelegate, stream: ClientStream, most: int) -> None:
        self._delegate, self._stream, self._most = delegate, stream, most

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine,
                         headers: HTTPHeaders) -> Awaitable[None] | None:
        length = headers.get('Content-Length', '')
        if length.isascii() and length.isdigit() and len(length) < 20 and int(length) > self._most:
            self._stream.refuse(BODY_TOO_LONG)
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        self._stream.on_request()
        self._delegate.finish()

    def on_connection_close(self) -> None:
        self._delegate.on_connection_close()


class Listener:
    """Accepts on some sockets, on the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sockets: list[socket.socket],
                 server: HTTPServer, tls: ssl.SSLContext | None, limits: Limits,
                 settings: Callable[[], Settings]) -> None:
        """Hand connections that may come in to ``server``."""
        self._loop, self._sockets = loop, sockets
        self._server, self._tls = server, tls
        self._limits, self._settings = limits, settings
        self._lingering: dict[socket.socket, asyncio.TimerHandle] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._is_exhausted = False

    def start(self) -> None:
        """Accept from now on."""
        _be_quiet_about_rubbish()
        self._pause = None
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def stop(self) -> None:
        """Accept no more, and close the listening sockets."""
        if self._pause is not None:
            self._pause.cancel()
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        for connection in list(self._lingering):
            self._end_lingering(connection)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._wait_for_descriptors(error)
                    return
                continue        # that one is gone already
            self._is_exhausted = False
            try:
                self._take(connection, str(address[0]), address[1])
            except OSError as error:
                log.debug('a connection was lost: %s', error)
                connection.close()

    def _wait_for_descriptors(self, error: OSError) -> None:
        # The socket would wake the loop again at once, for nothing.
        for listening in self._sockets:
            self._loop.remove_reader(listening)
        self._limits.count('no_descriptors')
        if not self._is_exhausted:
            log.error('no connection can be accepted now: %s', error.strerror)
        self._is_exhausted = True
        self._pause = self._loop.call_later(_PAUSE, self.start)

    def _take(self, connection: socket.socket, address: str, port: int) -> None:
        refusal = self._limits.connect(address)
        connection.setblocking(False)
        if refusal is not None:
            self._turn_away(connection, address, refusal)
            return
        try:
            stream = self._open(connection)
        except OSError:
            self._limits.disconnect(address)
            raise
        settings = self._settings()
        timer = self._loop.call_later(settings.limits.handshake_timeout, stream.refuse, LATE)
        stream.begin(timer, lambda _: self._limits.disconnect(address), self._limits.count,
                     self._linger if self._tls is None else None)
        self._server.handle_stream(stream, (address, port))

    def _open(self, connection: socket.socket) -> ClientStream:
        _end_if_nothing_is_taken(connection, self._settings().client_timeout)
        if self._tls is None:
            return ClientStream(connection)
        wrapped = ssl_wrap_socket(connection, self._tls, server_side=True,
                                  do_handshake_on_connect=False)
        return TlsClientStream(wrapped, ssl_options=self._tls)

    # -- who is turned away -------------------------------------------------------------------

    def _turn_away(self, connection: socket.socket, address: str, refusal: Refusal) -> None:
        """Say why in clear text; TLS would need a costly handshake for that."""
        if self._tls is not None or not self._limits.is_worth_an_answer(address):
            connection.close()
            return
        connection.send(refusal.response())
        self._linger(connection)

    def _linger(self, connection: socket.socket) -> None:
        """Close when the peer has; with something unread it would be reset, the answer lost."""
        if len(self._lingering) >= _MOST_LINGERING:
            connection.close()
            return
        connection.shutdown(socket.SHUT_WR)
        self._lingering[connection] = self._loop.call_later(
            _LINGER, self._end_lingering, connection)
        self._loop.add_reader(connection, self._drain, connection)

    def _drain(self, connection: socket.socket) -> None:
        try:
            if connection.recv(1 << 16):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self._end_lingering(connection)

    def _end_lingering(self, connection: socket.socket) -> None:
        self._lingering.pop(connection).cancel()
        self._loop.remove_reader(connection)
        connection.close()


def _be_quiet_about_rubbish() -> None:
    """Have rubbish counted, not logged: it could fill the disk, and repeat a token."""
    general = logging.getLogger('tornado.general')
    if _is_worth_a_line not in general.filters:
        general.addFilter(_is_worth_a_line)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_RUBBISH)


def _end_if_nothing_is_taken(connection: socket.socket, seconds: float) -> None:
    """
    Have the kernel end a connection whose peer takes nothing of what is sent.

    Streaming clients are removed before that; this is for answers to HTTP requests.
    """
    if hasattr(socket, 'TCP_USER_TIMEOUT'):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT,
                              int(2000 * seconds))
