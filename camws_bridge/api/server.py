"""The tornado application, its loop and its thread."""
from __future__ import annotations

import asyncio
from collections.abc import Callable
import concurrent.futures
import errno
import logging
from pathlib import Path
import socket
import ssl
import threading
import time

from tornado.httpserver import HTTPServer
from tornado.web import Application, HTTPError, StaticFileHandler

from camws_bridge.api.bridge import Bridge
from camws_bridge.api.handlers import ApiHandler, UnknownPathHandler
from camws_bridge.api.listening import listen, ListeningSocket, watch_sockets
from camws_bridge.api.loop_watch import watch_loop
from camws_bridge.api.v1 import router
from camws_bridge.api.v1.endpoints.websockets import SHUTTING_DOWN
from camws_bridge.parameter import SettingsError
from camws_bridge.settings import Settings
from camws_bridge.supervision import Threads, WEB

log = logging.getLogger(__name__)

# Resolved, since tornado serves no links that lead out of the folder (colcon makes such).
_STATIC = Path(__file__).resolve().parent / 'static'
_CHECK_EVERY = 0.5
# How long clients may take to receive what is on its way when the server stops (seconds).
_FAREWELL, _STOP_TIMEOUT = 0.5, 1.5
_MAX_CLIENT_MESSAGE = 64 * 1024


class ServerError(RuntimeError):
    """The server cannot listen; the text says why."""


class StaticHandler(StaticFileHandler):
    """The dashboard's files; they hold no secret, so no token is asked for."""

    set_default_headers = ApiHandler.set_default_headers
    write_error = ApiHandler.write_error
    write_json = ApiHandler.write_json
    log_exception = ApiHandler.log_exception

    async def get(self, path: str, include_body: bool = True) -> None:
        """Answer 404 for everything that is no file below the folder."""
        try:
            await super().get(path, include_body)
        except HTTPError as error:
            raise HTTPError(404 if error.status_code == 403 else error.status_code) from None


class Server:
    """
    Owns thread W: everything of tornado happens there.

    ``loop`` exists from the beginning, so that services can be given its call_soon_threadsafe.
    """

    def __init__(self, threads: Threads | None = None) -> None:
        """Make the loop; nothing runs yet. ``threads`` watches the thread."""
        self._threads = threads or Threads()
        self.loop = asyncio.new_event_loop()
        self.port = 0
        self._thread: threading.Thread | None = None
        self._http: HTTPServer | None = None
        self._bridge: Bridge | None = None

    @property
    def url(self) -> str:
        """The address to open; known after ``start``."""
        if self._bridge is None:
            return ''
        settings = self._bridge.settings()
        scheme = 'https' if settings.tls.certfile else 'http'
        host = f'[{settings.host}]' if ':' in settings.host else settings.host
        return f'{scheme}://{host}:{self.port}'

    def call_in_loop(self, call: Callable[[], None]) -> None:
        """Schedule a call on the loop, from any thread; after ``stop`` it is dropped."""
        try:
            self.loop.call_soon_threadsafe(call)
        except RuntimeError:
            # The loop is closed: there is nobody left to send to.
            log.debug('the loop is closed')

    def start(self, bridge: Bridge) -> None:
        """
        Listen and serve; ``port`` is known then.

        Raises ServerError when the address cannot be had, SettingsError for a wrong TLS pair,
        RuntimeError when the server was started before.
        """
        if self._thread is not None:
            raise RuntimeError('Server was started before')
        settings = bridge.settings()
        try:
            tls = _tls_context(settings)
            sockets = _bind(settings.host, settings.port)
        except (ServerError, SettingsError):
            self.loop.close()
            raise
        self.port = sockets[0].getsockname()[1]
        self._bridge = bridge
        self._thread = self._threads.start(WEB, lambda: self._run(sockets, tls))

    def stop(self) -> None:
        """Say goodbye to every client, close and wait; RuntimeError when it does not run."""
        if self._thread is None or not self._thread.is_alive():
            raise RuntimeError('Server is not running')
        closed = asyncio.run_coroutine_threadsafe(self._close(), self.loop)
        try:
            closed.result(_STOP_TIMEOUT)
        except concurrent.futures.TimeoutError:
            log.warning('clients were cut off: they did not close in time')
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def _run(self, sockets: list[ListeningSocket], tls: ssl.SSLContext | None) -> None:
        asyncio.set_event_loop(self.loop)
        assert self._bridge is not None
        self._http = HTTPServer(make_application(self._bridge), ssl_options=tls,
                                idle_connection_timeout=60, max_body_size=_MAX_CLIENT_MESSAGE)
        self._http.add_sockets(sockets)
        watch_sockets(sockets, self._bridge.metrics)
        self._schedule_check()
        watch_loop(self.loop, self._bridge.metrics, lambda: self._threads.beat(WEB))
        self.loop.run_forever()
        self.loop.close()

    def _schedule_check(self) -> None:
        self._check = self.loop.call_later(_CHECK_EVERY, self._check_clients)

    def _check_clients(self) -> None:
        assert self._bridge is not None
        self._schedule_check()
        now = time.monotonic()
        for client in self._bridge.connections.clients():
            try:
                client.check(now)
            except Exception as error:  # one client's failure is never another's
                log.info('a client is removed: %r', error)
                client.abort()

    async def _close(self) -> None:
        assert self._http is not None and self._bridge is not None
        self._check.cancel()
        self._http.stop()
        connections = self._bridge.connections
        for client in connections.clients():
            client.close(SHUTTING_DOWN, 'the bridge is shutting down')
        deadline = time.monotonic() + _FAREWELL
        while connections.total and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for client in connections.clients():
            client.abort()
        await self._http.close_all_connections()
        # One more turn, in which what was cut off is cleaned up.
        await asyncio.sleep(0)
        await _cancel_tasks()


async def _cancel_tasks() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def make_application(bridge: Bridge) -> Application:
    """Return the tornado application over the services."""
    static = {'path': str(_STATIC)}
    return Application(
        [*router.routes(bridge),
         (r'/()', StaticHandler, {**static, 'default_filename': 'index.html'}),
         (r'/static/(.*)', StaticHandler, static)],
        default_handler_class=UnknownPathHandler, default_handler_args={'bridge': bridge},
        websocket_max_message_size=_MAX_CLIENT_MESSAGE, log_function=_log_request)


def _log_request(handler: ApiHandler) -> None:
    # Paths only: a query may hold a token.
    log.debug('%s %s %s %d', handler.request.remote_ip, handler.request.method,
              handler.request.path, handler.get_status())


def _bind(host: str, port: int) -> list[ListeningSocket]:
    """Return one listening socket for each address of a host, all on the same port."""
    sockets: list[ListeningSocket] = []
    try:
        missing = None
        for family, _, _, _, address in socket.getaddrinfo(
                host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            try:
                sockets.append(listen(family, str(address[0]), port))
            except OSError as error:
                # /etc/hosts may name ::1 where there is no IPv6 (containers): one is enough.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
            else:
                port = sockets[0].getsockname()[1]
        if not sockets and missing is not None:
            raise missing
        return sockets
    except OSError as error:
        for listening in sockets:
            listening.close()
        if error.errno == errno.EADDRINUSE:
            raise ServerError(f'port {port} on {host} is in use: set parameter port to another, '
                              'or to 0 for any free one') from None
        raise ServerError(f'parameter host: cannot listen on {host}:{port}: '
                          f'{error.strerror or error}') from None


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    tls = settings.tls
    if not tls.certfile:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(tls.certfile, tls.keyfile)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"parameter tls.certfile: '{tls.certfile}' and tls.keyfile "
                            f"'{tls.keyfile}' cannot be used: {error}") from None
    return context
