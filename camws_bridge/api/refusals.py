"""How a refusal looks on the wire, also where no handler has been reached yet."""
from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
import math

from camws_bridge import json_text


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why somebody does not come in: HTTP status, code, words; ``retry_after`` in seconds."""

    status: int
    code: str
    message: str
    retry_after: float | None = None

    @property
    def retry_after_header(self) -> str:
        """The value of Retry-After: whole seconds, at least one; empty for none."""
        return '' if self.retry_after is None else str(max(1, math.ceil(self.retry_after)))

    def body(self) -> bytes:
        """Return the JSON text of the contract."""
        return json_text.dumps({'error': {'code': self.code, 'message': self.message}})

    def response(self) -> bytes:
        """Return a whole HTTP response, after which the connection is closed."""
        body = self.body()
        lines = [f'HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}',
                 'Content-Type: application/json', f'Content-Length: {len(body)}',
                 'Cache-Control: no-store', 'X-Content-Type-Options: nosniff',
                 'Connection: close']
        if self.retry_after is not None:
            lines.append(f'Retry-After: {self.retry_after_header}')
        return '\r\n'.join([*lines, '', '']).encode() + body


MALFORMED = Refusal(400, 'bad_request', 'this is no HTTP request that the bridge understands')
LATE = Refusal(408, 'too_slow', 'the request took too long; see parameter '
               'limits.handshake_timeout')
HEADER_TOO_LONG = Refusal(431, 'header_too_long', 'the header of the request is too long; see '
                          'parameter limits.header_bytes')
BODY_TOO_LONG = Refusal(413, 'body_too_long', 'the body of the request is too long; nothing '
                        'here needs one')
