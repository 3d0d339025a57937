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
from camws_bridge.supervision import PROCESSING, Threads
from camws_bridge.websockets.connection_manager import Client, ConnectionManager
from camws_bridge.websockets.newest_messages import NewestMessages
from camws_bridge.websockets.slow_products import SlowProducts
from camws_bridge.websockets.variants import MAX_VARIANTS
from camws_bridge.websockets.wire import image_message, text_message

T = TypeVar('T')
log = logging.getLogger(__name__)

# What ROS may want: images to be there, poses, the overlay.
IMAGES, POSES, OVERLAY = 'images', 'poses', 'overlay'
_OVERLAY_VARIANT = Variant('aruco_debug')
_LOG_EVERY = 5.0
# How often an idle processing thread tells that it lives (seconds).
_PULSE = 1.0
# How long the poses of an image count as what is seen now, and how long depth may take (seconds).
_RECENT, _DEPTH_PATIENCE = 1.0, 2.0


class StreamingService:
    """Owns thread P and the way from it to the loop."""

    def __init__(self, bus: EventBus, aruco: ArucoService, images: ImageService,
                 json: JsonService, connections: ConnectionManager,
                 settings: Callable[[], Settings], metrics: Metrics,
                 call_in_loop: Callable[[Callable[[], None]], object],
                 other_demand: Callable[[], frozenset[str]],
                 threads: Threads | None = None) -> None:
        """
        Make the service; ``start`` starts its thread.

        ``call_in_loop`` schedules a call on the loop's thread, from any thread.
        ``other_demand`` says what is wanted besides clients: IMAGES, POSES, OVERLAY (any thread).
        ``threads`` watches the thread.
        """
        self._threads = threads or Threads()
        self._bus, self._aruco, self._images, self._json = bus, aruco, images, json
        self._connections, self._settings, self._metrics = connections, settings, metrics
        self._call_in_loop, self._other_demand = call_in_loop, other_demand
        self._frames: LatestSlot[Frame] = LatestSlot()
        self._depth_frames: LatestSlot[Frame] = LatestSlot()
        self._work = threading.Event()
        self._stopping = self._forgetting = False
        self._thread: threading.Thread | None = None
        # P: the frame at hand, and the newest that has depth (often the same).
        self._context: FrameContext | None = None
        self._depth_context: FrameContext | None = None
        self._snapshot: TransformsSnapshot | None = None
        self._snapshot_at = 0.0
        self._depth_paired_at = 0.0
        self._logged: dict[str, float] = {}
        self._slow = SlowProducts()
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
        self._thread = self._threads.start(PROCESSING, self._run)

    def stop(self) -> None:
        """End thread P and wait for it; raises RuntimeError when it was not started."""
        if self._thread is None or self._stopping:
            raise RuntimeError('StreamingService is not running')
        self._stopping = True
        self._work.set()
        self._thread.join()

    def on_image(self, frame: Frame) -> None:
        """Take a frame: the handler of IMAGE_RECEIVED."""
        if self._frames.put(frame) is not None:
            self._metrics.messages_replaced.labels('image', 'processing').inc()
        self._work.set()

    def on_depth(self, frame: Frame) -> None:
        """Take an earlier frame that has its depth image now: the handler of DEPTH_PAIRED."""
        if self._depth_frames.put(frame) is not None:
            self._metrics.messages_replaced.labels('depth', 'processing').inc()
        self._work.set()

    @property
    def is_wanted(self) -> bool:
        """Tell whether anything made of images is wanted by anyone."""
        return bool(self._connections.variants or self._newest.awaited or self._other_demand())

    def has_room_for(self, variant: Variant) -> bool:
        """Tell whether another variant of a stream may be made besides those there are."""
        variants = {*self._connections.variants, *self._newest.awaited}
        same = [other for other in variants if other.stream_id == variant.stream_id]
        return variant in same or len(same) < MAX_VARIANTS

    def wake(self) -> None:
        """Have the processing thread look at what is wanted (any thread)."""
        self._work.set()

    @property
    def wants_depth(self) -> bool:
        """Tell whether anything made of depth images is wanted by anyone."""
        return any(map(_needs_depth, (*self._connections.variants, *self._newest.awaited)))

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
        """Drop what is known of the past: the camera is left alone."""
        self._frames.take()
        self._forgetting = True
        self._work.set()
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
        context, message = self._context_for(variant), self._newest.get(variant)
        return message if context and message and message.seq == context.frame.seq else None

    def _deliver(self) -> None:
        """Broadcast what P has made since the last time."""
        for variant, message in self._outbox.take_all().items():
            try:
                self._deliver_one(variant, message)
            except Exception as error:  # one message's failure is never another's
                self._metrics.processing_errors.labels('deliver').inc()
                log.error('a message of %s was not delivered: %s', variant.stream_id, error,
                          exc_info=error)

    def _deliver_one(self, variant: Variant, message: Message) -> None:
        self._newest.keep(message)
        if message.content_type == json_service.JSON:
            self._connections.broadcast_text(variant, message)
        else:
            self._connections.broadcast_bytes(variant, message)

    # -- P, the processing thread -------------------------------------------------------------

    def _run(self) -> None:
        while True:
            has_work = self._work.wait(_PULSE)
            self._threads.beat(PROCESSING)
            if not has_work:
                continue
            self._work.clear()
            if self._stopping:
                return
            # Nothing must end this thread: all clients live by it.
            self._guarded('processing', self._work_off)

    def _work_off(self) -> None:
        if self._forgetting:
            self._forgetting = False
            self._context = self._depth_context = self._snapshot = None
        frame, depth_frame = self._frames.take(), self._depth_frames.take()
        if frame is not None:
            self._begin(frame)
        if depth_frame is not None:
            self._add_depth(depth_frame)
        if self._context is not None:
            self._process(self._context)
            self._remember(self._context)

    def _remember(self, context: FrameContext) -> None:
        snapshot: TransformsSnapshot | None = context.made('snapshot')
        if snapshot is not None and snapshot is not self._snapshot:
            self._snapshot, self._snapshot_at = snapshot, time.monotonic()
            self._metrics.markers_detected.inc(len(snapshot.seen))

    def _begin(self, frame: Frame) -> None:
        self._context = FrameContext(frame, self._settings())
        if frame.depth is not None:
            self._depth_context = self._context
            self._depth_paired_at = time.monotonic()

    def _add_depth(self, frame: Frame) -> None:
        context = self._context
        if context is not None and context.frame.seq == frame.seq:
            context.add_depth(frame)
            self._depth_context = context
        else:
            self._depth_context = FrameContext(frame, self._settings())
        self._depth_paired_at = time.monotonic()

    def _process(self, context: FrameContext) -> None:
        asked = (*self._connections.wanted(time.monotonic()), *self._newest.awaited)
        wanted = list(dict.fromkeys(asked))
        # The plain picture does not wait for poses, and poses not for the other pictures.
        plain = [variant for variant in wanted if _is_plain(variant)][:1]
        texts = [variant for variant in wanted if variant.stream_id in json_service.OBJECTS]
        for variant in plain + texts:
            self._make(variant)
        self._make_for_ros(context)
        for variant in wanted:
            self._make(variant)

    def _context_for(self, variant: Variant) -> FrameContext | None:
        return self._depth_context if _needs_depth(variant) else self._context

    def _make_for_ros(self, context: FrameContext) -> None:
        demand = self._other_demand()
        for name, publish in ((POSES, self._publish_poses), (OVERLAY, self._publish_overlay)):
            if name in demand:
                context.once(name, partial(self._guarded, name, partial(publish, context)))

    def _publish_poses(self, context: FrameContext) -> bool:
        self._bus.publish(TRANSFORMS_COMPUTED, self._aruco.analyse(context))
        return True

    def _publish_overlay(self, context: FrameContext) -> bool:
        picture = self._images.picture(context, _OVERLAY_VARIANT)
        if picture is not None:
            self._bus.publish(OVERLAY_DRAWN, (context.frame, picture))
        return True

    def _make(self, variant: Variant) -> None:
        context = self._context_for(variant)
        if (context is None or variant in context.handed_over
                or not self._slow.may_be_made(variant)):
            return
        started = time.monotonic()
        message = self._guarded(variant.stream_id, partial(self._message, context, variant))
        self._slow.note(variant, time.monotonic() - started)
        if message is not None:
            context.handed_over.add(variant)
            self._metrics.messages_produced.labels(variant.stream_id).inc()
            self._hand_over(variant, message)

    def _message(self, context: FrameContext, variant: Variant) -> Message | None:
        if variant.stream_id in json_service.OBJECTS:
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
            try:
                self._call_in_loop(self._deliver)
            except Exception:
                # What lies in the outbox would keep the loop from ever being woken again.
                self._outbox.take_all()
                raise


def _is_plain(variant: Variant) -> bool:
    return variant.stream_id == 'color' and not variant.embed


def _needs_depth(variant: Variant) -> bool:
    product = image_service.CATALOGUE.get(variant.stream_id)
    return product is not None and 'depth' in product.needs
