"""
WebSocket bytes as a client writes and reads them (RFC 6455), right or wrong on purpose.

Libraries refuse to send what is wrong; that is what is needed here.
"""
from __future__ import annotations

from dataclasses import dataclass
import struct

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
# Any will do: it is there to confuse proxies, and none stands between.
_MASK = b'\x37\xfa\x21\x3d'


@dataclass(frozen=True)
class Frame:
    """One frame of the server; ``fin`` is False when the message goes on in the next."""

    opcode: int
    payload: bytes
    fin: bool = True

    @property
    def close_code(self) -> int | None:
        """The code of a close frame; None without one, or for another frame."""
        if self.opcode != CLOSE or len(self.payload) < 2:
            return None
        return int(struct.unpack('!H', self.payload[:2])[0])


def upgrade(path: str, subprotocol: str = '', host: str = '127.0.0.1') -> bytes:
    """Return the request that opens a WebSocket."""
    lines = [f'GET {path} HTTP/1.1', f'Host: {host}', 'Upgrade: websocket',
             'Connection: Upgrade', 'Sec-WebSocket-Version: 13',
             'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==']
    if subprotocol:
        lines.append(f'Sec-WebSocket-Protocol: {subprotocol}')
    return '\r\n'.join([*lines, '', '']).encode()


def frame(payload: bytes | str = b'', opcode: int = TEXT, *, fin: bool = True,
          masked: bool = True, reserved: int = 0, claimed: int | None = None) -> bytes:
    """
    Return one frame of a client.

    ``reserved``: the three reserved bits. ``claimed``: the length it says it has, if another.
    """
    data = payload.encode() if isinstance(payload, str) else payload
    length = len(data) if claimed is None else claimed
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    mask_bit = 0x80 if masked else 0
    if length < 126:
        start = struct.pack('!BB', first, mask_bit | length)
    elif length < 1 << 16:
        start = struct.pack('!BBH', first, mask_bit | 126, length)
    else:
        start = struct.pack('!BBQ', first, mask_bit | 127, length)
    return start + (_MASK + _masked(data) if masked else data)


def close(code: int, reason: bytes = b'') -> bytes:
    """Return a close frame of a client."""
    return frame(struct.pack('!H', code) + reason, CLOSE)


def parse(data: bytes | bytearray) -> tuple[Frame | None, int]:
    """Return the first frame of the server in ``data`` and how long it was; None: not whole."""
    if len(data) < 2:
        return None, 0
    length, start = data[1] & 0x7F, 2
    if length >= 126:
        size = 2 if length == 126 else 8
        start += size
        if len(data) < start:
            return None, 0
        length = int.from_bytes(data[2:start], 'big')
    if len(data) < start + length:
        return None, 0
    found = Frame(data[0] & 0x0F, bytes(data[start:start + length]), bool(data[0] & 0x80))
    return found, start + length


def _masked(data: bytes) -> bytes:
    mask = (_MASK * (len(data) // 4 + 1))[:len(data)]
    return (int.from_bytes(data, 'big') ^ int.from_bytes(mask, 'big')).to_bytes(len(data), 'big')
