"""
From IMAGE_RECEIVED to the clients: what is wanted now, made once, handed to the loop.

Threads meet here. R (ROS) makes the colour picture, which shall wait for nothing, and leaves the
frame in a slot. P (owned here) makes poses; lanes beside it make the other pictures. W (tornado's
loop) takes messages from one slot per variant and broadcasts them. Each hop holds the newest only
and counts what it replaced; at most one wake-up of the loop is pending.
"""
from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from camws_bridge.services.aruco_service import ArucoService, SNAPSHOT
from camws_bridge.services.frame_context import FrameContext
from camws_bridge.services.image_service import ImageService
from camws_bridge.services.json_service import JsonService
from camws_bridge.settings import Settings
from camws_bridge.supervision import PROCESSING, Threads
from camws_bridge.vision.encoding import JPEG
from camws_bridge.websockets.connection_manager import Client, ConnectionManager
from camws_bridge.websockets.frames_at_hand import FramesAtHand, needs_depth, shows_poses
from camws_bridge.websockets.lanes import Lane, usable_cores
from camws_bridge.websockets.newest_messages import NewestMessages
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
# With so many cores, poses and pictures without poses do not wait for each other.
_MANY_CORES = 4
# How long the poses of an image count as what is seen now, and how long depth may take (seconds).
_RECENT, _DEPTH_PATIENCE = 1.0, 2.0


class StreamingService:
    """Owns thread P, the lanes beside it, and the way from them to the loop."""

    def __init__(self, bus: EventBus, aruco: ArucoService, images: ImageService,
                 json: JsonService, connections: ConnectionManager,
                 settings: Callable[[], Settings], metrics: Metrics,
                 call_in_loop: Callable[[Callable[[], None]], object],
                 other_demand: Callable[[], frozenset[str]], cores: int = 0,
                 threads: Threads | None = None) -> None:
        """
        Make the service; ``start`` starts its threads, fit for so many ``cores`` (0: all).

        ``call_in_loop`` schedules a call on the loop's thread, from any thread.
        ``other_demand`` says what is wanted besides clients: IMAGES, POSES, OVERLAY (any thread).
        ``threads`` watches thread P.
        """
        self._threads = threads or Threads()
        self._bus, self._aruco, self._images, self._json = bus, aruco, images, json
        self._connections, self._settings, self._metrics = connections, settings, metrics
        self._call_in_loop, self._other_demand = call_in_loop, other_demand
        # R and P each keep a core busy; what is left is for the lanes.
        cores = cores or usable_cores()
        self._pool = ThreadPoolExecutor(max(1, cores - 2), thread_name_prefix='pictures')
        self._has_many_cores = cores >= _MANY_CORES
        self._lanes = {stream_id: self._make_lane(stream_id)
                       for stream_id in image_service.CATALOGUE}
        self._frames: LatestSlot[FrameContext] = LatestSlot()
        self._depth_frames: LatestSlot[Frame] = LatestSlot()
        self._work = threading.Event()
        self._stopping = self._forgetting = False
        self._thread: threading.Thread | None = None
        # R: the newest frame. P: of which frame each message is made.
        self._newest_context: FrameContext | None = None
        self._at_hand = FramesAtHand()
        self._snapshot: TransformsSnapshot | None = None
        self._snapshot_at = 0.0
        self._logged: dict[str, float] = {}
        # To W. Two threads may make one variant of two images: the newer one stays.
        self._outbox: LatestSlots[Variant, Message] = LatestSlots(lambda message: message.seq)
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
        self._pool.shutdown(cancel_futures=True)

    def on_image(self, frame: Frame) -> None:
        """
        Take a frame: the handler of IMAGE_RECEIVED.

        The colour picture is made at once, on this thread: a hop would cost as much as half of
        the encoding, and it shall not wait for the poses of the image before.
        """
        context = self._newest_context = FrameContext(frame, self._settings())
        self._guarded('arrival', partial(self._arrive, context))

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
        variants = (*self._connections.variants, *self._newest.awaited)
        return any(map(needs_depth, variants)) or (self._settings().depth.refine_poses and (
            any(map(shows_poses, variants)) or bool({POSES, OVERLAY} & self._other_demand())))

    @property
    def newest_frame(self) -> Frame | None:
        """The newest frame."""
        context = self._newest_context
        return context.frame if context else None

    def own_size(self, stream_id: str) -> tuple[int, int | None]:
        """Return a picture's own width (px; 0: not known) and JPEG quality (None: no JPEG)."""
        product = image_service.CATALOGUE.get(stream_id)
        is_jpeg = product is not None and product.content_type == JPEG
        return (self._images.widths.get(stream_id, 0),
                self._settings().jpeg.quality if is_jpeg else None)

    @property
    def newest_snapshot(self) -> TransformsSnapshot | None:
        """The poses of the newest frame, if they were wanted within the last second."""
        return self._snapshot if time.monotonic() - self._snapshot_at < _RECENT else None

    @property
    def waits_for_depth(self) -> bool:
        """Tell whether depth is wanted, and none was paired with an image for a while."""
        since = max(self._at_hand.depth_paired_at, self._depth_wanted_at)
        return self.wants_depth and time.monotonic() - since > _DEPTH_PATIENCE

    def forget(self) -> None:
        """Drop what is known of the past: the camera is left alone."""
        self._frames.take()
        self._newest_context = None
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
        waits = needs_depth(variant) or shows_poses(variant)
        context = self._at_hand.of(variant) if waits else self._newest_context
        message = self._newest.get(variant)
        return message if context and message and message.seq == context.frame.seq else None

    def _deliver(self) -> None:
        """Broadcast what was made since the last time, poses before pictures."""
        messages = sorted(self._outbox.take_all().values(), key=_is_picture)
        with self._metrics.stage_seconds.labels('deliver').time():
            for message in messages:
                try:
                    self._deliver_one(message)
                except Exception as error:  # one message's failure is never another's
                    self._note_failure('deliver', error)

    def _deliver_one(self, message: Message) -> None:
        if _is_picture(message):
            self._connections.broadcast_bytes(message.variant, message)
        else:
            self._connections.broadcast_text(message.variant, message)
        self._newest.keep(message)

    # -- R, the ROS thread --------------------------------------------------------------------

    def _arrive(self, context: FrameContext) -> None:
        wanted = self._wanted()
        first = _first_colours(wanted)
        is_for_p = (len(first) < len(wanted) or self._other_demand()
                    or context.frame.depth is not None)
        # With few cores P would take this one away: detection uses as many as there are.
        if is_for_p and self._has_many_cores:
            self._wake_with(context)
        for variant in first:
            self._make(context, variant)
        if is_for_p and not self._has_many_cores:
            self._wake_with(context)

    def _wake_with(self, context: FrameContext) -> None:
        replaced = self._frames.put(context)
        # P takes the newest whenever it is woken: it may have had this one already.
        if replaced is not None and replaced is not self._at_hand.newest:
            self._metrics.messages_replaced.labels('image', 'processing').inc()
        self._work.set()

    # -- P, the processing thread -------------------------------------------------------------

    def _run(self) -> None:
        while True:
            patience = self._at_hand.patience
            has_work = self._work.wait(_PULSE if patience is None else min(patience, _PULSE))
            self._threads.beat(PROCESSING)
            if not has_work and self._at_hand.patience is None:
                continue
            self._work.clear()
            if self._stopping:
                return
            # Nothing must end this thread: all clients live by it.
            self._guarded('processing', self._work_off)

    def _work_off(self) -> None:
        at_hand = self._at_hand
        if self._forgetting:
            self._forgetting, self._snapshot = False, None
            at_hand.clear()
        self._frames.take()
        context, depth_frame = self._newest_context, self._depth_frames.take()
        if context is not None and context is not at_hand.newest:
            at_hand.begin(context)
        if depth_frame is not None:
            at_hand.add_depth(depth_frame, lambda frame: FrameContext(frame, self._settings()))
        at_hand.stop_waiting()
        if at_hand.newest is not None:
            self._process()

    def _process(self) -> None:
        wanted, demand = self._wanted(), self._other_demand()
        # With few cores other pictures would only slow the poses down; colour never waits.
        self._start_lanes([variant for variant in wanted if self._has_many_cores
                           or variant.stream_id == 'color'], demand)
        self._find_poses(wanted, demand)
        for variant in wanted:
            context = self._at_hand.of(variant)
            if (variant.stream_id in json_service.OBJECTS and context is not None
                    and _is_ready(context, variant)):
                self._make(context, variant)
        context = self._at_hand.for_poses
        if POSES in demand and context is not None and context.made(SNAPSHOT):
            context.once(POSES, partial(self._guarded, 'publish',
                                        partial(self._publish_poses, context)))
        self._start_lanes(wanted, demand)

    def _find_poses(self, wanted: Iterable[Variant], demand: frozenset[str]) -> None:
        """Detect and solve where it is wanted: on this thread only, frame after frame."""
        contexts = {self._at_hand.of(variant) for variant in wanted if shows_poses(variant)}
        if demand & {POSES, OVERLAY}:
            contexts.add(self._at_hand.for_poses)
        for context in contexts:
            if context is not None and not context.made(SNAPSHOT):
                snapshot = self._guarded(POSES, partial(self._aruco.analyse, context))
                if snapshot is not None:
                    self._snapshot, self._snapshot_at = snapshot, time.monotonic()
                    self._metrics.markers_detected.inc(len(snapshot.seen))

    def _start_lanes(self, wanted: Iterable[Variant], demand: frozenset[str]) -> None:
        """Have the pictures made that are ready to be, each stream's in its lane."""
        context = self._at_hand.for_poses
        if (OVERLAY in demand and context is not None and context.made(SNAPSHOT)
                and not context.made(OVERLAY)):
            self._lanes[_OVERLAY_VARIANT.stream_id].put(context)
        for variant in wanted:
            lane, context = self._lanes.get(variant.stream_id), self._at_hand.of(variant)
            if (lane is not None and context is not None and not context.is_claimed(variant)
                    and _is_ready(context, variant)):
                lane.put(context)

    def _publish_poses(self, context: FrameContext) -> bool:
        self._bus.publish(TRANSFORMS_COMPUTED, self._aruco.analyse(context))
        return True

    # -- the lanes beside P -------------------------------------------------------------------

    def _make_lane(self, stream_id: str) -> Lane:
        return Lane(self._pool, partial(self._make_pictures, stream_id),
                    self._metrics.messages_replaced.labels(stream_id, 'processing').inc)

    def _make_pictures(self, stream_id: str, context: FrameContext) -> None:
        """Make what is wanted of one image stream."""
        if (stream_id == _OVERLAY_VARIANT.stream_id and OVERLAY in self._other_demand()
                and context.made(SNAPSHOT)):
            context.once(OVERLAY, partial(self._guarded, OVERLAY,
                                          partial(self._publish_overlay, context)))
        for variant in self._wanted():
            if variant.stream_id == stream_id and _is_ready(context, variant):
                self._make(context, variant)

    def _publish_overlay(self, context: FrameContext) -> bool:
        picture = self._images.picture(context, _OVERLAY_VARIANT)
        if picture is not None:
            self._bus.publish(OVERLAY_DRAWN, (context.frame, picture))
        return True

    # -- R, P and the lanes -------------------------------------------------------------------

    def _wanted(self) -> list[Variant]:
        """Return the variants somebody would take now."""
        asked = (*self._connections.wanted(time.monotonic()), *self._newest.awaited)
        return list(dict.fromkeys(asked))

    def _make(self, context: FrameContext, variant: Variant) -> None:
        """Make a message of a frame and hand it over, unless that was done before."""
        if not context.claim(variant):
            return
        message = self._guarded(variant.stream_id, partial(self._message, context, variant))
        if message is None:
            context.give_back(variant)
            return
        self._metrics.messages_produced.labels(variant.stream_id).inc()
        try:
            self._hand_over(variant, message)
        except Exception as error:  # the next message may find its way again
            self._note_failure('hand_over', error)

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
                self._note_failure(stage, error)
                return None

    def _note_failure(self, stage: str, error: Exception) -> None:
        self._metrics.processing_errors.labels(stage).inc()
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


def _is_picture(message: Message) -> bool:
    return message.content_type != json_service.JSON


def _first_colours(wanted: Sequence[Variant]) -> list[Variant]:
    """Return the first colour picture that is wanted, in all its framings."""
    colours = [variant for variant in wanted
               if variant.stream_id == 'color' and not variant.embed]
    return [variant for variant in colours
            if (variant.width, variant.quality, variant.content_type)
            == (colours[0].width, colours[0].quality, colours[0].content_type)]


def _is_ready(context: FrameContext, variant: Variant) -> bool:
    return not shows_poses(variant) or context.made(SNAPSHOT) is not None
