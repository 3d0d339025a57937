"""The upgrade to a WebSocket: what is wrong with one, in words and as JSON."""
from __future__ import annotations

import re

from tornado.httputil import HTTPServerRequest

from camws_bridge.api.handlers import ApiError

_VERSION = '13'
# RFC 6455: 16 bytes in base64.
_KEY = re.compile(r'[A-Za-z0-9+/]{22}==')


def check_upgrade(request: HTTPServerRequest) -> None:
    """Raise ApiError for what is no opening handshake of RFC 6455."""
    headers = request.headers
    connection = [word.strip().lower() for word in headers.get('Connection', '').split(',')]
    if headers.get('Upgrade', '').lower() != 'websocket' or 'upgrade' not in connection:
        raise ApiError(400, 'websocket_only',
                       'this path speaks WebSocket only; for stills see /api/v1/images')
    if headers.get('Sec-WebSocket-Version') != _VERSION:
        raise ApiError(426, 'websocket_version', 'only version 13 of the WebSocket protocol is '
                       'spoken here')
    if not _KEY.fullmatch(headers.get('Sec-WebSocket-Key', '')):
        raise ApiError(400, 'websocket_key', 'Sec-WebSocket-Key must be 16 bytes in base64')
