"""What runs during a benchmark, and one look at it: a Window."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
import json
import os
import re
import sys
import time
from typing import Any
import urllib.request

from benchmarks.harness.native import build, Group, Load, run_load
from benchmarks.harness.peer import peer_folder
from benchmarks.harness.pictures import PictureSize
from benchmarks.harness.processes import (
    Child, ChildError, cpu_seconds, remove_shared_memory, ROOT, rss_bytes)
from benchmarks.harness.publisher import RATE

# A load client that uses more of a core than this may itself be what is measured.
_BUSY_CLIENT = 0.8
_SAMPLE = re.compile(r'^(\w+)(?:\{(.*)\})? (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Server:
    """A process under test: its port and the topic it is fed by ('' for none)."""

    name: str
    child: Child
    port: int
    topic: str
    host: str = '127.0.0.1'

    def metrics(self) -> dict[str, float]:
        """Return the samples of /metrics of a bridge by their full names."""
        if self.name != 'bridge':
            return {}
        url = f'http://{self.host}:{self.port}/metrics'
        with urllib.request.urlopen(url, timeout=10) as response:
            text = response.read().decode()
        return {f'{name}{{{labels}}}' if labels else name: float(value)
                for name, labels, value in _SAMPLE.findall(text)}

    def streams(self) -> list[str]:
        """Return the ids of a bridge's streams that are available."""
        url = f'http://{self.host}:{self.port}/api/v1/streams'
        with urllib.request.urlopen(url, timeout=10) as response:
            catalogue = json.load(response)
        entries = catalogue['streams'] if isinstance(catalogue, dict) else catalogue
        return [str(entry.get('id') or entry['stream_id']) for entry in entries]


@dataclass
class Window:
    """What was seen of one server in the seconds that count."""

    server: str
    size: str
    clients: int
    seconds: float
    cpu_s: float
    rss_mb: float
    groups: dict[str, Any] = field(default_factory=dict)
    client_cpu_s: float = 0.0
    replaced: dict[str, float] = field(default_factory=dict)
    stages_ms: dict[str, float] = field(default_factory=dict)

    def age(self, name: str = 'p50', group: str = '') -> float:
        """Return a percentile of the ages of a group's messages, of the first one's (ms)."""
        ages = self._group(group)['age_ms']
        if ages is None:
            raise LookupError(f'no message came from {self.server} ({self.size})')
        return float(ages[name])

    @property
    def source_frames(self) -> int:
        """The images that the messages were made of."""
        return max((int(group['source_frames']) for group in self.groups.values()), default=0)

    @property
    def delivered(self) -> int:
        """Messages that clients have read."""
        return sum(int(group['messages']) for group in self.groups.values())

    @property
    def message_bytes(self) -> float:
        """The mean size of a message of the first group."""
        group = self._group()
        return float(group['bytes'] / max(1, group['messages']))

    @property
    def cpu_per_source_ms(self) -> float:
        """CPU of the server for one image (ms)."""
        return 1e3 * self.cpu_s / max(1, self.source_frames)

    @property
    def cpu_per_delivered_us(self) -> float:
        """CPU of the server for one message that was read (µs)."""
        return 1e6 * self.cpu_s / max(1, self.delivered)

    @property
    def client_is_busy(self) -> bool:
        """Tell whether the load client may have been the bottleneck."""
        return self.client_cpu_s > _BUSY_CLIENT * self.seconds

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the single sockets, for the JSON file."""
        groups = {name: {key: value for key, value in group.items() if key != 'sockets'}
                  for name, group in self.groups.items()}
        return {**asdict(self), 'groups': groups, 'source_frames': self.source_frames,
                'delivered': self.delivered, 'cpu_per_source_ms': self.cpu_per_source_ms,
                'cpu_per_delivered_us': self.cpu_per_delivered_us}

    def _group(self, name: str = '') -> dict[str, Any]:
        group: dict[str, Any] = self.groups[name] if name else next(iter(self.groups.values()))
        return group


class Rig:
    """The publisher and the servers beside it; every process ends with it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """``say`` tells the person in front of it what happens."""
        self.say = say
        self.windows: list[Window] = []
        self.left_behind: list[str] = []
        self._shared_memory: set[str] = set()
        self._publisher: Child | None = None
        self._size = ''

    def __enter__(self) -> Rig:
        self._publisher = self._start('benchmarks.harness.publisher')
        self._publisher.wait_for('^ready$')
        return self

    def __exit__(self, *_: object) -> None:
        assert self._publisher is not None
        self._stop(self._publisher)
        self.left_behind = remove_shared_memory(self._shared_memory)

    # -- what runs ----------------------------------------------------------------------------

    def publish(self, topic: str, size: PictureSize) -> None:
        """Publish pictures of a size, on a topic alone."""
        assert self._publisher is not None
        self._publisher.say(json.dumps({
            'topic': topic, 'width': size.width, 'height': size.height,
            'jpeg_bytes': size.jpeg_bytes}))
        self._publisher.wait_for('^ok$')
        self._size = str(size)

    def pause(self) -> None:
        """Publish nothing."""
        assert self._publisher is not None
        self._publisher.say('{"topic": ""}')
        self._publisher.wait_for('^ok$')

    @contextmanager
    def bridge(self, *arguments: str, host: str = '127.0.0.1', topic: str = '/benchmark/bridge'
               ) -> Iterator[Server]:
        """Run a bridge as a user starts it, with these ROS arguments and without tf."""
        child = self._start(
            'camws_bridge.main', '--ros-args', '-p', 'port:=0', '-p', f'host:={host}', '-p',
            'tf.publish:=false', '-r', f'image:={topic}/image', '-r',
            f'camera_info:={topic}/camera_info', '-r', f'depth/image:={topic}/depth/image',
            *arguments)
        try:
            port = int(child.wait_for(r'listening on http://\S+:(\d+)$')[1])
            yield Server('bridge', child, port, topic, host)
        finally:
            self._stop(child)

    @contextmanager
    def receive_floor(self) -> Iterator[Server]:
        """Run floor (a)."""
        with self._module('receive floor', 'receive_floor') as server:
            yield server

    @contextmanager
    def foxglove(self) -> Iterator[Server]:
        """Run the comparison; raises PeerError when it cannot be had."""
        path = os.pathsep.join(filter(None, (os.environ.get('PYTHONPATH'), str(peer_folder()))))
        with self._module('foxglove', 'foxglove_peer', {'PYTHONPATH': path}) as server:
            yield server

    @contextmanager
    def fan_out_floor(self, frame_bytes: int) -> Iterator[Server]:
        """Run floor (b); nothing is published while it is looked at."""
        with Child([str(build('floor_server')), str(frame_bytes), str(RATE)]) as child:
            port = int(child.wait_for(r'^listening (\d+)$')[1])
            yield Server('fan-out floor', child, port, '')

    @contextmanager
    def _module(self, name: str, module: str, environment: dict[str, str] | None = None
                ) -> Iterator[Server]:
        topic = f'/benchmark/{module}'
        child = self._start(f'benchmarks.harness.{module}', f'{topic}/image',
                            environment=environment)
        try:
            port = int(child.wait_for(r'^listening (\d+)$')[1])
            yield Server(name, child, port, topic)
        finally:
            self._stop(child)

    def _start(self, module: str, *arguments: str,
               environment: dict[str, str] | None = None) -> Child:
        return Child([sys.executable, '-m', module, *arguments], environment)

    def _stop(self, child: Child) -> None:
        child.stop()
        self._shared_memory |= child.shared_memory

    # -- what is seen -------------------------------------------------------------------------

    def look(self, server: Server, size: PictureSize, groups: Sequence[Group], seconds: float,
             warmup: float, prefix: tuple[str, ...] = ()) -> Window:
        """Publish to a server alone, have clients read from it, and return what was seen."""
        if server.topic:
            self.publish(server.topic, size)
        else:
            self.pause()
        pid, cpu, metrics, rss = server.child.pid, [0.0, 0.0], {}, 0

        def on_ready() -> None:
            nonlocal metrics
            metrics = server.metrics()

        def on_start() -> None:
            cpu[0] = cpu_seconds(pid)

        def on_end() -> None:
            nonlocal rss
            cpu[1], rss = cpu_seconds(pid), rss_bytes(pid)

        load = Load(groups, warmup, seconds, prefix)
        try:
            report = run_load(server.host, server.port, load, on_ready, on_start, on_end)
        except ChildError as error:
            raise ChildError(f'{error}; {server.name} said: {server.child.last_words()}'
                             ) from None
        window = Window(server.name, str(size), sum(group.count for group in groups),
                        report['seconds'], cpu[1] - cpu[0], rss / 1e6, report['groups'],
                        report['client_cpu_s'])
        window.replaced, window.stages_ms = _differences(metrics, server.metrics())
        self.windows.append(window)
        if window.client_is_busy:
            self.say(f'  the load client used {window.client_cpu_s / window.seconds:.0%} of a '
                     'core: its figures are an upper bound')
        return window

    def look_without_clients(self, server: Server, size: PictureSize, seconds: float) -> Window:
        """Return what a server does by itself; floor (a) reports its ages at the encode's end."""
        self.publish(server.topic, size)
        floor = server.name == 'receive floor'
        if floor:
            time.sleep(0.5)
            server.child.say('reset')
            server.child.wait_for('^reset$')
        before, begun = cpu_seconds(server.child.pid), time.monotonic()
        time.sleep(seconds)
        cpu, seconds = cpu_seconds(server.child.pid) - before, time.monotonic() - begun
        window = Window(server.name, str(size), 0, seconds, cpu,
                        rss_bytes(server.child.pid) / 1e6)
        if floor:
            server.child.say('report')
            seen = json.loads(server.child.wait_for(r'^(\{.*\})$')[1])
            window.groups = {'encoded': {'age_ms': seen['age_ms'], 'messages': seen['frames'],
                                         'bytes': 0, 'source_frames': seen['frames']}}
        self.windows.append(window)
        return window


def _differences(before: dict[str, float], after: dict[str, float]
                 ) -> tuple[dict[str, float], dict[str, float]]:
    """Return messages replaced by where, and the mean time of each stage (ms)."""
    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    replaced = {name.partition('{')[2].rstrip('}'): grown(name) for name in after
                if name.startswith('camws_messages_replaced_total') and grown(name)}
    stages = {}
    for name in after:
        if name.startswith(('camws_stage_seconds_count', 'camws_image_age_seconds_count')):
            total = name.replace('_count', '_sum')
            stage = name.partition('"')[2].rstrip('"}') or 'age on arrival'
            if grown(name):
                stages[stage] = 1e3 * grown(total) / grown(name)
    return replaced, stages


def demo_arguments() -> tuple[str, ...]:
    """Return the ROS arguments with which every stream of the demo's scene is there."""
    return '--params-file', str(ROOT / 'config/demo.yaml')
