"""
Clients that come, go, stall and send rubbish; ``python -m benchmarks.soak.crowd PORT COUNT``.

Each place in the crowd is taken by one visit after another, of a kind drawn by lot. On SIGTERM it
prints one JSON line: the visits by kind, and those that were not answered as they must be.
"""
from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
import json
import random
import signal
import sys

from benchmarks.soak import frames
from benchmarks.soak.visitor import Left, Visitor

STREAMS = ('color', 'rectified', 'aruco_debug', 'board_perspective', 'board_mask', 'marker_mask',
           'depth', 'depth_raw', 'markers', 'transforms_camera', 'transforms_board',
           'transforms_robot')
OPTIONS = ('', '?fps=5', '?width=160', '?quality=40', '?adaptive=1', '?fps=0.5&width=320')
PAGES = ('/', '/static/camws.js', '/healthz', '/metrics', '/api/v1/streams', '/api/v1/aruco',
         '/api/v1/images/color.jpg', '/api/v1/images/color.png', '/api/v1/transforms',
         '/nothing', '/api/v1/images/%00.jpg', '/../../etc/passwd')
LIES = ('{"op":"ack","seq":"1"}', '{"op":"ack","seq":true}', '{"op":"configure","fps":-1}',
        '{"op":"configure","width":[1]}', '{"op":"time","t0":{}}', '[]', '7', 'null', '{',
        '{"op":17}', '{"op":"fly"}', '{"op":"configure","embed":"markers"}')
_V1 = 'camws.v1'
_HUGE = 70_000
# How long the bridge may take to answer what it must (seconds): it is busy with the others.
_PATIENCE = 20.0


class Broken(Exception):
    """The bridge did not answer as it must; the text says what it did."""


def _expect(found: object, *allowed: object) -> None:
    if found not in allowed:
        raise Broken(f'{found!r} instead of {allowed!r}')


class Crowd:
    """The kinds of visits, and what became of them."""

    def __init__(self, port: int, seed: int = 1) -> None:
        """Visit the bridge on ``port``."""
        self._port = port
        self._lot = random.Random(seed)
        self.visits: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()

    async def fill_a_place(self) -> None:
        """Visit again and again."""
        names, kinds = zip(*KINDS.items())
        while True:
            await asyncio.sleep(self._lot.uniform(0.0, 1.0))
            index = self._lot.randrange(len(kinds))
            self.visits[names[index]] += 1
            try:
                await kinds[index](self)
            except (Left, ConnectionError):
                pass        # who misbehaves, or comes in a crush, may be cut off
            except (Broken, TimeoutError, asyncio.TimeoutError) as error:
                self.wrong[f'{names[index]}: {error!r}'] += 1

    def _path(self) -> str:
        return f'/ws/{self._lot.choice(STREAMS)}{self._lot.choice(OPTIONS)}'

    async def _open(self, subprotocol: str = _V1, small: bool = False, path: str = '') -> Visitor:
        visitor = await Visitor.connect(self._port, small)
        try:
            status = await asyncio.wait_for(
                visitor.open(path or self._path(), subprotocol), _PATIENCE)
            _expect(status, 101)
        except BaseException:
            visitor.reset()
            raise
        return visitor

    async def watch(self) -> None:
        """Read everything for a while, with acks, and say goodbye."""
        until = asyncio.get_running_loop().time() + self._lot.uniform(1.0, 15.0)
        async with await self._open() as visitor:
            while asyncio.get_running_loop().time() < until:
                found = await asyncio.wait_for(visitor.next_message(), _PATIENCE)
                if found.opcode == frames.CLOSE:
                    # Variants are limited, and a crowd of all kinds may reach that.
                    _expect(found.close_code, 1013)
                    return
                seq = _seq_of(found)
                if seq is not None:
                    await visitor.send(frames.frame(json.dumps({'op': 'ack', 'seq': seq})))
            await visitor.send(frames.close(1000))
            _expect(await asyncio.wait_for(visitor.wait_for_end(), _PATIENCE), 1000)

    async def watch_plainly(self) -> None:
        """Read for a while without a subprotocol, and leave with a reset."""
        until = asyncio.get_running_loop().time() + self._lot.uniform(0.5, 8.0)
        visitor = await self._open('')
        try:
            while asyncio.get_running_loop().time() < until:
                await asyncio.wait_for(visitor.next_message(), _PATIENCE)
        finally:
            visitor.reset()

    async def leave_within_a_frame(self) -> None:
        """Read half a picture and cut the connection."""
        visitor = await self._open(small=True, path='/ws/color')
        await visitor.sip(5000)
        visitor.reset()

    async def stall(self) -> None:
        """Open streams and read none."""
        visitors = [await self._open(small=True)
                    for _ in range(self._lot.randint(1, 3))]
        await asyncio.sleep(self._lot.uniform(2.0, 30.0))
        for visitor in visitors:
            visitor.reset()

    async def sip(self) -> None:
        """Read a picture stream byte by byte."""
        async with await self._open(small=True, path='/ws/color') as visitor:
            for _ in range(400):
                await visitor.sip()
                await asyncio.sleep(0.005)

    async def reconfigure(self) -> None:
        """Change the settings again and again; every change is confirmed."""
        async with await self._open(path='/ws/color') as visitor:
            for number in range(15):
                request = {'op': 'configure', 'fps': self._lot.choice((None, 1, 7.5, 30)),
                           'quality': 40 + 10 * (number % 3)}
                await visitor.send(frames.frame(json.dumps(request)))
                await asyncio.sleep(0.1)
            await visitor.send(frames.close(1000))
            _expect(await asyncio.wait_for(visitor.wait_for_end(), _PATIENCE), 1000, 1013, 4400)

    async def lie(self) -> None:
        """Send JSON of the wrong kind: closed with 4400."""
        async with await self._open(path='/ws/markers') as visitor:
            await visitor.send(frames.frame(self._lot.choice(LIES)))
            _expect(await asyncio.wait_for(visitor.wait_for_end(), _PATIENCE), 4400)

    async def send_rubbish(self) -> None:
        """Send bytes that are no frames, or frames that are not allowed."""
        rubbish = self._lot.choice((
            self._lot.randbytes(2000), frames.frame('x' * _HUGE),
            frames.frame(b'', claimed=1 << 62), frames.frame('{"op":', fin=False) * 3,
            frames.frame('{}', masked=False), frames.frame('{}', reserved=7),
            frames.frame(b'\xff\xfe'), frames.frame(b'x' * 200, frames.PING)))
        async with await self._open() as visitor:
            await visitor.send(rubbish)
            await asyncio.sleep(1.0)

    async def speak_no_http(self) -> None:
        """Send something else than a request."""
        async with await Visitor.connect(self._port) as visitor:
            await visitor.send(self._lot.choice(
                (self._lot.randbytes(500), b'GET / HTTP/1.1\r\nA: ' + b'b' * 40_000,
                 b'\x16\x03\x01\x02\x00\x01', b'GET')))
            await asyncio.sleep(self._lot.uniform(0.0, 3.0))

    async def read_pages(self) -> None:
        """Ask for pages over one connection each, and read the answer."""
        for page in self._lot.sample(PAGES, 4):
            async with await Visitor.connect(self._port) as visitor:
                await visitor.send(f'GET {page} HTTP/1.1\r\nHost: 127.0.0.1\r\n'
                                   'Connection: close\r\n\r\n'.encode())
                start = await asyncio.wait_for(visitor.sip(12), _PATIENCE)
                _expect(start[:9], b'HTTP/1.1 ')
                _expect(start[9:10], b'2', b'4')

    async def watch_mjpeg(self) -> None:
        """Read an MJPEG stream for a while, and leave with a reset."""
        visitor = await Visitor.connect(self._port)
        try:
            await visitor.send(b'GET /api/v1/images/color.mjpg HTTP/1.1\r\n'
                               b'Host: 127.0.0.1\r\n\r\n')
            until = asyncio.get_running_loop().time() + self._lot.uniform(0.5, 6.0)
            while asyncio.get_running_loop().time() < until:
                await asyncio.wait_for(visitor.sip(1 << 16), _PATIENCE)
        finally:
            visitor.reset()


KINDS: dict[str, Callable[[Crowd], Awaitable[None]]] = {
    'watch': Crowd.watch, 'watch_plainly': Crowd.watch_plainly, 'stall': Crowd.stall,
    'leave_within_a_frame': Crowd.leave_within_a_frame, 'sip': Crowd.sip,
    'reconfigure': Crowd.reconfigure, 'lie': Crowd.lie, 'rubbish': Crowd.send_rubbish,
    'no_http': Crowd.speak_no_http, 'pages': Crowd.read_pages, 'mjpeg': Crowd.watch_mjpeg}


def _seq_of(found: frames.Frame) -> int | None:
    """Return the sequence number of a camws.v1 message, None for what has none."""
    try:
        if found.opcode == frames.BINARY:
            length = int.from_bytes(found.payload[4:8], 'little')
            seq = json.loads(found.payload[8:8 + length])['seq']
        else:
            seq = json.loads(found.payload).get('seq')
    except (ValueError, KeyError):
        raise Broken(f'no camws.v1 message: {found.payload[:60]!r}') from None
    return seq if isinstance(seq, int) else None


async def _main(port: int, count: int) -> None:
    crowd, ended = Crowd(port), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    places = [asyncio.create_task(crowd.fill_a_place()) for _ in range(count)]
    watched = asyncio.create_task(ended.wait())
    # A place that fails for a reason nobody thought of shall not be silent.
    done, _ = await asyncio.wait([*places, watched], return_when=asyncio.FIRST_COMPLETED)
    for task in places:
        task.cancel()
    results = await asyncio.gather(*places, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            crowd.wrong[repr(result)] += 1
    watched.cancel()
    print(json.dumps({'visits': crowd.visits, 'wrong': crowd.wrong}), flush=True)


if __name__ == '__main__':
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2])))
