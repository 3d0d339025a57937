"""What all HTTP endpoints share: access, CORS, security headers, JSON errors."""
from __future__ import annotations

from collections.abc import Awaitable
import logging
from types import TracebackType
from typing import Any

from tornado.web import HTTPError, RequestHandler

from camws_bridge import json_text
from camws_bridge.api.bridge import Bridge

log = logging.getLogger(__name__)

_EXPOSED = 'X-Seq, X-Timestamp, X-Frame-Id, X-Width, X-Height, X-Encoding, X-Step'
_POLICY = ("default-src 'self'; img-src 'self' blob:; connect-src 'self' ws: wss:; "
           "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
_CODES = {400: 'bad_request', 401: 'unauthorized', 403: 'forbidden', 404: 'not_found',
          405: 'method_not_allowed', 503: 'unavailable'}
_MESSAGES = {401: 'a token is needed, and none or a wrong one was given',
             403: 'this origin is not allowed; see parameter allowed_origins',
             404: 'there is nothing here; see /api/v1/streams',
             405: 'only GET and HEAD are answered here'}


class ApiError(HTTPError):
    """An error that the client is told of: status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """``message`` names the value and what is allowed."""
        super().__init__(status, message)
        self.code = code
        self.message = message


class ApiHandler(RequestHandler):
    """Checks access before anything else and answers errors as JSON."""

    def initialize(self, bridge: Bridge) -> None:
        """Take the services."""
        self.bridge = bridge

    def set_default_headers(self) -> None:
        """Say nothing of what lies beneath, and that images are never to be kept."""
        self.clear_header('Server')
        self.set_header('Cache-Control', 'no-store')
        self.set_header('X-Content-Type-Options', 'nosniff')
        self.set_header('Content-Security-Policy', _POLICY)

    def prepare(self) -> None:
        """Refuse who may not come in."""
        self._allow_origin()
        if self.request.method != 'OPTIONS' and not self.bridge.access.has_token(self.request):
            raise HTTPError(401)

    def options(self, *_: str) -> None:
        """Answer a browser's question before a request with headers."""
        self.set_header('Access-Control-Allow-Methods', 'GET, HEAD')
        self.set_header('Access-Control-Allow-Headers', 'Authorization')
        self.set_status(204)

    def head(self, *arguments: str) -> Awaitable[None] | None:
        """Answer as GET does, without the body."""
        return self.get(*arguments)

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

    def _allow_origin(self) -> None:
        origin = self.request.headers.get('Origin')
        if origin is None:
            return
        if not self.bridge.access.is_origin_allowed(self.request):
            raise HTTPError(403)
        self.set_header('Access-Control-Allow-Origin', origin)
        self.set_header('Access-Control-Expose-Headers', _EXPOSED)
        self.set_header('Vary', 'Origin')


class UnknownPathHandler(ApiHandler):
    """Answers every path that no route knows."""

    def prepare(self) -> None:
        """Answer 404, or why the client may not even ask."""
        super().prepare()
        raise HTTPError(404)
