"""What all HTTP endpoints share: access, CORS, security headers, JSON errors."""
from __future__ import annotations

from collections.abc import Awaitable
import logging
from types import TracebackType
from typing import Any

from tornado.web import HTTPError, RequestHandler

from camws_bridge import json_text
from camws_bridge.api.access import Refused
from camws_bridge.api.bridge import Bridge
from camws_bridge.api.origins import host_name
from camws_bridge.tokens import Token

log = logging.getLogger(__name__)

_EXPOSED = 'X-Seq, X-Timestamp, X-Frame-Id, X-Width, X-Height, X-Encoding, X-Step, Retry-After'
_POLICY = ("default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
           "object-src 'none'; "
           "connect-src 'self'{sockets}; base-uri 'none'; form-action 'none'; "
           "frame-ancestors 'none'; require-trusted-types-for 'script'")
_CODES = {400: 'bad_request', 401: 'unauthorized', 403: 'forbidden', 404: 'not_found',
          405: 'method_not_allowed', 500: 'internal', 503: 'unavailable'}
_MESSAGES = {400: 'the request is not one that is understood here',
             404: 'there is nothing here; see /api/v1/streams',
             405: 'only GET and HEAD are answered here',
             500: 'the bridge failed to answer; its log says why'}


class ApiError(HTTPError):
    """An error that the client is told of: status, code and message."""

    def __init__(self, status: int, code: str, message: str, retry_after: str = '') -> None:
        """``message`` names the value and what is allowed; ``retry_after`` is the header."""
        super().__init__(status, message)
        self.code = code
        self.message = message
        self.retry_after = retry_after

    @classmethod
    def of(cls, refused: Refused) -> ApiError:
        """Return the error that answers a refusal."""
        refusal = refused.refusal
        return cls(refusal.status, refusal.code, refusal.message, refusal.retry_after_header)


class BaseHandler(RequestHandler):
    """What every answer has in common: its headers, its errors as JSON, who is admitted."""

    bridge: Bridge
    grant: Token | None = None

    def set_default_headers(self) -> None:
        """Say nothing of what lies beneath, and that images are never to be kept."""
        self.clear_header('Server')
        self.set_header('Cache-Control', 'no-store')
        self.set_header('X-Content-Type-Options', 'nosniff')
        self.set_header('Referrer-Policy', 'no-referrer')
        self.set_header('Vary', 'Origin')
        self.set_header('Content-Security-Policy', _policy(self.request.headers.get('Host', '')))
        # tornado calls this once before ``initialize``, and again before an error is written.
        bridge: Bridge | None = getattr(self, 'bridge', None)
        if bridge is not None:
            self._set_origin_headers(bridge)

    def peer(self) -> tuple[str, str]:
        """Return address and port of the client, and the name of its token."""
        address, context = str(self.request.remote_ip), getattr(
            self.request.connection, 'context', None)
        port = getattr(context, 'address', (address, 0))[1]
        host = f'[{address}]' if ':' in address else address
        return f'{host}:{port}', self.grant.name if self.grant else ''

    def admit(self) -> None:
        """Find out who asks, and refuse who may not come in; ``grant`` is None without a token."""
        self.request.remote_ip = self.bridge.access.address_of(self.request)
        try:
            self.grant = self.bridge.access.admit(self.request)
        except Refused as refused:
            raise ApiError.of(refused) from None

    def admit_with_token(self) -> Token:
        """Do as ``admit``, and refuse who shows no token though one is needed."""
        self.admit()
        if self.grant is None:
            raise ApiError.of(self.bridge.access.refuse_without_token())
        return self.grant

    def need(self, name: str) -> None:
        """Refuse who shows a token that is not for a stream (or camera_info, or metrics)."""
        if self.grant is None or not self.grant.allows(name):
            raise ApiError.of(self.bridge.access.refuse_stream(name))

    def write_json(self, value: Any) -> None:
        """Answer with a JSON value."""
        self.set_header('Content-Type', 'application/json')
        self.write(json_text.dumps(value))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer an error as JSON, without a trace of the program."""
        error = kwargs.get('exc_info', (None, None))[1]
        code = _CODES.get(status_code, 'error')
        message = _MESSAGES.get(status_code, self._reason)
        if isinstance(error, ApiError):
            code, message = error.code, error.message
            if error.retry_after:
                self.set_header('Retry-After', error.retry_after)
        if status_code == 405:
            self.set_header('Allow', 'GET, HEAD')
        if status_code == 401:
            self.set_header('WWW-Authenticate', 'Bearer')
        self.write_json({'error': {'code': code, 'message': message}})

    def log_exception(self, typ: type[BaseException] | None, value: BaseException | None,
                      tb: TracebackType | None) -> None:
        """Log what went wrong; never the query, which may hold a token."""
        if isinstance(value, HTTPError):
            log.debug('%s %s: %s', self.request.remote_ip, self.request.path, value)
        else:
            log.error('%s failed: %s', self.request.path, value, exc_info=value)

    def _set_origin_headers(self, bridge: Bridge) -> None:
        others = bridge.access.origins.allows_others
        # An <img> asks without an origin: whether it may show what comes is said here. Other
        # ports of the same host may, as they always could.
        self.set_header('Cross-Origin-Resource-Policy',
                        'cross-origin' if others else 'same-site')
        origin = self.request.headers.get('Origin')
        if origin is not None and bridge.access.is_origin_allowed(self.request):
            self.set_header('Access-Control-Allow-Origin', origin)
            self.set_header('Access-Control-Expose-Headers', _EXPOSED)


def _policy(host: str) -> str:
    """Return the policy of a page: nothing inline, nothing from elsewhere."""
    # For older browsers 'self' is no WebSocket. What is no name must not get into the header.
    sockets = f' ws://{host} wss://{host}' if host_name(host) else ''
    return _POLICY.format(sockets=sockets)


class ApiHandler(BaseHandler):
    """Checks access before anything else and answers errors as JSON."""

    # Whether ``get`` answers without a token, too (``grant`` is None then).
    is_open = False

    def initialize(self, bridge: Bridge) -> None:
        """Take the services."""
        self.bridge = bridge
        self.set_default_headers()

    def prepare(self) -> None:
        """Refuse who may not come in."""
        if self.is_open or self.request.method == 'OPTIONS':
            self.admit()
        else:
            self.admit_with_token()

    def options(self, *_: str) -> None:
        """Answer a browser's question before a request with headers."""
        self.set_header('Access-Control-Allow-Methods', 'GET, HEAD')
        self.set_header('Access-Control-Allow-Headers', 'Authorization')
        self.set_header('Access-Control-Max-Age', '600')
        self.set_status(204)

    def head(self, *arguments: str) -> Awaitable[None] | None:
        """Answer as GET does, without the body."""
        return self.get(*arguments)


class UnknownPathHandler(ApiHandler):
    """Answers every path that no route knows."""

    def prepare(self) -> None:
        """Answer 404, or why the client may not even ask."""
        super().prepare()
        raise HTTPError(404)
