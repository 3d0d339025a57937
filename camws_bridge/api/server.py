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

from tornado.web import Application, HTTPError, RequestHandler, StaticFileHandler

from camws_bridge.api.bridge import Bridge
from camws_bridge.api.handlers import BaseHandler, UnknownPathHandler
from camws_bridge.api.listener import GuardedServer, Listener
from camws_bridge.api.loop_watch import watch_loop
from camws_bridge.api.tls import load_pair, make_context
from camws_bridge.api.v1 import router
from camws_bridge.api.v1.endpoints.websockets import SHUTTING_DOWN
from camws_bridge.api.watched_files import WatchedFiles
from camws_bridge.parameter import SettingsError
from camws_bridge.supervision import Threads, WEB

log = logging.getLogger(__name__)

# Resolved, since tornado serves no links that lead out of the folder (colcon makes such).
_STATIC = Path(__file__).resolve().parent / 'static'
_CHECK_EVERY = 0.5
# How long clients may take to receive what is on its way when the server stops (seconds).
_FAREWELL, _STOP_TIMEOUT = 0.5, 1.5
_BACKLOG = 1024
# How long a connection is kept for a next request (seconds).
_IDLE_TIMEOUT = 30.0


class ServerError(RuntimeError):
    """The server cannot listen; the text says why."""


class StaticHandler(BaseHandler, StaticFileHandler):
    """The dashboard's files; they hold no secret, so no token is asked for."""

    def initialize(self, bridge: Bridge, path: str,  # type: ignore[override]
                   default_filename: str | None = None) -> None:
        """Take the services and the folder."""
        super().initialize(path, default_filename)
        self.bridge = bridge
        self.set_default_headers()

    async def get(self, path: str, include_body: bool = True) -> None:
        """Answer 404 for everything that is no file below the folder."""
        if '\0' in path:
            raise HTTPError(404)
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
        self._http: GuardedServer | None = None
        self._listener: Listener | None = None
        self._tls: ssl.SSLContext | None = None
        self._tls_files = WatchedFiles([])
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
            self._tls = make_context(settings.tls)
            sockets = _bind(settings.host, settings.port)
        except (ServerError, SettingsError):
            self.loop.close()
            raise
        self.port = sockets[0].getsockname()[1]
        self._bridge = bridge
        bridge.metrics.watch_clients(lambda: bridge.connections.figures(
            bridge.settings().limits.clients_in_metrics, bridge.clock()))
        self._tls_files = WatchedFiles([settings.tls.certfile, settings.tls.keyfile])
        self._thread = self._threads.start(WEB, lambda: self._run(sockets))

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

    def reload(self) -> None:
        """Read tokens and certificate again, from any thread; broken files change nothing."""
        self.call_in_loop(self._reload)

    def _run(self, sockets: list[socket.socket]) -> None:
        asyncio.set_event_loop(self.loop)
        assert self._bridge is not None
        settings, limits = self._bridge.settings, self._bridge.access.limits
        now = settings().limits
        self._http = GuardedServer(
            make_application(self._bridge), max_header_size=now.header_bytes,
            max_body_size=now.body_bytes, body_timeout=now.handshake_timeout,
            idle_connection_timeout=max(_IDLE_TIMEOUT, now.handshake_timeout))
        self._listener = Listener(self.loop, sockets, self._http, self._tls, limits, settings)
        self._listener.start()
        self._schedule_check()
        watch_loop(self.loop, self._bridge.metrics, lambda: self._threads.beat(WEB))
        self.loop.run_forever()
        self.loop.close()

    def _schedule_check(self) -> None:
        self._check = self.loop.call_later(_CHECK_EVERY, self._check_clients)

    def _check_clients(self) -> None:
        assert self._bridge is not None
        self._schedule_check()
        self._look_for_changes()
        now = time.monotonic()
        for client in self._bridge.connections.clients():
            try:
                client.check(now)
            except Exception as error:  # one client's failure is never another's
                log.info('a client is removed: %r', error)
                client.abort()

    def _look_for_changes(self) -> None:
        assert self._bridge is not None
        self._bridge.access.look_for_changes()
        if self._tls_files.has_changed():
            self._reload_tls()

    def _reload(self) -> None:
        assert self._bridge is not None
        self._bridge.access.reload()
        self._tls_files.take_as_known()
        self._reload_tls()

    def _reload_tls(self) -> None:
        assert self._bridge is not None
        settings = self._bridge.settings().tls
        if self._tls is None:
            return
        try:
            make_context(settings)      # first elsewhere: half a pair must not be taken
            load_pair(self._tls, settings)
        except SettingsError as error:
            log.error('the certificate stays as it was: %s', error)
            return
        log.info('certificate of %s is in force for new connections', settings.certfile)

    async def _close(self) -> None:
        assert self._http is not None and self._bridge is not None
        assert self._listener is not None
        self._check.cancel()
        self._listener.stop()
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
    static = {'bridge': bridge, 'path': str(_STATIC)}
    return Application(
        [*router.routes(bridge),
         (r'/()', StaticHandler, {**static, 'default_filename': 'index.html'}),
         (r'/static/(.*)', StaticHandler, static)],
        default_handler_class=UnknownPathHandler, default_handler_args={'bridge': bridge},
        websocket_max_message_size=bridge.settings().limits.message_bytes,
        log_function=_log_request)


def _log_request(handler: RequestHandler) -> None:
    # Paths only: a query may hold a token.
    log.debug('%s %s %s %d', handler.request.remote_ip, handler.request.method,
              handler.request.path, handler.get_status())


def _bind(host: str, port: int) -> list[socket.socket]:
    """Return one listening socket for each address of a host, all on the same port."""
    sockets: list[socket.socket] = []
    try:
        missing = None
        for family, _, _, _, address in socket.getaddrinfo(
                host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            try:
                sockets.append(_listen(family, str(address[0]), port))
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


def _listen(family: int, address: str, port: int) -> socket.socket:
    listening = socket.create_server((address, port), family=family, backlog=_BACKLOG)
    listening.setblocking(False)
    return listening
