"""The WebSocket protocol, as strict as RFC 6455 asks, and with reasons: tornado's is lenient."""
from __future__ import annotations

from collections.abc import Callable
import struct
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketHandler, WebSocketProtocol13

PROTOCOL_ERROR, NO_TEXT, POLICY, TOO_BIG = 1002, 1007, 1008, 1009
# Frames of one message; they could be empty, and no other limit would see them.
MOST_FRAGMENTS = 1000

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_OPCODES = {_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG}
# RFC 6455 section 7.4 and the registry of IANA; 3000 to 4999 are for libraries and applications.
_CLOSE_CODES = {*range(1000, 1004), *range(1007, 1015)}
# What each is counted as.
_REASONS = {PROTOCOL_ERROR: 'websocket_protocol', NO_TEXT: 'websocket_text',
            POLICY: 'websocket_fragments', TOO_BIG: 'websocket_size'}


class StrictProtocol(WebSocketProtocol13):
    """
    Tells a client that breaks the protocol so, by a close code, and counts it.

    tornado takes frames without a mask, close codes that nobody may send, and any number of empty
    fragments; of all other mistakes it says nothing when it cuts the connection.
    """

    def __init__(self, handler: WebSocketHandler, params: Any, count: Callable[[str], None]
                 ) -> None:
        """``count`` is told what a client was refused for."""
        super().__init__(handler, mask_outgoing=False, params=params)
        self._count = count
        self._is_at_start = False
        self._fragments = 0

    async def _receive_frame(self) -> None:
        self._is_at_start = True
        await super()._receive_frame()

    async def _read_bytes(self, n: int) -> bytes:
        is_header, self._is_at_start = self._is_at_start, False
        data: bytes = await super()._read_bytes(n)
        if is_header:
            self._check_header(*data)
        return data

    def _check_header(self, first: int, second: int) -> None:
        opcode, is_final, length = first & 0x0F, bool(first & 0x80), second & 0x7F
        goes_on = self._fragmented_message_buffer is not None
        if not second & 0x80:
            self._refuse(PROTOCOL_ERROR, 'frames of clients must be masked')
        if first & 0x70:
            self._refuse(PROTOCOL_ERROR, 'reserved bits must be 0')
        if opcode not in _OPCODES:
            self._refuse(PROTOCOL_ERROR, f'there is no opcode {opcode}')
        if opcode >= _CLOSE:
            if not is_final or length > 125:
                self._refuse(PROTOCOL_ERROR, 'control frames are whole, of at most 125 bytes')
            return
        if goes_on != (opcode == _CONTINUATION):
            self._refuse(PROTOCOL_ERROR, 'a message must end before another begins' if goes_on
                         else 'there is no message to continue')
        self._fragments = self._fragments + 1 if goes_on else 0
        if self._fragments > MOST_FRAGMENTS:
            self._refuse(POLICY, f'a message has at most {MOST_FRAGMENTS} fragments')

    def _handle_message(self, opcode: int, data: bytes) -> Any:
        try:
            if opcode == _TEXT:
                data.decode()
            elif opcode == _CLOSE:
                self._check_close(data)
        except UnicodeDecodeError:
            self._refuse(NO_TEXT, 'text must be UTF-8')
        return super()._handle_message(opcode, data)

    def _check_close(self, data: bytes) -> None:
        if len(data) == 1:
            self._refuse(PROTOCOL_ERROR, 'a close code has two bytes')
        if data:
            code = struct.unpack('!H', data[:2])[0]
            if code not in _CLOSE_CODES and not 3000 <= code <= 4999:
                self._refuse(PROTOCOL_ERROR, f'close code {code} may not be sent')
            data[2:].decode()

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Close; tornado says here what is too big."""
        if code == TOO_BIG and not self.server_terminated:
            self._count(_REASONS[TOO_BIG])
        super().close(code, reason)

    def _refuse(self, code: int, reason: str) -> None:
        """Say why and cut the connection: what else arrives has no meaning."""
        if not self.server_terminated:
            self._count(_REASONS[code])
            self.close(code, reason)
        raise StreamClosedError()
