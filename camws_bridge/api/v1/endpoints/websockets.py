"""``/ws/{stream_id}``: one client of one stream, with or without the subprotocol camws.v1."""
from __future__ import annotations

import asyncio
import logging
from typing import Any

from tornado.concurrent import Future
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError
from tornado.websocket import (
    WebSocketClosedError, WebSocketHandler, WebSocketProtocol, WebSocketProtocol13)

from camws_bridge import json_text
from camws_bridge.api.bridge import Bridge, Route
from camws_bridge.api.handlers import BaseHandler
from camws_bridge.api.handshake import check_upgrade
from camws_bridge.api.limits import MessageLimit, Seat
from camws_bridge.api.sockets import FrameWriter
from camws_bridge.api.strict_protocol import StrictProtocol
from camws_bridge.models import Message
from camws_bridge.tokens import EVERYBODY
from camws_bridge.websockets import options as client_options
from camws_bridge.websockets.options import ClientOptions, OptionError
from camws_bridge.websockets.stream_status import CATALOGUE, Status, WELL
from camws_bridge.websockets.subscription import Subscription, TooManyVariantsError
from camws_bridge.websockets.wire import PLAIN, SUBPROTOCOL

log = logging.getLogger(__name__)

SHUTTING_DOWN, NO_PONG, NOT_ALLOWED, TOO_MANY = 1001, 1008, 1008, 1013
BAD_OPTION, NO_SUCH_STREAM = 4400, 4404
_CAPABILITIES = ('ack', 'configure', 'time')
# RFC 6455: a control frame holds 125 bytes, two of them are the code.
_MAX_REASON = 123
# How often clients are pinged, in client_timeouts: what the kernel takes is no sign of life.
_PING_SHARE = 0.25
# How long a dead client may take to receive its close frame (seconds).
_FAREWELL = 0.5


class StreamSocket(BaseHandler, WebSocketHandler):
    """Connects one browser or script to a stream; the transport of a StreamClient."""

    def initialize(self, bridge: Bridge) -> None:
        """Take the services."""
        self.bridge = bridge
        self.subscription: Subscription | None = None
        self.status = WELL
        self._writer: FrameWriter | None = None
        self._pinged_at = 0.0
        self._messages = MessageLimit(bridge.access.limits)
        self._seat: Seat | None = None

    # -- before the upgrade -------------------------------------------------------------------

    def prepare(self) -> None:
        """Refuse who may not come in, as HTTP."""
        if self.request.method != 'GET':
            raise HTTPError(405)
        self.grant = self.admit_with_token()
        if self.path_args[0] in CATALOGUE:
            self.need(self.path_args[0])
        check_upgrade(self.request)

    def check_origin(self, origin: str) -> bool:
        """Pass: ``prepare`` has checked it."""
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Choose camws.v1 when it is offered; never what holds a token."""
        return next((name for name in (SUBPROTOCOL, PLAIN) if name in subprotocols), None)

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        """Speak as strictly as RFC 6455 asks."""
        protocol = super().get_websocket_protocol()
        if not isinstance(protocol, WebSocketProtocol13):
            return protocol
        return StrictProtocol(self, protocol.params, self.bridge.access.limits.count)

    # -- the connection -----------------------------------------------------------------------

    def open(self, stream_id: str) -> None:
        """Subscribe, or say why not and close."""
        bridge = self.bridge
        known = bridge.status.stream_ids()
        if stream_id not in known:
            problem = bridge.status.problem(stream_id) if stream_id in CATALOGUE else None
            self.refuse(NO_SUCH_STREAM, problem.message if problem else
                        f'no such stream; there are: {" ".join(known)}')
            return
        query = {name: values[-1].decode('utf-8', 'replace')
                 for name, values in self.request.query_arguments.items()}
        try:
            options = client_options.parse_query(query, self._embeddable())
        except OptionError as error:
            bridge.access.limits.count('bad_option')
            self.refuse(BAD_OPTION, str(error))
            return
        seat = bridge.access.limits.take_seat(str(self.request.remote_ip))
        if isinstance(seat, str):
            self.refuse(TOO_MANY, seat)
            return
        self._seat = seat
        try:
            self.subscription = Subscription(
                bridge.streaming, bridge.metrics, self, stream_id, options, self._is_framed)
        except TooManyVariantsError as error:
            self.refuse(TOO_MANY, str(error))
            return
        assert self.ws_connection is not None and self.ws_connection.stream is not None
        self._writer = FrameWriter(self.ws_connection.stream, bridge.settings().unsent_bytes,
                                   self._on_drained)
        if self._is_framed:
            self._send_json(self._server_info(stream_id))
        log.info('%s watches %s', self._who, stream_id)
        try:
            self.subscription.open()
        except (WebSocketClosedError, OSError) as error:
            self._lose(error)

    async def on_message(self, message: str | bytes) -> None:
        """
        Take a request of a camws.v1 client; what others send means nothing.

        The next one is read when the answer has gone: who asks and never reads fills no memory.
        """
        if self.subscription is None or not self._may_send():
            return
        self.subscription.client.on_alive()
        if not self._is_framed:
            return
        received = self.bridge.clock()
        try:
            request = _parse(message)
            answer = self._handlers[request['op']](self, self.subscription, request, received)
        except OptionError as error:
            self.bridge.access.limits.count('bad_message')
            self.refuse(BAD_OPTION, str(error))
            return
        except (WebSocketClosedError, OSError) as error:
            self._lose(error)
            return
        if answer is not None:
            await asyncio.wait([self._send_json(answer)])

    def on_pong(self, data: bytes) -> None:
        """Note that the client lives; one that says so without end is stopped."""
        if self.subscription is not None and self._may_send():
            self.subscription.client.on_alive()

    def on_ping(self, data: bytes) -> None:
        """Count what tornado has answered."""
        self._may_send()

    def on_close(self) -> None:
        """Unsubscribe."""
        if self._seat is not None:
            self._seat.leave()
        if self.subscription is not None:
            subscription, self.subscription = self.subscription, None
            subscription.close()
            log.info('%s no longer watches %s', self._who, subscription.stream_id)

    # -- called by the server -----------------------------------------------------------------

    def refuse(self, code: int, reason: str) -> None:
        """Close with a code and a reason, cut to what a close frame holds."""
        self.close(code, cut(reason))

    def check(self, now: float) -> None:
        """Ping, remove the client if it is dead, adapt, tell of a changed state (seconds)."""
        if self.subscription is None or self._writer is None:
            return
        client, timeout = self.subscription.client, self.bridge.settings().client_timeout
        if self._writer.is_taken():
            client.on_alive()
        if now - client.last_alive > timeout:
            self._remove_silent()
            return
        problem = self.bridge.access.why_not(
            self.grant or EVERYBODY, (self.subscription.stream_id, *client.options.embed))
        if problem:
            self._end(NOT_ALLOWED, problem)
            return
        if now - self._pinged_at > _PING_SHARE * timeout and self.ws_connection is not None:
            self._pinged_at = now
            self.ping(b'')
        has_changed = self.subscription.adapt(now)
        if self._is_framed:
            if has_changed:
                self._tell(_adapted(self.subscription.in_force))
            self._tell_status()

    def _remove_silent(self) -> None:
        self.bridge.metrics.clients_removed.labels('timeout').inc()
        log.info('%s neither takes bytes nor answers: removed', self._who)
        self._end(NO_PONG, 'no answer to pings')

    def _end(self, code: int, reason: str) -> None:
        self.refuse(code, reason)
        # What waits in front of the close frame may never be taken.
        asyncio.get_running_loop().call_later(_FAREWELL, self.abort)

    def _may_send(self) -> bool:
        if self.subscription is None or self._messages.take():
            return True
        self._end(NOT_ALLOWED, f'too many messages; allowed: {self._messages.rate:g} a second')
        return False

    @property
    def _who(self) -> str:
        """The client in a log: its address, and the name of its token."""
        name = self.grant.name if self.grant else ''
        return f'{self.request.remote_ip} ({name})' if name else str(self.request.remote_ip)

    def _embeddable(self) -> list[str]:
        grant = self.grant or EVERYBODY
        return list(filter(grant.allows, self.bridge.status.embeddable()))

    # -- transport of StreamClient ------------------------------------------------------------

    def send_message(self, message: Message) -> bool:
        """Send a complete frame (see websockets.stream_client.Transport)."""
        if self._writer is None:
            raise WebSocketClosedError()
        return self._writer.write(message.frame)

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Unsubscribe and say goodbye; also tornado's answer to the client's goodbye."""
        # No message may follow a close frame.
        self.on_close()
        super().close(code, reason)

    def abort(self) -> None:
        """Cut the connection."""
        if self._writer is not None:
            self._writer.abort()

    def _on_drained(self) -> None:
        if self.subscription is not None:
            try:
                self.subscription.client.on_drained()
            except (WebSocketClosedError, OSError) as error:
                self._lose(error)

    def _lose(self, error: Exception) -> None:
        """Remove a client that has gone without a word, as it was to be sent something."""
        self.bridge.metrics.clients_removed.labels('send_failed').inc()
        log.debug('%s is gone: %r', self._who, error)
        self.on_close()
        self.abort()

    # -- camws.v1 -----------------------------------------------------------------------------

    @property
    def _is_framed(self) -> bool:
        return self.selected_subprotocol == SUBPROTOCOL

    def _server_info(self, stream_id: str) -> dict[str, Any]:
        return {'op': 'server_info', 'name': 'camws_bridge', 'version': self.bridge.version,
                'session_id': self.bridge.session_id, 'stream': stream_id,
                'content_type': CATALOGUE[stream_id].content_type,
                'capabilities': _CAPABILITIES}

    def _on_ack(self, subscription: Subscription, request: dict[str, Any], _: float) -> None:
        seq = request.get('seq')
        if not isinstance(seq, int) or isinstance(seq, bool):
            raise OptionError(f'ack: seq {seq!r} is not allowed; allowed: a whole number')
        subscription.client.acknowledge(seq)

    def _on_configure(self, subscription: Subscription, request: dict[str, Any], _: float
                      ) -> dict[str, Any]:
        options = client_options.apply(subscription.options, request, self._embeddable())
        subscription.configure(options)
        return {'op': 'configured', **options.as_dict()}

    def _on_time(self, _: Subscription, request: dict[str, Any], received: float
                 ) -> dict[str, Any]:
        t0 = request.get('t0')
        if isinstance(t0, bool) or not isinstance(t0, (int, float)):
            raise OptionError('time: t0 is not a number')
        return {'op': 'time', 't0': t0, 't1': received, 't2': self.bridge.clock()}

    _handlers = {'ack': _on_ack, 'configure': _on_configure, 'time': _on_time}

    def _tell_status(self) -> None:
        assert self.subscription is not None
        told = self.bridge.status.problem(self.subscription.stream_id) or WELL
        # The message may count seconds; news is another state.
        if (told.level, told.code) == (self.status.level, self.status.code):
            return
        self.status = told
        self._tell(told)

    def _tell(self, status: Status) -> None:
        self._send_json({'op': 'status', 'level': status.level, 'code': status.code,
                         'message': status.message})

    def _send_json(self, value: dict[str, Any]) -> Future[None]:
        """Send a JSON text; the future is done when it has gone, or never will."""
        try:
            future = self.write_message(json_text.dumps(value))
        except WebSocketClosedError:
            future = Future()
            future.set_result(None)
        future.add_done_callback(_ignore_closed)
        return future


def _adapted(options: ClientOptions) -> Status:
    given = {'quality': options.quality, 'width': options.width, 'fps': options.fps}
    limits = ', '.join(f'{name} {value:g}' for name, value in given.items() if value is not None)
    return Status('info', 'adapted', limits or 'everything that was asked for')


def cut(reason: str) -> str:
    """Return a reason that fits into a close frame, cut between words."""
    if len(reason.encode()) <= _MAX_REASON:
        return reason
    kept = reason.encode()[:_MAX_REASON - len(' …'.encode())].decode('utf-8', 'ignore')
    return kept.rpartition(' ')[0] + ' …'


def _parse(message: str | bytes) -> dict[str, Any]:
    try:
        request = json_text.loads(message)
    except ValueError as error:
        raise OptionError(f'message is not JSON: {error}') from None
    operations = tuple(StreamSocket._handlers)
    if not isinstance(request, dict) or request.get('op') not in operations:
        given = request.get('op') if isinstance(request, dict) else request
        raise OptionError(f'op: {given!r} is not allowed; allowed: {", ".join(operations)}')
    return request


def _ignore_closed(future: Future[None]) -> None:
    error = future.exception()
    if error is not None and not isinstance(error, (WebSocketClosedError, StreamClosedError)):
        log.warning('a message was not sent: %s', error)


def routes(bridge: Bridge) -> list[Route]:
    """Return the routes of this module."""
    return [(r'/ws/(.+)', StreamSocket, {'bridge': bridge})]
