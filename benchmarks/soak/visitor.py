"""A client on a bare socket: it reads when it wants to, and leaves without a word."""
from __future__ import annotations

import asyncio
import socket
import struct

from benchmarks.soak import frames
from benchmarks.soak.frames import Frame

_LINGER_NOT = struct.pack('ii', 1, 0)
# A small window: what is not read soon fills it, and the bridge's side.
_SMALL = 8192


class Left(Exception):
    """The bridge has closed the connection; the text is what came before its end, if anything."""


class Visitor:
    """One connection; ``async with`` cuts it off."""

    def __init__(self, sock: socket.socket) -> None:
        """Take a connected socket that does not block."""
        self._sock = sock
        self._buffer = bytearray()

    @classmethod
    async def connect(cls, port: int, small: bool = False) -> Visitor:
        """Connect to the bridge; ``small``: with a small receive buffer."""
        sock = socket.socket()
        sock.setblocking(False)
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ('127.0.0.1', port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def open(self, path: str, subprotocol: str = '') -> int:
        """Open a WebSocket; return the HTTP status."""
        await self.send(frames.upgrade(path, subprotocol))
        while b'\r\n\r\n' not in self._buffer:
            await self._more()
        head, _, rest = bytes(self._buffer).partition(b'\r\n\r\n')
        self._buffer = bytearray(rest)
        return int(head.split()[1])

    async def send(self, data: bytes) -> None:
        """Send bytes as they are; OSError when the connection is gone."""
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def next(self) -> Frame:
        """Return the next frame; raises Left."""
        while True:
            found, length = frames.parse(self._buffer)
            if found is not None:
                del self._buffer[:length]
                return found
            await self._more()

    async def sip(self, count: int = 1) -> bytes:
        """Read at most so many bytes; raises Left."""
        data = await asyncio.get_running_loop().sock_recv(self._sock, count)
        if not data:
            raise Left('')
        return data

    async def _more(self) -> None:
        try:
            self._buffer += await self.sip(1 << 18)
        except Left:
            raise Left(bytes(self._buffer[:100]).decode(errors='replace')) from None

    async def next_message(self) -> Frame:
        """Return the next frame that is no ping, which is answered; raises Left."""
        while True:
            found = await self.next()
            if found.opcode != frames.PING:
                return found
            await self.send(frames.frame(found.payload, frames.PONG))

    async def wait_for_end(self) -> int | None:
        """Read until the bridge closes; return the code of its close frame, None without one."""
        try:
            while True:
                found = await self.next()
                if found.opcode == frames.CLOSE:
                    return found.close_code
        except (Left, ConnectionError):
            return None

    async def __aenter__(self) -> Visitor:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sock.close()

    def reset(self) -> None:
        """Cut the connection so that the bridge gets a reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._sock.close()
