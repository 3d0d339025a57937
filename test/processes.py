"""The real thing in processes of its own: the bridge and the demo camera over real DDS."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
import os
from pathlib import Path
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from typing import Any
import urllib.error
import urllib.request

ROOT = Path(__file__).parents[1]
CAMERA_TOPICS = ('-r', 'image:=/demo_camera/image_raw', '-r',
                 'camera_info:=/demo_camera/camera_info', '-r',
                 'depth/image:=/demo_camera/depth/image_raw')
DEMO = ('--params-file', str(ROOT / 'config/demo.yaml'), *CAMERA_TOPICS)
_LISTENING = re.compile(r'listening on (https?://\S+)$')


class Process:
    """A Python module run as a process; what it prints is collected."""

    def __init__(self, module: str, *arguments: str,
                 environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, '-m', module, *arguments], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})})
        self.lines: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
            self._new.put(line.rstrip())
        self._process.stdout.close()

    def wait_for_line(self, pattern: re.Pattern[str], timeout: float = 30.0) -> re.Match[str]:
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._new.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f'no line {pattern.pattern!r} in:\n{self.output}') from None
            match = pattern.search(line)
            if match:
                return match

    @property
    def output(self) -> str:
        return '\n'.join(self.lines)

    @property
    def own_lines(self) -> list[str]:
        """Without Fast DDS's own: it complains when a frozen process holds one of its locks."""
        return [line for line in self.lines if 'RTPS_' not in line]

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float = 20.0) -> int:
        try:
            code = self._process.wait(timeout)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._reader.join()
        return code

    def stop(self) -> int:
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()


class BridgeProcess(Process):
    """A bridge; ``url`` is known once it listens."""

    def __init__(self, *ros_arguments: str, port: int = 0,
                 environment: Mapping[str, str] | None = None) -> None:
        super().__init__('camws_bridge.main', '--ros-args', '-p', f'port:={port}', *ros_arguments,
                         environment=environment)
        self.url = ''

    def wait_until_listening(self) -> BridgeProcess:
        self.url = self.wait_for_line(_LISTENING)[1]
        return self

    @property
    def port(self) -> int:
        return int(self.url.rpartition(':')[2])

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        return http_get(self.url + path)

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path)[2])

    def wait_until_images_arrive(self) -> BridgeProcess:
        # Asking for one is what makes the bridge look at the camera.
        wait_until(lambda: self.get('/api/v1/images/color.jpg')[0] == 200, 20.0, 'images arrive')
        return self


class DemoBridge:
    """The demo as a user runs it: camera and bridge, which can be restarted on its port."""

    def __init__(self, extra: Sequence[str] = ()) -> None:
        self._extra = tuple(extra)
        self.camera = start_camera()
        self.bridge = BridgeProcess(*DEMO, *self._extra).wait_until_listening()
        self.url = self.bridge.url
        self.bridge.wait_until_images_arrive()

    def restart(self) -> None:
        self.bridge.stop()
        self.bridge = BridgeProcess(*DEMO, *self._extra, port=self.port).wait_until_listening()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(':')[2])

    def stop(self) -> None:
        self.bridge.stop()
        self.camera.stop()


def start_camera(*ros_arguments: str) -> Process:
    return Process('camws_bridge.demo.demo_camera', '--ros-args', '-r', '__ns:=/demo_camera',
                   '-r', '~/truth:=/demo_camera/truth', *ros_arguments)


def http_get(url: str, headers: dict[str, str] | None = None
             ) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, dict(response.headers), response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def wait_until(condition: Any, timeout: float, what: str) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f'not within {timeout} s: {what}'
        time.sleep(0.02)
