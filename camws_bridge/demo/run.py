"""
The demo's supervisor: the camera and the bridge as child processes, until told to stop.

With ``--check N`` it runs ``camws_bridge.demo.check`` against them and ends with its exit code.
Children never outlive it: they are asked to stop when it stops, killed when they do not, and the
kernel ends them should the supervisor itself be killed.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import ctypes
from dataclasses import dataclass
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time

from camws_bridge.share import share_path

_LISTENING = re.compile(r'listening on (https?://\S+)\s*$')
# The first start on a busy machine is slow; this is only for a hang.
_START_TIMEOUT = 60.0
# The bridge promises 2 s.
_STOP_TIMEOUT = 5.0
# Exit codes of a child that stopped when told to, the second before it had its handlers.
_STOPPED = (0, -signal.SIGTERM)
_PR_SET_PDEATHSIG = 1
# The namespace that the camera's topics are below.
_CAMERA = '/demo_camera'


class DemoError(Exception):
    """Ends the demo with exit code 1; the text is the reason."""


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    port: int
    host: str | None
    source: str | None
    check: int | None
    bridge_arguments: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A child printed this."""

    child: Child
    text: str


@dataclass(frozen=True)
class Ended:
    """A child closed its output: it has ended, or is about to."""

    child: Child


@dataclass(frozen=True)
class Stop:
    """The supervisor received this signal."""

    signum: int


# SimpleQueue.put is safe in a signal handler.
Events = queue.SimpleQueue['Line | Ended | Stop']


class Child:
    """One child process in a session of its own, so that Ctrl-C reaches it only through us."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        """Start ``command``."""
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors='replace', start_new_session=True, preexec_fn=_end_with_parent(),
            env={**os.environ, 'PYTHONUNBUFFERED': '1'})

    def report_to(self, events: Events) -> None:
        """Start to read the child's output; not before all children are forked."""
        threading.Thread(
            target=self._read, args=(events,), name=f'{self.name}-output', daemon=True).start()

    def _read(self, events: Events) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            events.put(Line(self, line.rstrip('\n')))
        events.put(Ended(self))

    def signal(self, signum: int) -> None:
        """Send a signal; to a child that has ended it does nothing."""
        self.process.send_signal(signum)

    def wait(self, timeout: float) -> int | None:
        """Return the exit code, or ``None`` when it still runs after ``timeout`` seconds."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None


def _end_with_parent() -> Callable[[], None]:
    """Return what to run in a forked child so that the kernel ends it with its parent."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl     # loaded before the fork
    parent = os.getpid()

    def run() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:                      # it was gone before the call
            os.kill(os.getpid(), signal.SIGTERM)

    return run


class Demo:
    """The two nodes and, when checking, the checker."""

    def __init__(self, options: Options) -> None:
        """Prepare; nothing runs yet."""
        self._options = options
        self._events: Events = queue.SimpleQueue()
        self._children: list[Child] = []
        self._stopped_by: int | None = None

    def run(self) -> int:
        """Run until stopped or checked; return the exit code."""
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, lambda number, _: self._events.put(Stop(number)))
        code = 0
        try:
            camera = self._start('camera', camera_command(self._options))
            bridge = self._start('bridge', bridge_command(self._options))
            for child in (camera, bridge):
                child.report_to(self._events)
            url = self._wait_for_address(bridge)
            if url is not None:
                code = self._check(url) if self._options.check else self._show(url)
        except DemoError as error:
            _complain(str(error))
            code = 1
        finally:
            clean = self._stop_children()
        return code if clean else code or 1

    def _start(self, name: str, command: Sequence[str]) -> Child:
        child = Child(name, command)
        self._children.append(child)
        return child

    def _next_event(self, deadline: float, complaint: str) -> Line | Ended | Stop:
        try:
            return self._events.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise DemoError(f'{complaint}: gave up waiting') from None

    def _wait_for_address(self, bridge: Child) -> str | None:
        """Return the bridge's address, or ``None`` when told to stop before it is known."""
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            event = self._next_event(deadline, 'the bridge does not listen')
            if self._handle(event):
                return None
            if isinstance(event, Line) and event.child is bridge:
                if match := _LISTENING.search(event.text):
                    return match[1].replace('//0.0.0.0', '//127.0.0.1').replace('[::]', '[::1]')

    def _show(self, url: str) -> int:
        print(f'\n    Dashboard: {url}/\n    Ctrl-C ends the demo.\n', flush=True)
        while not self._handle(self._events.get()):
            pass
        return 0

    def _check(self, url: str) -> int:
        frames = self._options.check or 0
        checker = self._start('check', [
            sys.executable, '-m', 'camws_bridge.demo.check',
            '--url', url, '--frames', str(frames)])
        checker.report_to(self._events)
        # One frame a second is far below what any machine does.
        deadline = time.monotonic() + _START_TIMEOUT + frames
        while True:
            event = self._next_event(deadline, 'the check does not end')
            if isinstance(event, Ended) and event.child is checker:
                self._children.remove(checker)
                return 0 if checker.process.wait() == 0 else 1
            if self._handle(event):
                return 128 + (self._stopped_by or 0)    # stopped before there was a result

    def _handle(self, event: Line | Ended | Stop) -> bool:
        """Print a line; raise when a child has ended; return True when told to stop."""
        if isinstance(event, Line):
            print(event.text, flush=True)
        elif isinstance(event, Ended):
            self._children.remove(event.child)
            raise DemoError(f'the {event.child.name} {_describe(event.child.process.wait())}')
        elif isinstance(event, Stop):
            self._stopped_by = event.signum
            return True
        return False

    def _stop_children(self) -> bool:
        """End every child, print what they still say; return whether all ended by themselves."""
        clean = True
        for child in reversed(self._children):
            # Not SIGINT: a child still importing would answer with a traceback.
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT
        for child in self._children:
            code = child.wait(max(0.0, deadline - time.monotonic()))
            if code is None:
                child.process.kill()
                child.process.wait()
                _complain(f'the {child.name} did not stop within {_STOP_TIMEOUT:.0f} s, killed it')
            elif code not in _STOPPED:
                _complain(f'when told to stop the {child.name} {_describe(code)}')
            clean = clean and code in _STOPPED
        while not self._events.empty():
            event = self._events.get()
            if isinstance(event, Line):
                print(event.text, flush=True)
        return clean


def _complain(text: str) -> None:
    print(f'demo: {text}', file=sys.stderr, flush=True)


def _describe(code: int) -> str:
    if code < 0:
        return f'was ended by {signal.Signals(-code).name}'
    return f'ended with exit code {code}'


def camera_command(options: Options) -> list[str]:
    """Return the command of the demo camera, its topics below /demo_camera."""
    command = [
        sys.executable, '-m', 'camws_bridge.demo.demo_camera', '--ros-args',
        '-r', f'__ns:={_CAMERA}', '-r', f'~/truth:={_CAMERA}/truth']
    if options.source is not None:
        # Quoted: a webcam's index is a string, too.
        command += ['-p', f'source:="{options.source}"']
    return command


def bridge_command(options: Options) -> list[str]:
    """Return the command of the bridge, subscribed to the demo camera."""
    topics = {'image': 'image_raw', 'camera_info': 'camera_info', 'depth/image': 'depth/image_raw'}
    command = [
        sys.executable, '-m', 'camws_bridge.main', '--ros-args',
        '--params-file', str(share_path('config/demo.yaml')), '-p', f'port:={options.port}']
    if options.host is not None:
        command += ['-p', f'host:={options.host}']
    for name, topic in topics.items():
        command += ['-r', f'{name}:={_CAMERA}/{topic}']
    return [*command, *options.bridge_arguments]


def parse_options(arguments: Sequence[str]) -> Options:
    """Parse the command line; what follows ``--`` belongs to the bridge."""
    arguments = list(arguments)
    rest: list[str] = []
    if '--' in arguments:
        at = arguments.index('--')
        arguments, rest = arguments[:at], arguments[at + 1:]
    parser = argparse.ArgumentParser(
        prog='scripts/demo', description='The demo camera and the bridge, until Ctrl-C.')
    parser.add_argument('--port', type=_number(0, 65535), metavar='N',
                        help='of the dashboard; 0 = any free one (default 8080, checking 0)')
    parser.add_argument('--host', help='listen on this address (default 127.0.0.1)')
    parser.add_argument('--source', help='a video file or the index of a webcam to play')
    parser.add_argument('--check', type=_number(1, 1_000_000), metavar='N',
                        help='compare N frames with the truth, print a summary and exit')
    found = parser.parse_args(arguments)
    if found.check and found.source:
        parser.error('--check needs the rendered scene: leave out --source')
    port = found.port if found.port is not None else 0 if found.check else 8080
    return Options(port, found.host, found.source, found.check, tuple(rest))


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f'{text!r} is not a number from {low} to {high}')
        return int(text)
    return parse


def main() -> None:
    """Run the demo as the command line says."""
    options = parse_options(sys.argv[1:])
    sys.exit(Demo(options).run())


if __name__ == '__main__':
    main()
