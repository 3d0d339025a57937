from __future__ import annotations

from collections.abc import Callable, Iterator
import os
from pathlib import Path
import signal
import subprocess
import sys
import warnings

import pytest

with warnings.catch_warnings():
    # The message packages import a parser (lark) that uses a deprecated module of Python.
    warnings.simplefilter('ignore', DeprecationWarning)
    import rosidl_generator_py  # noqa: F401

from camws_bridge.demo.scene import Scene
from camws_bridge.vision.board_files import BoardDefaults, read_board
from camws_bridge.vision.boards import Board

ROOT = Path(__file__).resolve().parents[2]
DEMO_BOARD = ROOT / 'config' / 'boards' / 'demo_board.yaml'

Start = Callable[..., 'subprocess.Popen[str]']


@pytest.fixture(scope='session')
def board() -> Board:
    return read_board(str(DEMO_BOARD), BoardDefaults('DICT_5X5_100'))


@pytest.fixture(scope='session')
def scene(board: Board) -> Scene:
    return Scene(board)


@pytest.fixture
def ros_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep this test's DDS traffic on this machine and apart from everybody else's."""
    monkeypatch.setenv('ROS_DOMAIN_ID', os.environ.get('ROS_DOMAIN_ID', str(1 + os.getpid() % 99)))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'roslog'))
    # The large images need it in the publisher's process.
    monkeypatch.setenv('FASTDDS_DEFAULT_PROFILES_FILE',
                       str(ROOT / 'config' / 'fastdds_large_images.xml'))


@pytest.fixture
def start_camera(ros_environment: None) -> Iterator[Start]:
    """Start demo cameras with ``name:=value`` parameters; whatever still runs is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(*parameters: str, ros_arguments: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [sys.executable, '-m', 'camws_bridge.demo.demo_camera', '--ros-args',
                   *(word for parameter in parameters for word in ('-p', parameter)),
                   *ros_arguments]
        started.append(subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
