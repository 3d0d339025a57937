"""The service between its slots: what is made, how often, in which order; no server needed."""
import asyncio
from collections import Counter
from dataclasses import replace
import threading

import numpy as np
from processes import wait_until
import pytest
from web_bridge import WebBridge

from camws_bridge.events import OVERLAY_DRAWN, TRANSFORMS_COMPUTED
from camws_bridge.metrics import ClientFigures
from camws_bridge.models import Message, Variant
from camws_bridge.websockets.streaming_service import OVERLAY, POSES
from camws_bridge.websockets.variants import MAX_VARIANTS


class Watcher:
    """A client that remembers; ``got`` wakes those who wait for it."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.got = threading.Condition()
        self.since = 0.0

    def offer(self, message: Message) -> None:
        with self.got:
            self.received.append(message)
            self.got.notify_all()

    def wait_for(self, count: int) -> list[Message]:
        with self.got:
            assert self.got.wait_for(lambda: len(self.received) >= count, 10)
            return list(self.received)

    def is_due(self, now: float) -> bool:
        return True

    def figures(self, now: float) -> ClientFigures:
        return ClientFigures('color', 'watcher', '', len(self.received), 0, None, None)

    def check(self, now: float) -> None:
        pass

    def close(self, code: int, reason: str) -> None:
        pass

    def abort(self) -> None:
        pass


@pytest.fixture
def bridge():
    """The service with its threads; the server listens but nobody uses it."""
    it = WebBridge({'board.file': 'package://camws_bridge/config/boards/demo_board.yaml'})
    it.server.start(it.bridge)
    it.streaming.start()
    yield it
    it.streaming.stop()
    it.server.stop()


def in_loop(bridge, call, *arguments):
    async def run():
        return call(*arguments)
    return asyncio.run_coroutine_threadsafe(run(), bridge.server.loop).result(10)


def watch(bridge, variant) -> Watcher:
    watcher = Watcher()
    in_loop(bridge, bridge.streaming.connect, variant, watcher)
    return watcher


def test_every_stream_is_made_once_for_all_its_clients(bridge):
    made = Counter()
    produce = bridge.streaming._images._encode
    bridge.streaming._images._encode = lambda context, product, *rest: (
        made.update([product.stream_id]) or produce(context, product, *rest))
    first, second = (watch(bridge, Variant('color')) for _ in range(2))
    framed = watch(bridge, Variant('color', framed=True))
    bridge.publish()
    assert first.wait_for(1)[0] is second.wait_for(1)[0]
    assert bytes(framed.wait_for(1)[0].body) == bytes(first.received[0].body)
    assert made == {'color': 1}


def test_nothing_is_made_for_streams_nobody_watches(bridge):
    markers = watch(bridge, Variant('markers'))
    bridge.publish()
    markers.wait_for(1)
    assert bridge.count('camws_messages_produced_total', stream='markers') == 1
    assert bridge.count('camws_messages_produced_total', stream='color') == 0
    assert bridge.count('camws_stage_seconds_count', stage='color') == 0


def test_all_messages_of_an_image_have_its_seq_and_pictures_with_poses_come_last(bridge):
    order: list[str] = []
    guarded = bridge.streaming._guarded
    bridge.streaming._guarded = lambda stage, make: order.append(stage) or guarded(stage, make)
    watchers = {stream: watch(bridge, Variant(stream)) for stream in (
        'aruco_debug', 'transforms_board', 'color', 'board_mask')}
    frame = bridge.publish()
    for watcher in watchers.values():
        message = watcher.wait_for(1)[0]
        assert (message.seq, message.stamp) == (frame.seq, frame.stamp)
    made = [stage for stage in order if stage not in (
        'arrival', 'processing', 'color', 'hand_over', 'deliver')]
    assert made[:2] == ['poses', 'transforms_board']
    assert set(made[2:]) == {'aruco_debug', 'board_mask'}


def test_the_plain_picture_is_there_when_the_ros_thread_is_back_whatever_the_poses_do(bridge):
    # Inject a fault by a detection that does not end.
    go_on = threading.Event()
    analyse = bridge.aruco.analyse
    bridge.aruco.analyse = lambda context: go_on.wait(10) and analyse(context)
    color, markers = watch(bridge, Variant('color')), watch(bridge, Variant('markers'))
    for count in range(1, 4):
        bridge.publish()
        assert len(color.wait_for(count)) == count
    assert not markers.received
    go_on.set()
    markers.wait_for(1)


@pytest.mark.parametrize(('cores', 'is_beside'), [(2, False), (4, True)])
def test_with_many_cores_pictures_without_poses_are_made_beside_them(cores, is_beside):
    # Inject a fault by a detection that does not end.
    it = WebBridge({}, cores=cores)
    go_on = threading.Event()
    analyse = it.aruco.analyse
    it.aruco.analyse = lambda context: go_on.wait(10) and analyse(context)
    it.server.start(it.bridge)
    it.streaming.start()
    try:
        rectified, markers = watch(it, Variant('rectified')), watch(it, Variant('markers'))
        it.publish()
        if is_beside:
            rectified.wait_for(1)
            assert not markers.received
        go_on.set()
        markers.wait_for(1)
        rectified.wait_for(1)
    finally:
        it.streaming.stop()
        it.server.stop()


def test_a_slow_picture_holds_up_neither_poses_nor_colour_and_what_it_misses_is_counted(bridge):
    # Inject a fault by a product that takes as long as the test likes.
    go_on = threading.Event()
    picture = bridge.streaming._images.picture
    bridge.streaming._images.picture = lambda context, variant: (
        (variant.stream_id != 'aruco_debug' or go_on.wait(10)) and picture(context, variant))
    slow = watch(bridge, Variant('aruco_debug'))
    markers, color = watch(bridge, Variant('markers')), watch(bridge, Variant('color'))
    for count in range(1, 5):
        frame = bridge.publish()
        assert len(markers.wait_for(count)) == count
        assert len(color.wait_for(count)) == count
    assert not slow.received
    # The lane is given a frame just after its poses are sent.
    wait_until(lambda: bridge.count('camws_messages_replaced_total', stream='aruco_debug',
                                    hop='processing') == 2, 10, 'two frames are replaced')
    go_on.set()
    wait_until(lambda: slow.received and slow.received[-1].seq == frame.seq, 10, 'the newest')
    assert {message.seq for message in slow.received} <= {frame.seq - 3, frame.seq}


def test_who_comes_gets_the_newest_there_is_at_once(bridge):
    bridge.publish()
    frame = bridge.publish()
    watch(bridge, Variant('markers')).wait_for(1)
    for _ in range(2):      # made for the first, kept for the second
        assert watch(bridge, Variant('color')).wait_for(1)[0].seq == frame.seq


def test_a_failing_product_costs_the_others_nothing(bridge):
    # Inject a fault by a product that raises.
    def fail(*_):
        raise ValueError('injected')
    original = bridge.streaming._images.picture
    bridge.streaming._images.picture = lambda context, variant: (
        fail() if variant.stream_id == 'aruco_debug' else original(context, variant))
    overlay, color = (watch(bridge, Variant(stream)) for stream in ('aruco_debug', 'color'))
    mask = watch(bridge, Variant('board_mask'))
    for count in (1, 2):
        bridge.publish()
        color.wait_for(count)
        mask.wait_for(count)
    wait_until(lambda: bridge.count(
        'camws_processing_errors_total', stream='aruco_debug') >= 2, 10, 'both failures counted')
    assert overlay.received == []


def test_depth_that_comes_later_makes_depth_streams_only(bridge):
    color, depth = (watch(bridge, Variant(stream)) for stream in ('color', 'depth'))
    frame = bridge.publish()
    color.wait_for(1)
    bridge.streaming.on_depth(replace(frame, depth=np.full((240, 320), 1000, np.uint16)))
    assert depth.wait_for(1)[0].seq == frame.seq
    assert len(color.received) == 1


def test_a_processing_thread_that_is_behind_takes_the_newest(bridge):
    # Inject a fault by holding the thread at its first detection.
    entered, go_on = threading.Event(), threading.Event()
    analyse = bridge.aruco.analyse

    def hold(context):
        entered.set()
        assert go_on.wait(10)
        return analyse(context)

    bridge.aruco.analyse = hold
    markers = watch(bridge, Variant('markers'))
    frames = [bridge.publish()]
    assert entered.wait(10)
    frames += [bridge.publish() for _ in range(4)]
    go_on.set()
    assert [message.seq for message in markers.wait_for(2)] == [frames[0].seq, frames[-1].seq]
    assert bridge.count('camws_messages_replaced_total', stream='image', hop='processing') == 3


def test_a_loop_that_is_behind_is_woken_once_and_gets_the_newest(bridge):
    # Inject a fault by holding the loop.
    color = watch(bridge, Variant('color'))
    markers = watch(bridge, Variant('markers'))
    entered, go_on = threading.Event(), threading.Event()
    bridge.server.loop.call_soon_threadsafe(lambda: entered.set() or go_on.wait(10))
    assert entered.wait(10)
    calls = []
    call_in_loop = bridge.streaming._call_in_loop
    bridge.streaming._call_in_loop = lambda call: calls.append(call) or call_in_loop(call)
    produced = threading.Semaphore(0)
    hand_over = bridge.streaming._hand_over
    bridge.streaming._hand_over = lambda *it: hand_over(*it) or produced.release()
    for _ in range(3):
        frame = bridge.publish()
        assert produced.acquire(timeout=10) and produced.acquire(timeout=10)
    go_on.set()
    assert [message.seq for message in color.wait_for(1)] == [frame.seq]
    assert [message.seq for message in markers.wait_for(1)] == [frame.seq]
    assert len(calls) == 1
    assert bridge.count('camws_messages_replaced_total', stream='color', hop='loop') == 2


def test_ros_gets_poses_and_overlay_only_while_it_wants_them(bridge):
    snapshots, overlays = [], []
    bridge.bus.subscribe(TRANSFORMS_COMPUTED, snapshots.append)
    bridge.bus.subscribe(OVERLAY_DRAWN, overlays.append)
    color = watch(bridge, Variant('color'))
    bridge.publish()
    color.wait_for(1)
    bridge.demand = frozenset({POSES, OVERLAY})
    wanted = bridge.publish()
    wait_until(lambda: snapshots and overlays, 10, 'both are made')
    bridge.demand = frozenset()
    bridge.publish()
    color.wait_for(3)
    assert [snapshot.seq for snapshot in snapshots] == [wanted.seq]
    assert snapshots[0].board
    frame, picture = overlays[0]
    assert frame.seq == wanted.seq and picture.shape == (240, 320, 3)


def test_newest_makes_what_nobody_watches_and_gives_up_in_time(bridge):
    async def newest(stream, timeout):
        return await bridge.streaming.newest(Variant(stream), timeout)

    def ask(stream, timeout):
        return asyncio.run_coroutine_threadsafe(
            newest(stream, timeout), bridge.server.loop).result(10)

    with pytest.raises(asyncio.TimeoutError):
        ask('color', 0.05)
    assert not bridge.streaming.is_wanted
    frame = bridge.publish()
    assert ask('color', 5).seq == frame.seq
    assert ask('color', 5).seq == frame.seq
    assert bridge.count('camws_messages_produced_total', stream='color') == 1
    assert not bridge.streaming.is_wanted


def test_what_is_forgotten_is_not_shown_again(bridge):
    bridge.publish()
    watch(bridge, Variant('color')).wait_for(1)
    bridge.streaming.forget()
    late = watch(bridge, Variant('color'))
    frame = bridge.publish()
    assert [message.seq for message in late.wait_for(1)] == [frame.seq]


def test_starting_and_stopping_in_the_wrong_state_raises():
    it = WebBridge({})
    with pytest.raises(RuntimeError):
        it.streaming.stop()
    it.streaming.start()
    with pytest.raises(RuntimeError):
        it.streaming.start()
    it.streaming.stop()
    with pytest.raises(RuntimeError):
        it.streaming.stop()
    with pytest.raises(RuntimeError):
        it.server.stop()
    it.server.loop.close()


def test_depth_that_is_several_images_late_is_shown_under_its_own_seq(bridge):
    color, depth = (watch(bridge, Variant(stream)) for stream in ('color', 'depth'))
    frames = [bridge.publish() for _ in range(3)]
    wait_until(lambda: color.received and color.received[-1].seq == frames[-1].seq, 10, 'newest')
    bridge.streaming.on_depth(replace(frames[0], depth=np.full((240, 320), 1000, np.uint16)))
    assert [message.seq for message in depth.wait_for(1)] == [frames[0].seq]
    seqs = [message.seq for message in color.received]
    assert seqs == sorted(set(seqs))


def test_poses_are_published_once_for_a_frame_that_gets_its_depth_later(bridge):
    snapshots = []
    bridge.bus.subscribe(TRANSFORMS_COMPUTED, snapshots.append)
    bridge.demand = frozenset({POSES})
    depth = watch(bridge, Variant('depth'))
    frame = bridge.publish()
    wait_until(lambda: snapshots, 10, 'poses')
    bridge.streaming.on_depth(replace(frame, depth=np.full((240, 320), 1000, np.uint16)))
    depth.wait_for(1)
    assert [snapshot.seq for snapshot in snapshots] == [frame.seq]


def test_nothing_ends_the_processing_thread(bridge):
    # Inject a fault by a manager that fails outside every product.
    wanted, color = bridge.connections.wanted, watch(bridge, Variant('color'))

    def fail(now):
        bridge.connections.wanted = wanted
        raise OverflowError('injected')

    bridge.connections.wanted = fail
    bridge.publish()
    wait_until(lambda: bridge.count('camws_processing_errors_total', stream='arrival')
               + bridge.count('camws_processing_errors_total', stream='processing') == 1, 10,
               'the failure is counted')
    frame = bridge.publish()
    wait_until(lambda: color.received and color.received[-1].seq == frame.seq, 10, 'it goes on')


def test_the_variants_of_a_stream_are_bounded(bridge):
    for width in range(1, MAX_VARIANTS + 1):
        assert bridge.streaming.has_room_for(Variant('color', width))
        watch(bridge, Variant('color', width))
    assert not bridge.streaming.has_room_for(Variant('color', 1000))
    assert bridge.streaming.has_room_for(Variant('color', 5))
    assert bridge.streaming.has_room_for(Variant('depth', 1000))


def test_a_loop_that_cannot_be_woken_once_is_woken_the_next_time(bridge):
    # Inject a fault by a hand-over that raises: what it left must not count as being on its way.
    watcher = watch(bridge, Variant('color'))
    bridge.publish()
    watcher.wait_for(1)
    call_in_loop = bridge.streaming._call_in_loop
    failures = [ZeroDivisionError('injected')]

    def fail_once(call):
        if failures:
            raise failures.pop()
        call_in_loop(call)

    bridge.streaming._call_in_loop = fail_once
    bridge.publish()
    wait_until(lambda: bridge.count('camws_processing_errors_total', stream='hand_over') == 1,
               10, 'counted')
    frame = bridge.publish()
    wait_until(lambda: watcher.received[-1].seq == frame.seq, 10, 'the next image')


def test_a_message_that_cannot_be_delivered_costs_the_others_nothing(bridge):
    # Inject a fault by a store that raises for one stream.
    color, markers = (watch(bridge, Variant(stream)) for stream in ('color', 'markers'))
    keep = bridge.streaming._newest.keep

    def fail_for_color(message):
        if message.variant.stream_id == 'color':
            raise ZeroDivisionError('injected')
        keep(message)

    bridge.streaming._newest.keep = fail_for_color
    bridge.publish()
    markers.wait_for(1)
    wait_until(lambda: bridge.count('camws_processing_errors_total', stream='deliver') == 1, 10,
               'counted')
    bridge.streaming._newest.keep = keep
    bridge.publish()
    color.wait_for(1)


def test_markers_are_counted_once_for_each_image(bridge):
    for stream in ('markers', 'aruco_debug'):
        watch(bridge, Variant(stream))
    watcher = watch(bridge, Variant('transforms_camera'))
    bridge.publish()
    watcher.wait_for(1)
    wait_until(lambda: bridge.count('camws_markers_detected_total') > 4, 10, 'counted')
    count = bridge.count('camws_markers_detected_total')
    bridge.publish()
    watcher.wait_for(2)
    wait_until(lambda: bridge.count('camws_markers_detected_total') == 2 * count, 10, 'counted')


# -- poses that wait for the depth of their image ----------------------------------------------

DEPTH = np.full((240, 320), 1000, np.uint16)


class Clock:
    """Stands still until a test moves it."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def refining(bridge):
    """A bridge that refines poses by depth, which flows: one image had its depth already."""
    bridge.time = bridge.streaming._at_hand._clock = Clock()
    bridge.settings.change({'depth.refine_poses': True, 'depth.max_wait': 1.0})
    bridge.watchers = {stream: watch(bridge, Variant(stream)) for stream in ('color', 'markers')}
    bridge.snapshots = []
    bridge.bus.subscribe(TRANSFORMS_COMPUTED, bridge.snapshots.append)
    bridge.demand = frozenset({POSES})
    bridge.publish(depth=DEPTH)
    bridge.watchers['markers'].wait_for(1)
    return bridge


def show(bridge):
    """Publish an image without depth, and return it once all threads have seen it."""
    frame = bridge.publish()
    color, at_hand = bridge.watchers['color'], bridge.streaming._at_hand
    wait_until(lambda: color.received and color.received[-1].seq == frame.seq
               and at_hand.newest.frame.seq == frame.seq, 10, 'the image')
    return frame


def seqs(watcher):
    return [message.seq for message in watcher.received]


def test_poses_wait_for_depth_and_pictures_do_not(refining):
    markers = refining.watchers['markers']
    first, = seqs(markers)
    analysed = []
    analyse = refining.streaming._aruco._analyse
    refining.streaming._aruco._analyse = lambda context: (
        analysed.append(context.frame) or analyse(context))
    frame = show(refining)
    assert seqs(markers) == [first]
    refining.streaming.on_depth(replace(frame, depth=DEPTH))
    markers.wait_for(2)
    wait_until(lambda: len(refining.snapshots) == 2, 10, 'poses for ROS')
    assert seqs(markers) == [first, frame.seq]
    assert [found.depth is DEPTH for found in analysed] == [True]
    assert refining.snapshots[-1].seq == frame.seq


def test_depth_that_is_some_images_late_still_finds_its_poses(refining):
    markers = refining.watchers['markers']
    first, = seqs(markers)
    frames = [show(refining) for _ in range(4)]
    assert seqs(markers) == [first]
    for frame in (frames[1], frames[0], frames[3]):
        refining.streaming.on_depth(replace(frame, depth=DEPTH))
        wait_until(lambda seq=frame.seq: refining.streaming._at_hand.with_depth.frame.seq == seq,
                   10, 'it')
    wait_until(lambda: seqs(markers)[-1] == frames[3].seq, 10, 'the newest poses')
    # An image that was overtaken is left out: poses never go back in time.
    assert seqs(markers) == [first, frames[1].seq, frames[3].seq]


def test_poses_go_on_without_depth_that_does_not_come_in_time(refining):
    markers = refining.watchers['markers']
    first, = seqs(markers)
    frames = [show(refining), show(refining)]
    refining.time.now += 0.9
    refining.streaming.wake()
    later = show(refining)
    assert seqs(markers) == [first]
    refining.time.now += 0.2
    refining.streaming.wake()
    # The newest that has waited long enough; the next one still may.
    assert markers.wait_for(2)[-1].seq == frames[1].seq
    waiting = refining.streaming._at_hand._waiting
    assert [context.frame.seq for _, context in waiting] == [later.seq]


def test_when_depth_has_stopped_nothing_waits_any_more(refining):
    refining.time.now += 1.1
    frame = show(refining)
    assert refining.watchers['markers'].wait_for(2)[-1].seq == frame.seq


def test_the_thread_wakes_up_by_itself_when_an_image_has_waited_long_enough(bridge):
    bridge.settings.change({'depth.refine_poses': True, 'depth.max_wait': 0.01})
    bridge.watchers = {stream: watch(bridge, Variant(stream)) for stream in ('color', 'markers')}
    bridge.publish(depth=DEPTH)
    frame = show(bridge)
    wait_until(lambda: seqs(bridge.watchers['markers'])[-1:] == [frame.seq], 10, 'its poses')


def test_only_so_many_images_wait(refining):
    first, = seqs(refining.watchers['markers'])
    frames = [show(refining) for _ in range(8)]
    wait_until(lambda: seqs(refining.watchers['markers']) == [
        first, frames[0].seq, frames[1].seq], 10, 'the oldest go on')


def test_without_depth_at_all_nothing_waits(bridge):
    bridge.settings.change({'depth.refine_poses': True, 'depth.max_wait': 1.0})
    markers = watch(bridge, Variant('markers'))
    frame = bridge.publish()
    markers.wait_for(1)
    assert not bridge.streaming._at_hand._waiting
    assert seqs(markers) == [frame.seq]


def test_what_waits_is_forgotten_with_the_rest(refining):
    show(refining)
    assert refining.streaming._at_hand._waiting
    refining.streaming.forget()
    wait_until(lambda: not refining.streaming._at_hand._waiting, 10, 'nothing waits')
    assert refining.streaming._at_hand.for_poses is None


@pytest.mark.parametrize(('stream', 'embed', 'wanted'), [
    ('color', (), False), ('rectified', (), False), ('markers', (), True),
    ('aruco_debug', (), True), ('color', ('markers',), True), ('board_mask', (), True)])
def test_depth_is_wanted_where_poses_are_refined_by_it(bridge, stream, embed, wanted):
    watch(bridge, Variant(stream, framed=bool(embed), embed=embed))
    assert bridge.streaming.wants_depth is False
    bridge.settings.change({'depth.refine_poses': True})
    assert bridge.streaming.wants_depth is wanted
    for demand in (POSES, OVERLAY):
        bridge.demand = frozenset({demand})
        assert bridge.streaming.wants_depth is True
