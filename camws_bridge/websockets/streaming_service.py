"""
From IMAGE_RECEIVED to the clients: what is wanted now, made once, handed to the loop.

Three threads meet here. R (ROS) leaves frames in a slot. P (owned here) makes what is wanted.
W (tornado's loop) takes messages from one slot per variant and broadcasts them. Each hop holds
the newest only and counts what it replaced; at most one wake-up of the loop is pending.
"""
from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
import logging
import threading
import time
from typing import TypeVar

from camws_bridge.events import (
    DEMAND_CHANGED, EventBus, OVERLAY_DRAWN, TRANSFORMS_COMPUTED)
from camws_bridge.latest_slot import LatestSlot, LatestSlots
from camws_bridge.metrics import Metrics
from camws_bridge.models import Frame, Message, TransformsSnapshot, Variant
from camws_bridge.services import image_service, json_service
from camws_bridge.services.aruco_service import ArucoService
from camws_bridge.services.frame_context import FrameContext
from camws_bridge.services.image_service import ImageService
from camws_bridge.services.json_service import JsonService
from camws_bridge.settings import Settings
from camws_bridge.websockets.connection_manager import Client, ConnectionManager
from camws_bridge.websockets.newest_messages import NewestMessages
from camws_bridge.websockets.wire import image_message, text_message

T = TypeVar('T')
log = logging.getLogger(__name__)

POSES, OVERLAY = 'poses', 'overlay'
_OVERLAY_VARIANT = Variant('aruco_debug')
_LOG_EVERY = 5.0
# How long the poses of an image count as what is seen now, and how long depth may take (seconds).
_RECENT, _DEPTH_PATIENCE = 1.0, 2.0


class StreamingService:
    """Owns thread P and the way from it to the loop."""

    def __init__(self, bus: EventBus, aruco: ArucoService, images: ImageService,
                 json: JsonService, connections: ConnectionManager,
                 settings: Callable[[], Settings], metrics: Metrics,
                 call_in_loop: Callable[[Callable[[], None]], object],
                 other_demand: Callable[[], frozenset[str]]) -> None:
        """
        Make the service; ``start`` starts its thread.

        ``call_in_loop`` schedules a call on the loop's thread, from any thread.
        ``other_demand`` says what is wanted besides clients: POSES, OVERLAY (any thread).
        """
        self._bus, self._aruco, self._images, self._json = bus, aruco, images, json
        self._connections, self._settings, self._metrics = connections, settings, metrics
        self._call_in_loop, self._other_demand = call_in_loop, other_demand
        self._frames: LatestSlot[Frame] = LatestSlot()
        self._work = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        # P: the frame at hand, and the variants made of it already.
        self._context: FrameContext | None = None
        self._made: set[Variant] = set()
        self._snapshot: TransformsSnapshot | None = None
        self._snapshot_at = 0.0
        self._depth_paired_at = 0.0
        self._logged: dict[str, float] = {}
        # P to W
        self._outbox: LatestSlots[Variant, Message] = LatestSlots()
        # W
        self._newest = NewestMessages()
        self._depth_wanted_at = 0.0

    # -- any thread ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start thread P; raises RuntimeError when it was started before."""
        if self._thread is not None:
            raise RuntimeError('StreamingService was started before')
        self._thread = threading.Thread(target=self._run, name='processing', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End thread P and wait for it; raises RuntimeError when it was not started."""
        if self._thread is None or self._stopping:
            raise RuntimeError('StreamingService is not running')
        self._stopping = True
        self._work.set()
        self._thread.join()

    def on_image(self, frame: Frame) -> None:
        """Take a frame: the handler of IMAGE_RECEIVED."""
        replaced = self._frames.put(frame)
        if replaced is not None and replaced.seq != frame.seq:
            self._metrics.messages_replaced.labels('image', 'processing').inc()
        self._work.set()

    @property
    def is_wanted(self) -> bool:
        """Tell whether anything made of images is wanted by anyone."""
        return bool(self._connections.variants or self._newest.awaited or self._other_demand())

    @property
    def wants_depth(self) -> bool:
        """Tell whether anything made of depth images is wanted by anyone."""
        return any('depth' in image_service.CATALOGUE[variant.stream_id].needs
                   for variant in (*self._connections.variants, *self._newest.awaited)
                   if variant.stream_id in image_service.CATALOGUE)

    @property
    def newest_frame(self) -> Frame | None:
        """The frame at hand."""
        context = self._context
        return context.frame if context else None

    @property
    def newest_snapshot(self) -> TransformsSnapshot | None:
        """The poses of the newest frame, if they were wanted within the last second."""
        return self._snapshot if time.monotonic() - self._snapshot_at < _RECENT else None

    @property
    def waits_for_depth(self) -> bool:
        """Tell whether depth is wanted, and none was paired with an image for a while."""
        since = max(self._depth_paired_at, self._depth_wanted_at)
        return self.wants_depth and time.monotonic() - since > _DEPTH_PATIENCE

    def forget(self) -> None:
        """Drop what is known of the past: the camera is about to be left alone."""
        self._frames.take()
        self._context = self._snapshot = None
        self._call_in_loop(self._newest.clear)

    # -- W, the loop's thread -----------------------------------------------------------------

    def connect(self, variant: Variant, client: Client) -> None:
        """Subscribe a client; the newest message there is goes to it at once."""
        if not self.wants_depth:
            self._depth_wanted_at = time.monotonic()
        self._connections.connect(variant, client)
        newest = self._current(variant)
        if newest is not None:
            client.offer(newest)
        else:
            # Nobody wanted this so far: make it of the frame at hand.
            self._work.set()
        self._bus.publish(DEMAND_CHANGED, None)

    def disconnect(self, variant: Variant, client: Client) -> None:
        """Unsubscribe a client."""
        self._connections.disconnect(variant, client)
        self._bus.publish(DEMAND_CHANGED, None)

    async def newest(self, variant: Variant, timeout: float) -> Message:
        """
        Return the newest message of a variant, made for this call if nobody watches.

        Raises TimeoutError when there is none within ``timeout`` seconds.
        """
        message = self._current(variant)
        if message is not None:
            return message
        future = self._newest.expect(variant)
        self._work.set()
        self._bus.publish(DEMAND_CHANGED, None)
        try:
            return await asyncio.wait_for(future, timeout)
        finally:
            self._newest.give_up(variant, future)

    def rate(self, stream_id: str) -> float:
        """Return how many messages a second a stream had lately (Hz)."""
        return self._newest.rate(stream_id)

    def _current(self, variant: Variant) -> Message | None:
        """Return the message that was made of the frame at hand."""
        frame, message = self.newest_frame, self._newest.get(variant)
        return message if frame and message and message.seq == frame.seq else None

    def _deliver(self) -> None:
        """Broadcast what P has made since the last time."""
        for variant, message in self._outbox.take_all().items():
            self._newest.keep(message)
            if message.content_type == json_service.JSON:
                self._connections.broadcast_text(variant, message)
            else:
                self._connections.broadcast_bytes(variant, message)

    # -- P, the processing thread -------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._work.wait()
            self._work.clear()
            if self._stopping:
                return
            frame = self._frames.take()
            if frame is not None:
                self._begin(frame)
            context = self._context
            if context is not None:
                self._process(context)
                self._remember(context)

    def _remember(self, context: FrameContext) -> None:
        snapshot: TransformsSnapshot | None = context.made('snapshot')
        if snapshot is not None and snapshot is not self._snapshot:
            self._snapshot, self._snapshot_at = snapshot, time.monotonic()

    def _begin(self, frame: Frame) -> None:
        context = self._context
        if frame.depth is not None:
            self._depth_paired_at = time.monotonic()
        if context is not None and context.frame.seq == frame.seq:
            context.add_depth(frame)
            return
        self._context = FrameContext(frame, self._settings())
        self._made = set()

    def _process(self, context: FrameContext) -> None:
        asked = (*self._connections.wanted(time.monotonic()), *self._newest.awaited)
        wanted = [variant for variant in dict.fromkeys(asked) if variant not in self._made]
        # The plain picture does not wait for poses, and poses not for the other pictures.
        plain = [variant for variant in wanted if _is_plain(variant)]
        texts = [variant for variant in wanted if variant.stream_id in json_service.CATALOGUE]
        rest = [variant for variant in wanted if variant not in plain and variant not in texts]
        for variant in plain + texts:
            self._make(context, variant)
        self._make_for_ros(context)
        for variant in rest:
            self._make(context, variant)

    def _make_for_ros(self, context: FrameContext) -> None:
        demand = self._other_demand()
        for name, publish in ((POSES, self._publish_poses), (OVERLAY, self._publish_overlay)):
            key = Variant(name)
            if name in demand and key not in self._made:
                self._made.add(key)
                self._guarded(name, partial(publish, context))

    def _publish_poses(self, context: FrameContext) -> None:
        self._bus.publish(TRANSFORMS_COMPUTED, self._aruco.analyse(context))

    def _publish_overlay(self, context: FrameContext) -> None:
        picture = self._images.picture(context, _OVERLAY_VARIANT)
        if picture is not None:
            self._bus.publish(OVERLAY_DRAWN, (context.frame, picture))

    def _make(self, context: FrameContext, variant: Variant) -> None:
        message = self._guarded(variant.stream_id, partial(self._message, context, variant))
        if message is not None:
            self._made.add(variant)
            self._metrics.messages_produced.labels(variant.stream_id).inc()
            self._hand_over(variant, message)

    def _message(self, context: FrameContext, variant: Variant) -> Message | None:
        if variant.stream_id in json_service.CATALOGUE:
            return text_message(variant, context.frame, json_service.JSON,
                                self._json.produce(context, variant.stream_id))
        product = self._images.produce(context, variant)
        if product is None:
            return None
        embed = {name: self._json.produce(context, name) for name in variant.embed}
        return image_message(variant, context.frame, product, embed)

    def _guarded(self, stage: str, make: Callable[[], T]) -> T | None:
        """Run one piece of work: timed, and its failure costs nobody anything else."""
        with self._metrics.stage_seconds.labels(stage).time():
            try:
                return make()
            except Exception as error:  # one product's failure is never another's
                self._metrics.processing_errors.labels(stage).inc()
                self._log_failure(stage, error)
                return None

    def _log_failure(self, stage: str, error: Exception) -> None:
        now = time.monotonic()
        if now - self._logged.get(stage, -_LOG_EVERY) >= _LOG_EVERY:
            self._logged[stage] = now
            log.error('%s failed on an image: %s', stage, error, exc_info=error)

    def _hand_over(self, variant: Variant, message: Message) -> None:
        was_empty, replaced = self._outbox.put(variant, message)
        if replaced is not None:
            self._metrics.messages_replaced.labels(variant.stream_id, 'loop').inc()
        # While the outbox is not empty, the loop has been woken already.
        if was_empty:
            self._call_in_loop(self._deliver)


def _is_plain(variant: Variant) -> bool:
    return variant.stream_id == 'color' and not variant.embed
