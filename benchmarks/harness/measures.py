"""The measures of the proof, one function each: what is run, and the rows that come of it."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
import time
from typing import Any

from benchmarks.harness.native import Group
from benchmarks.harness.netem import LinkError, slow_network
from benchmarks.harness.peer import PeerError
from benchmarks.harness.pictures import PictureSize
from benchmarks.harness.processes import rss_bytes
from benchmarks.harness.report import Row
from benchmarks.harness.rig import demo_arguments, Rig, Window

VGA = PictureSize(640, 480, 34_000)
HD = PictureSize(1280, 720, 85_000)
FULL_HD = PictureSize(1920, 1080, 160_000)
BIG_FRAMES = PictureSize(1280, 720, 200_000)

# The kernel's initial receive buffer without its growth: what is on its way on a real slow link.
_RCVBUF = 65536
_SLOW_LINK = 2_000_000
_PAGE_MS = 70.0
# The bridge leaves the camera alone some seconds after the last client has gone.
_UNTIL_IDLE = 6.5


@dataclass(frozen=True)
class Plan:
    """How much is measured: seconds of one window, rounds, sizes, numbers of clients."""

    seconds: float
    warmup: float
    rounds: int
    fan_out_rounds: int
    sizes: Sequence[PictureSize]
    fan_out_sizes: Sequence[PictureSize]
    peer_sizes: Sequence[PictureSize]
    scene_sizes: Sequence[PictureSize]
    memory_sizes: Sequence[PictureSize]
    clients: Sequence[int]
    long_seconds: float
    with_network: bool = False


QUICK = Plan(
    seconds=2.0, warmup=0.7, rounds=1, fan_out_rounds=1, sizes=(VGA, FULL_HD),
    fan_out_sizes=(VGA, FULL_HD), peer_sizes=(FULL_HD,), scene_sizes=(VGA,), memory_sizes=(VGA,),
    clients=(200,), long_seconds=4.0)
FULL = Plan(
    seconds=5.0, warmup=1.0, rounds=3, fan_out_rounds=2, sizes=(VGA, HD, FULL_HD),
    fan_out_sizes=(VGA, HD, FULL_HD), peer_sizes=(VGA, HD, FULL_HD), scene_sizes=(VGA, HD),
    memory_sizes=(VGA, FULL_HD), clients=(1, 10, 50, 200), long_seconds=30.0, with_network=True)

Look = Callable[[], Window]


def _rounds(count: int, *looks: Look) -> list[list[Window]]:
    """Return what was seen in rounds A, B, A, B ...: a noisy minute concerns all of them."""
    return [list(windows) for windows in zip(*[[look() for look in looks]
                                               for _ in range(count)])]


def _ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the rounds' ratios."""
    return median(a / b for a, b in zip(above, below))


def _ages(windows: Sequence[Window], name: str = 'p50') -> list[float]:
    return [window.age(name) for window in windows]


def _cpu(windows: Sequence[Window]) -> list[float]:
    return [window.cpu_per_source_ms for window in windows]


def _color(count: int, **options: Any) -> list[Group]:
    return [replace(Group(count=count), **options)]


def one_client(rig: Rig, plan: Plan) -> Iterator[Row]:
    """One client of ``color`` against floor (a), its encode alone and with one bare socket."""
    with rig.receive_floor() as floor, rig.bridge() as bridge:
        for size in plan.sizes:
            encoded, sent, seen = _rounds(
                plan.rounds,
                partial(rig.look_without_clients, floor, size, plan.seconds),
                partial(rig.look, floor, size, _color(1), plan.seconds, plan.warmup),
                partial(rig.look, bridge, size, _color(1), plan.seconds, plan.warmup))
            p50, p99, cpu = _ages(seen), _ages(seen, 'p99'), _cpu(seen)
            floors, floor_cpu = _ages(encoded), _cpu(encoded)
            received, sent_cpu = _ages(sent), _cpu(sent)
            yield Row('age p50, one client, against floor (a)', str(size), _ratio(p50, floors),
                      1.3, f'{median(p50):.2f} ms, encoded {median(floors):.2f} ms')
            yield Row('the same against floor (a) + a bare socket', str(size),
                      _ratio(p50, received), None, f'received {median(received):.2f} ms')
            yield Row('age p99 against its p50, one client', str(size), _ratio(p99, p50), 2.0,
                      f'{median(p99):.2f} ms')
            yield Row('CPU per image, one client, against floor (a)', str(size),
                      _ratio(cpu, floor_cpu), 1.4,
                      f'{median(cpu):.2f} ms, floor {median(floor_cpu):.2f} ms, with a socket '
                      f'{median(sent_cpu):.2f} ms')


def fan_out(rig: Rig, plan: Plan) -> Iterator[Row]:
    """More and more clients against floor (b)."""
    with rig.receive_floor() as receive, rig.bridge() as bridge:
        for size in plan.fan_out_sizes:
            alone = rig.look(bridge, size, _color(1), plan.seconds, plan.warmup)
            encoded = rig.look_without_clients(receive, size, plan.seconds)
            with rig.fan_out_floor(round(alone.message_bytes)) as floor:
                for count in plan.clients:
                    seen, floors = _rounds(
                        plan.fan_out_rounds,
                        partial(rig.look, bridge, size, _color(count), plan.seconds, plan.warmup),
                        partial(rig.look, floor, size, _color(count), plan.seconds, plan.warmup))
                    if count == 200:
                        yield from _fan_out_rows(size, (alone, encoded), seen, floors)


def _fan_out_rows(size: PictureSize, single: tuple[Window, Window], seen: list[Window],
                  floors: list[Window]) -> Iterator[Row]:
    alone, encoded = single
    whole = [window.cpu_per_delivered_us for window in seen]
    below = [window.cpu_per_delivered_us for window in floors]
    # Receiving and encoding is done once, whether one client watches or two hundred.
    added = [1e6 * (window.cpu_s - alone.cpu_per_source_ms * 1e-3 * window.source_frames)
             / max(1, window.delivered - window.source_frames) for window in seen]
    both = [value + 1e3 * encoded.cpu_per_source_ms / window.clients
            for value, window in zip(below, seen)]
    case = f'{seen[0].clients} clients, {seen[0].message_bytes / 1e3:.0f} KB'
    title = 'CPU per delivered frame'
    floor = f'floor {median(below):.1f} us ({size})'
    yield Row(f'{title}, a client more, against floor (b)', case, _ratio(added, below), 1.8,
              f'{median(added):.1f} us for each client after the first, {floor}')
    yield Row(f'{title}, receive and encode included, against (b)', case, _ratio(whole, below),
              1.8, f'{median(whole):.1f} us, {floor}')
    yield Row(f'{title}, the same against floors (a) + (b)', case, _ratio(whole, both), None,
              f'floors {median(both):.1f} us')


def foxglove(rig: Rig, plan: Plan) -> Iterator[Row]:
    """Ten clients against a foxglove-sdk server."""
    title = '10 clients against foxglove-sdk'
    try:
        with ExitStack() as stack:
            peer = stack.enter_context(rig.foxglove())
            bridge = stack.enter_context(rig.bridge())
            for size in plan.peer_sizes:
                seen, theirs = _rounds(
                    plan.rounds,
                    partial(rig.look, bridge, size, _color(10), plan.seconds, plan.warmup),
                    partial(rig.look, peer, size, _color(10, path='/', protocol='foxglove'),
                                     plan.seconds, plan.warmup))
                for what, a, b in (
                        ('age p50', _ages(seen), _ages(theirs)),
                        ('CPU per image', _cpu(seen), _cpu(theirs))):
                    yield Row(f'{what}, {title}', str(size), _ratio(a, b), 0.65,
                              f'{median(a):.2f} ms against {median(b):.2f} ms')
    except PeerError as error:
        yield Row(title, '', None, 0.65, str(error))


def all_streams(rig: Rig, plan: Plan) -> Iterator[Row]:
    """Watch everything: ``color`` is to come as fast as when it is watched alone."""
    with rig.bridge(*demo_arguments()) as bridge:
        for full in plan.scene_sizes:
            size = replace(full, jpeg_bytes=0)
            streams = bridge.streams()
            color = Group('color')
            every = [color, *(Group(stream, path=f'/ws/{stream}') for stream in streams
                              if stream != 'color')]
            alone, among = _rounds(
                plan.rounds,
                partial(rig.look, bridge, size, [color], plan.seconds, plan.warmup),
                partial(rig.look, bridge, size, every, plan.seconds, plan.warmup))
            a, b = _ages(among), _ages(alone)
            rate = median(window.groups['color']['messages'] / window.seconds
                          for window in among)
            silent = [name for name, group in among[-1].groups.items() if not group['messages']]
            yield Row('age of color, all streams watched', str(size), _ratio(a, b), 1.3,
                      f'{median(a):.2f} ms at {rate:.0f}/s, alone {median(b):.2f} ms; '
                      f'{len(every)} streams' + (f', silent: {" ".join(silent)}' if silent
                                                 else ''))


def stalled(rig: Rig, plan: Plan) -> Iterator[Row]:
    """Fifty clients that never read beside fifty that do."""
    healthy = Group('healthy', 50)
    with rig.bridge() as bridge:
        alone, beside = _rounds(
            plan.rounds,
            partial(rig.look, bridge, VGA, [healthy], plan.seconds, plan.warmup),
            partial(rig.look, bridge, VGA, [healthy, Group('stalled', 50, stalled=True)],
                             plan.seconds, plan.warmup))
    a, b = _ages(beside, 'p99'), _ages(alone, 'p99')
    yield Row('age p99 of 50 clients beside 50 that never read', str(VGA), _ratio(a, b), 1.1,
              f'{median(a):.2f} ms, alone {median(b):.2f} ms')


def slow_link(rig: Rig, plan: Plan) -> Iterator[Row]:
    """One client that reads 2 MB/s of 200 KB frames."""
    group = Group('slow', rate=_SLOW_LINK, rcvbuf=_RCVBUF)
    with rig.bridge() as bridge:
        window = rig.look(bridge, BIG_FRAMES, [group], plan.long_seconds, 2.0)
    frame = 1e3 * window.message_bytes / _SLOW_LINK
    yield Row('age at 2 MB/s, in times of one frame', f'{window.message_bytes / 1e3:.0f} KB',
              window.age('p95') / frame, 2.5, _slow_detail(window, frame))


def _slow_detail(window: Window, frame_ms: float) -> str:
    seen = next(iter(window.groups.values()))
    socket = seen['sockets'][0]
    closed = f'; CLOSED {socket["close_code"]}' if seen['closed'] else ''
    return (f'p50 {window.age():.0f}, p95 {window.age("p95"):.0f}, max '
            f'{window.age("max"):.0f} ms at {frame_ms:.0f} ms a frame; first third p50 '
            f'{socket["first_third_age_ms"]["p50"]:.0f}, last third '
            f'{socket["last_third_age_ms"]["p50"]:.0f} ms{closed}')


def adaptive(rig: Rig, plan: Plan) -> Iterator[Row]:
    """Compare how many images a second get through with and without ``adaptive``."""
    with rig.bridge() as bridge:
        plain, given = (
            rig.look(bridge, BIG_FRAMES, [Group('slow', path=path, rate=_SLOW_LINK,
                                                rcvbuf=_RCVBUF)], plan.long_seconds, 6.0)
            for path in ('/ws/color', '/ws/color?adaptive=1'))
    a, b = (window.groups['slow']['messages'] / window.seconds for window in (plain, given))
    yield Row('rate at 2 MB/s, plain against adaptive', f'{plain.message_bytes / 1e3:.0f} KB',
              a / b, None, f'{a:.1f}/s, p95 {plain.age("p95"):.0f} ms; adaptive {b:.1f}/s of '
              f'{given.message_bytes / 1e3:.0f} KB, p95 {given.age("p95"):.0f} ms')


def slow_page(rig: Rig, plan: Plan) -> Iterator[Row]:
    """One page that needs 70 ms for a frame and acknowledges it then."""
    with rig.bridge() as bridge:
        window = rig.look(bridge, VGA, [Group('page', ack=_PAGE_MS)], plan.long_seconds / 2, 2.0)
    yield Row('age on a page of 70 ms, in its frame times', str(VGA),
              window.age('p95') / _PAGE_MS, 3.0, _slow_detail(window, _PAGE_MS))


def memory(rig: Rig, plan: Plan) -> Iterator[Row]:
    """Resident memory with 200 clients that never read."""
    for size in plan.memory_sizes:
        with rig.bridge() as bridge:
            before = rig.look(bridge, size, _color(1), plan.seconds, plan.warmup)
            base = rss_bytes(bridge.child.pid)
            reading = rig.look(bridge, size, _color(200), 2.0, 1.0).rss_mb * 1e6 - base
            groups = [Group('healthy'), Group('stalled', 200, stalled=True)]
            soon = rig.look(bridge, size, groups, 2.0, 1.0)
            late = rig.look(bridge, size, groups, plan.long_seconds / 2, 1.0)
        grown = late.rss_mb * 1e6 - base
        message = before.message_bytes
        # A connection costs tornado about 20 KB, whatever is sent over it.
        yield Row('RSS, 200 stalled clients over 200 that read, in messages by client', str(size),
                  (grown - reading) / 200 / message, 1.0,
                  f'stalled +{grown / 1e6:.1f} MB (after 3 s {soon.rss_mb - base / 1e6:.1f}), '
                  f'reading +{reading / 1e6:.1f} MB, over {base / 1e6:.0f} MB at '
                  f'{message / 1e3:.0f} KB a message')


def idle(rig: Rig, plan: Plan) -> Iterator[Row]:
    """Nobody watches while 1080p is published."""
    with rig.bridge() as bridge:
        rig.look(bridge, FULL_HD, _color(1), 1.0, plan.warmup)
        time.sleep(_UNTIL_IDLE)
        window = rig.look_without_clients(bridge, FULL_HD, plan.long_seconds)
    yield Row('idle, nobody watching, of a core', str(FULL_HD),
              100 * window.cpu_s / window.seconds, 1.0,
              f'{1e3 * window.cpu_s:.0f} ms in {window.seconds:.0f} s', unit='%')


def netem(rig: Rig, plan: Plan) -> Iterator[Row]:
    """One client behind 2 Mbit/s, 50 ms and 1 % loss."""
    title = 'age at 2 Mbit/s, 50 ms, 1 % loss, in times of one frame'
    if not plan.with_network:
        yield Row(title, '', None, None, 'in the full run only')
        return
    try:
        with slow_network() as link, rig.bridge(host=link.host) as bridge:
            window = rig.look(bridge, VGA, [Group('far')], plan.long_seconds, 3.0, link.prefix)
            frame = 8e3 * window.message_bytes / link.bits
            yield Row(title, str(VGA), window.age('p95') / frame, None,
                      _slow_detail(window, frame) + link.remark)
    except LinkError as error:
        yield Row(title, '', None, None, str(error))


MEASURES: dict[str, Callable[[Rig, Plan], Iterator[Row]]] = {
    measure.__name__: measure for measure in (
        one_client, fan_out, foxglove, all_streams, stalled, slow_link, adaptive, slow_page,
        memory, idle, netem)}
