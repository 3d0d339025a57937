"""Faults around the process: no descriptors, no disk, no patience."""
from __future__ import annotations

import os
from pathlib import Path
import resource
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is built by scripts/setup')

from faults.robot import InjectedBridge
from processes import http_get, ROOT, wait_until
from websockets.exceptions import ConnectionClosed

TICKS = os.sysconf('SC_CLK_TCK')


def cpu_seconds(pid: int) -> float:
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def limit_descriptors(pid: int, count: int) -> tuple[int, int]:
    """Set how many descriptors a process may have; return the limits it had."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, before[1]))
    return before


def test_no_descriptors_left(robot: Any) -> None:
    pid, port = robot.bridge.pid, robot.bridge.port
    others: list[socket.socket] = []
    with robot.watching('color') as viewer:
        viewer.next()
        failures = robot.bridge.count('camws_refused_total', reason='no_descriptors')
        used = len(os.listdir(f'/proc/{pid}/fd'))
        before = limit_descriptors(pid, used + 3)
        try:
            for _ in range(8):
                others.append(socket.create_connection(('127.0.0.1', port), timeout=5))
            # Who is there is served on, and the loop does not run wild.
            started, spent = time.monotonic(), cpu_seconds(pid)
            for _ in range(40):
                viewer.next()
            share = (cpu_seconds(pid) - spent) / (time.monotonic() - started)
            # With a logged exception for every turn of the loop it is 1.
            assert share < 0.7
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            for other in others:
                other.close()
        wait_until(lambda: http_get(f'{robot.bridge.url}/livez')[0] == 200, 5.0, 'served again')
        assert robot.bridge.count('camws_refused_total', reason='no_descriptors') > failures
        with robot.watching('color') as newcomer:
            newcomer.next()
        viewer.next()
    lines = [line for line in robot.new_lines if 'no connection can be accepted' in line]
    assert 1 <= len(lines) <= 12


def test_a_product_that_takes_seconds_leaves_the_others_their_turn(robot: Any) -> None:
    with robot.watching('color', 'aruco_debug', 'markers') as (color, slow, markers):
        for viewer in (color, slow, markers):
            viewer.next()
        spent = robot.bridge.count('camws_stage_seconds_sum', stage='aruco_debug')
        robot.bridge.inject('camws_bridge.vision.image_ops:drawable', 'sleep:1')
        try:
            first, started = color.next()['seq'], time.monotonic()
            count = 0
            while time.monotonic() - started < 4.0:
                color.next()
                count += 1
        finally:
            robot.bridge.inject('camws_bridge.vision.image_ops:drawable', 'none')
        assert robot.bridge.count('camws_stage_seconds_sum', stage='aruco_debug') > spent + 2
        assert slow.next()['seq'] >= first
        # 25 images a second come; one picture for each slow one would be four.
        assert count > 20
        markers.next()


def test_a_signal_during_a_broadcast_ends_it_cleanly(sides: Any) -> None:
    from faults.robot import FaultyRobot
    robot = FaultyRobot('-r', '__ns:=/broadcast')
    with robot.watching(*['color?quality=100', 'aruco_debug', 'markers'] * 6) as viewers:
        for viewer in viewers:
            viewer.next()
        robot.bridge.signal(signal.SIGTERM)
        codes = [close_code(viewer) for viewer in viewers]
    assert robot.bridge.wait() == 0
    robot.close()
    assert set(codes) == {1001}
    assert 'Traceback' not in robot.bridge.output


def test_impatient_signals_end_it_cleanly() -> None:
    bridges = [InjectedBridge('-r', '__ns:=/impatient') for _ in range(2)]
    for bridge, number in zip(bridges, (signal.SIGINT, signal.SIGTERM)):
        bridge.wait_until_listening()
        while bridge._process.poll() is None:
            bridge.signal(number)
            time.sleep(0.01)
        assert bridge.wait() == 0
        assert 'Traceback' not in bridge.output


def close_code(viewer: Any) -> int:
    try:
        while True:
            viewer.next()
    except ConnectionClosed as closed:
        assert closed.rcvd is not None
        return closed.rcvd.code


# -- the disk is full under the log -----------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Any:
    """Return a folder on a file system of 16 KB, and full."""
    folder = tmp_path / 'log'
    folder.mkdir()
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', str(folder)], capture_output=True,
        text=True)
    if mounted.returncode:
        pytest.skip(f'cannot mount a tmpfs here: {mounted.stderr.strip()}')
    yield folder
    subprocess.run(['umount', '-l', str(folder)], check=True)


def fill(folder: Path) -> None:
    with pytest.raises(OSError, match='No space left'), \
            (folder / 'filler').open('wb', buffering=0) as file:
        while True:
            file.write(b'x' * 512)


def start_with_full_log(environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], str]:
    """Start a bridge whose output goes nowhere: the disk is full, too."""
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    with Path('/dev/full').open('wb') as full:
        process = subprocess.Popen(
            [sys.executable, '-m', 'camws_bridge.main', '--ros-args', '-p', f'port:={port}',
             '-r', '__ns:=/full', '--log-level', 'debug'],
            cwd=ROOT, stdout=full, stderr=full, env={**os.environ, **environment})
    return process, f'http://127.0.0.1:{port}'


def answers(url: str) -> bool:
    try:
        return http_get(f'{url}/readyz')[0] == 200
    except OSError:
        return False


def check_full(environment: dict[str, str], fill_up: Any) -> None:
    process, url = start_with_full_log(environment)
    try:
        wait_until(lambda: answers(url), 20.0, 'it serves')
        fill_up()
        # Every request is a line in the log.
        for _ in range(300):
            assert answers(url)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_standard_output_is_full() -> None:
    check_full({}, lambda: None)


def test_the_disk_is_full_under_the_log_from_the_start(tiny_disk: Path) -> None:
    fill(tiny_disk)
    check_full({'ROS_LOG_DIR': str(tiny_disk)}, lambda: None)


def test_the_disk_fills_up_under_the_log(tiny_disk: Path) -> None:
    check_full({'ROS_LOG_DIR': str(tiny_disk)}, lambda: fill(tiny_disk))
