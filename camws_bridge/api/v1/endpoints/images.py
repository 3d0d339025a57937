"""``/api/v1/images`` and ``/api/v1/masks``: stills, raw pixels, MJPEG."""
from __future__ import annotations

import asyncio
from typing import Any

from tornado.iostream import IOStream, StreamClosedError
from tornado.web import HTTPError

from camws_bridge.api.bridge import Bridge, Route
from camws_bridge.api.handlers import ApiError, ApiHandler
from camws_bridge.api.sockets import keep_fresh
from camws_bridge.models import Message, Variant
from camws_bridge.services import image_service
from camws_bridge.services.image_service import RAW
from camws_bridge.vision.encoding import JPEG, PNG
from camws_bridge.websockets import options as client_options
from camws_bridge.websockets.options import ClientOptions, OptionError
from camws_bridge.websockets.subscription import Subscription, TooManyVariantsError
from camws_bridge.websockets.variants import choose_variant

_WAIT = 1.0
_TYPES = {'jpg': JPEG, 'png': PNG}
_BOUNDARY = 'camws-frame'
# JPEG holds 8 bits: it would lose what this stream is for.
_PNG_ONLY = frozenset({'depth_raw'})


class ImageRequestHandler(ApiHandler):
    """What the handlers of images share."""

    def read_options(self) -> ClientOptions:
        """Return the options of the query; raises ApiError."""
        query = {name: self.get_query_argument(name) for name in self.request.query_arguments}
        try:
            return client_options.parse_query(query, ())
        except OptionError as error:
            raise ApiError(400, 'bad_option', str(error)) from None

    def check_stream(self, stream_id: str) -> None:
        """Raise ApiError for a stream that is no image stream."""
        if stream_id not in image_service.CATALOGUE:
            raise ApiError(404, 'unknown_stream', f"there is no image stream '{stream_id}'; there "
                           f'are: {", ".join(image_service.CATALOGUE)}')

    def send_image(self, message: Message) -> None:
        """Answer with an image."""
        stamp = message.stamp
        self.set_header('Content-Type', message.content_type)
        self.set_header('X-Seq', str(message.seq))
        self.set_header('X-Timestamp', f'{stamp.sec}.{stamp.nanosec:09d}')
        self.set_header('X-Frame-Id', message.frame_id)
        self.write(bytes(message.body))


async def fetch(bridge: Bridge, variant: Variant) -> Message:
    """Return the newest message of a variant; raises ApiError 503 when there is none."""
    if not bridge.streaming.has_room_for(variant):
        raise ApiError(503, 'too_many_settings',
                       f'too many different settings of {variant.stream_id} are in use')
    try:
        return await bridge.streaming.newest(variant, _WAIT)
    except asyncio.TimeoutError:
        problem = bridge.status.problem(variant.stream_id)
        code = problem.code if problem else 'unavailable'
        reason = problem.message if problem else f'{variant.stream_id} has nothing to show now'
        raise ApiError(503, code, reason) from None


class ImageHandler(ImageRequestHandler):
    """The newest image of a stream, as JPEG or PNG."""

    async def get(self, stream_id: str, extension: str) -> None:
        """Answer with the image."""
        self.check_stream(stream_id)
        content_type = _TYPES[extension]
        if content_type == JPEG and stream_id in _PNG_ONLY:
            raise ApiError(404, 'no_such_format', f'{stream_id} is there as .png only')
        options = self.read_options()
        self.send_image(await fetch(
            self.bridge, choose_variant(stream_id, options, content_type=content_type)))


class RawImageHandler(ImageRequestHandler):
    """Undecorated pixels of ``color`` or ``depth``."""

    async def get(self, stream_id: str) -> None:
        """Answer with packed rows in the camera's own layout, described by headers."""
        message = await fetch(self.bridge, Variant(stream_id, content_type=RAW))
        self.set_header('X-Width', str(message.width))
        self.set_header('X-Height', str(message.height))
        self.set_header('X-Encoding', message.encoding)
        self.set_header('X-Step', str(message.step))
        self.send_image(message)


class MaskHandler(ImageRequestHandler):
    """The masks under their short names."""

    async def get(self, name: str) -> None:
        """Answer with ``board.png`` or ``marker.png?id=7``."""
        options = self.read_options()
        self.send_image(await fetch(self.bridge, choose_variant(f'{name}_mask', options)))


class MjpegHandler(ImageRequestHandler):
    """A stream as MJPEG (multipart/x-mixed-replace), paced like a socket."""

    def initialize(self, bridge: Bridge) -> None:
        """Take the services."""
        super().initialize(bridge)
        self._subscription: Subscription | None = None
        self._closed = asyncio.Event()
        self._stream: IOStream | None = None
        self._flushing: asyncio.Task[None] | None = None

    async def get(self, stream_id: str) -> None:
        """Send images until the client goes."""
        self.check_stream(stream_id)
        if stream_id in _PNG_ONLY:
            raise ApiError(404, 'no_such_format', f'{stream_id} is there as .png only')
        bridge, options = self.bridge, self.read_options()
        if bridge.connections.total >= bridge.settings().max_clients:
            raise ApiError(503, 'too_many_clients', 'too many clients')
        try:
            subscription = Subscription(bridge.streaming, bridge.metrics, self, stream_id,
                                        options, content_type=JPEG)
        except TooManyVariantsError as error:
            raise ApiError(503, 'too_many_settings', str(error)) from None
        self.set_header('Content-Type', f'multipart/x-mixed-replace; boundary={_BOUNDARY}')
        self.set_header('Connection', 'close')
        self._stream = self.request.connection.stream  # type: ignore[union-attr]
        keep_fresh(self._stream.socket, bridge.settings().unsent_bytes)
        await self.flush()
        self._subscription = subscription
        subscription.open()
        try:
            await self._closed.wait()
        finally:
            subscription.close()

    def head(self, *_: str) -> None:
        """Refuse: the answer to HEAD would never end."""
        raise HTTPError(405)

    def on_connection_close(self) -> None:
        """End ``get``."""
        super().on_connection_close()
        self._closed.set()

    # -- transport of StreamClient ------------------------------------------------------------

    def send_message(self, message: Message) -> bool:
        """Send one part; see websockets.stream_client.Transport."""
        stamp = message.stamp
        self.write(f'--{_BOUNDARY}\r\nContent-Type: {message.content_type}\r\n'
                   f'Content-Length: {len(message.body)}\r\nX-Seq: {message.seq}\r\n'
                   f'X-Timestamp: {stamp.sec}.{stamp.nanosec:09d}\r\n\r\n')
        self.write(bytes(message.body))
        self.write(b'\r\n')
        self._flushing = asyncio.ensure_future(self._flush())
        return False

    def close(self, _code: int, _reason: str) -> None:
        """End the stream of images."""
        self._closed.set()

    def abort(self) -> None:
        """Cut the connection."""
        self._closed.set()
        if self._stream is not None:
            self._stream.close()

    def check(self, now: float) -> None:
        """Remove a client that takes nothing for too long; adapt (seconds, monotonic)."""
        subscription, timeout = self._subscription, self.bridge.settings().client_timeout
        if subscription is None:
            return
        if now - subscription.client.last_alive > timeout:
            self.bridge.metrics.clients_removed.labels('timeout').inc()
            self.abort()
        else:
            subscription.adapt(now)

    async def _flush(self) -> None:
        try:
            await self.flush()
        except StreamClosedError:
            self._closed.set()
            return
        if self._subscription is not None and not self._closed.is_set():
            self._subscription.client.on_drained()


def routes(bridge: Bridge) -> list[Route]:
    """Return the routes of this module."""
    services: dict[str, Any] = {'bridge': bridge}
    return [
        (r'/api/v1/images/(color|depth)/raw', RawImageHandler, services),
        (r'/api/v1/images/([^/]+)\.mjpg', MjpegHandler, services),
        (r'/api/v1/images/([^/]+)\.(jpg|png)', ImageHandler, services),
        (r'/api/v1/masks/(board|marker)\.png', MaskHandler, services),
    ]
