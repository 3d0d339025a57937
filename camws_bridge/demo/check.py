"""
Checks a running bridge and demo camera from outside, as a client that knows only the contract.

``python -m camws_bridge.demo.check --url http://127.0.0.1:8080 --frames 100`` receives frames with
their poses through a real WebSocket, compares them with the truth that the demo camera publishes,
prints one summary and exits with 0, or with 1 and the reason.
"""
from __future__ import annotations

import argparse
import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
import json
import struct
import sys
import threading
import time
from typing import Any

from geometry_msgs.msg import TransformStamped
import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from tf2_msgs.msg import TFMessage
from tornado.httpclient import HTTPClientError
from tornado.websocket import websocket_connect, WebSocketClientConnection

from camws_bridge.demo.accuracy import Report
from camws_bridge.models import FloatArray
from camws_bridge.vision.geometry import from_quaternion

_STREAM = 'color'
_POSES = 'transforms_camera'
_SUBPROTOCOL = 'camws.v1'
_WAIT_FOR_SERVER_S = 30.0
_RETRY_S = 0.2
# As long as the slowest camera that makes sense here: five frames a second, and time to start.
_SECONDS_PER_FRAME, _SECONDS_TO_START = 0.2, 20.0
_REMEMBERED = 1000

Key = tuple[int, int]


class CheckFailed(RuntimeError):
    """The check cannot go on; the text says why."""


class TruthRecorder:
    """Receives the demo camera's truth in a thread and keeps the newest by stamp."""

    def __init__(self, topic: str) -> None:
        """Subscribe and start the thread."""
        self._poses: OrderedDict[Key, dict[str, FloatArray]] = OrderedDict()
        self._lock = threading.Lock()
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node('camws_check', context=self._context)
        self._node.create_subscription(TFMessage, topic, self._receive, 100)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name='truth')
        self._thread.start()

    def find(self, key: Key) -> dict[str, FloatArray] | None:
        """Return the poses (4x4, by child frame) of a stamp (seconds, nanoseconds)."""
        with self._lock:
            return self._poses.get(key)

    def close(self) -> None:
        """Stop the thread and leave DDS."""
        rclpy.try_shutdown(context=self._context)
        self._thread.join()
        self._executor.shutdown()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass
        finally:
            self._node.destroy_node()

    def _receive(self, message: TFMessage) -> None:
        if not message.transforms:
            return
        stamp = message.transforms[0].header.stamp
        poses = {found.child_frame_id: _matrix(found) for found in message.transforms}
        with self._lock:
            self._poses[stamp.sec, stamp.nanosec] = poses
            while len(self._poses) > _REMEMBERED:
                self._poses.popitem(last=False)


def _matrix(found: TransformStamped) -> FloatArray:
    translation, rotation = found.transform.translation, found.transform.rotation
    return from_quaternion([translation.x, translation.y, translation.z],
                           [rotation.x, rotation.y, rotation.z, rotation.w])


def split_image_message(message: bytes) -> tuple[dict[str, Any], bytes]:
    """Return header and image of a binary camws.v1 message; raises CheckFailed for another."""
    if len(message) < 8:
        raise CheckFailed(f'a binary message of {len(message)} bytes has no camws.v1 header')
    version, kind, _, length = struct.unpack_from('<BBHI', message)
    if (version, kind) != (1, 1) or 8 + length >= len(message):
        raise CheckFailed(f'not a camws.v1 image: version {version}, kind {kind}, header of '
                          f'{length} bytes in a message of {len(message)}')
    return json.loads(message[8:8 + length]), message[8 + length:]


async def connect(url: str, token: str | None) -> WebSocketClientConnection:
    """Open the stream with its poses embedded; waits for the server to come up."""
    address = f'{url.rstrip("/").replace("http", "ws", 1)}/ws/{_STREAM}?embed={_POSES}'
    if token:
        address += f'&token={token}'
    deadline = time.monotonic() + _WAIT_FOR_SERVER_S
    while True:
        try:
            return await websocket_connect(address, subprotocols=[_SUBPROTOCOL])
        except HTTPClientError as error:
            raise CheckFailed(f'{address} answers {error.code} {error.message}') from error
        except OSError as error:
            if time.monotonic() > deadline:
                raise CheckFailed(f'no server at {url} within {_WAIT_FOR_SERVER_S:g} s '
                                  f'({error})') from error
        await asyncio.sleep(_RETRY_S)


async def receive(connection: WebSocketClientConnection, frames: int,
                  find_truth: Callable[[Key], dict[str, FloatArray] | None],
                  report: Report) -> None:
    """Receive ``frames`` images that have poses and put what they say into the report."""
    is_first = True
    while report.frames < frames:
        message = await connection.read_message()
        received = time.time()
        if message is None:
            raise CheckFailed(f'the server closed the socket: {connection.close_code} '
                              f'{connection.close_reason or ""}'.rstrip())
        if isinstance(message, str):
            continue
        header, image = split_image_message(message)
        if not image.startswith(b'\xff\xd8'):
            raise CheckFailed('an image message holds no JPEG')
        if is_first:
            # On connecting the newest there is comes at once: its age and truth are of the past.
            is_first = False
            continue
        stamp = header['stamp']
        transforms = header.get('embed', {}).get(_POSES)
        if transforms is None:
            continue
        truth = find_truth((stamp['sec'], stamp['nanosec']))
        if truth is None and not report.frames:
            # The truth's publisher may be discovered later than the first images come.
            continue
        report.latencies_ms.append(
            1000 * (received - stamp['sec'] - stamp['nanosec'] * 1e-9))
        report.add_frame(transforms, truth)


async def check(url: str, frames: int, token: str | None, limit: float,
                find_truth: Callable[[Key], dict[str, FloatArray] | None]) -> Report:
    """Run the whole check; raises CheckFailed when there is nothing to report."""
    connection = await connect(url, token)
    report = Report()
    try:
        await asyncio.wait_for(receive(connection, frames, find_truth, report), limit)
    except asyncio.TimeoutError:
        raise CheckFailed(f'only {report.frames} of {frames} frames with poses and truth in '
                          f'{limit:g} s') from None
    finally:
        await close(connection)
    return report


async def close(connection: WebSocketClientConnection) -> None:
    """Close the socket and wait a moment for the other side to do so, too."""
    async def drain() -> None:
        while await connection.read_message() is not None:
            pass

    connection.close()
    try:
        await asyncio.wait_for(drain(), 1.0)
    except asyncio.TimeoutError:
        pass


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog='camws_bridge.demo.check',
                                     description="Compare a bridge's poses with the truth.")
    parser.add_argument('--url', required=True, help='of the bridge: http://HOST:PORT')
    parser.add_argument('--frames', type=int, default=100, help='how many frames (default 100)')
    parser.add_argument('--timeout', type=float, help='seconds to receive them (default '
                        f'{_SECONDS_TO_START:g} and {_SECONDS_PER_FRAME:g} for each frame)')
    parser.add_argument('--token', help='of a bridge that asks for one')
    parser.add_argument('--truth', default='/demo_camera/truth', help='topic of the truth '
                        '(default /demo_camera/truth)')
    found = parser.parse_args(arguments)
    if found.frames < 1:
        parser.error(f'--frames is {found.frames}; allowed: from 1 on')
    if not found.url.startswith(('http://', 'https://')):
        parser.error(f'--url is {found.url!r}; allowed: http://HOST:PORT')
    return found


def run(arguments: Sequence[str]) -> int:
    """Check, print the summary and return the exit code."""
    options = parse(arguments)
    limit = options.timeout or _SECONDS_TO_START + _SECONDS_PER_FRAME * options.frames
    recorder = TruthRecorder(options.truth)
    try:
        report = asyncio.run(check(options.url, options.frames, options.token, limit,
                                   recorder.find))
    except CheckFailed as error:
        print(f'check failed: {error}')
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        recorder.close()
    problems = report.problems()
    print(report.summary())
    print('\n'.join(f'check failed: {problem}' for problem in problems) or 'check passed')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(run(sys.argv[1:]))
