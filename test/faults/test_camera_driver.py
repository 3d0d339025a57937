"""Faults of the camera driver: it dies, returns as another, turns back its clock, has a twin."""
from __future__ import annotations

import re
import signal
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is built by scripts/setup')

from faults.robot import BESIDE_THE_TESTS, Camera, InjectedBridge
from processes import Process, wait_until
from ros_side import BEST_EFFORT, header, LATCHED
from rosgraph_msgs.msg import Clock
from web_bridge import HEIGHT, scene, WIDTH

GRAY = np.tile(np.arange(160, dtype=np.uint8), (120, 1))


def test_the_camera_dies_and_returns_as_another(robot: Any) -> None:
    with robot.watching('color', 'markers') as (color, markers):
        before = color.next()
        robot.camera.die()
        message = robot.bridge.wait_for_health(503, 'stale')
        assert 'has no publisher' in message
        color.wait_for_code('stale')
        # Another resolution, encoding and frame.
        robot.other_camera(picture=GRAY, encoding='mono8', frame_id='other_optical', info=None)
        after = color.wait_for(lambda found: found['width'] == 160, 'the other camera')
        assert (after['height'], after['frame_id']) == (120, 'other_optical')
        assert after['seq'] > before['seq']
        assert markers.wait_for(lambda found: found['width'] == 160, 'markers')['markers'] == []
        color.wait_for_code('ok')
    assert robot.bridge.wait_for_health(200, 'ok')


def test_a_driver_that_is_killed_and_started_again(robot: Any) -> None:
    robot.camera.die()

    def start(width: int) -> Process:
        driver = Process('faults.publisher', '/faults/image', str(width), '100', 'best_effort',
                         f'frame_{width}', environment=BESIDE_THE_TESTS)
        driver.wait_for_line(re.compile('publishing'))
        return driver

    first = start(200)
    with robot.watching('color') as viewer:
        try:
            viewer.wait_for(lambda found: found['width'] == 200, 'the first')
        finally:
            first.signal(signal.SIGKILL)
            first.wait()
        robot.bridge.wait_for_health(503, 'stale')
        second = start(240)
        try:
            found = viewer.wait_for(lambda found: found['width'] == 240, 'the second')
            assert found['frame_id'] == 'frame_240'
        finally:
            second.stop()


def test_stamps_jump_backwards(robot: Any) -> None:
    with robot.watching('color', 'transforms_board', 'depth') as (color, poses, depth):
        robot.camera.depth = np.full((HEIGHT, WIDTH), 900, np.uint16)
        before = color.next()
        depth.next()
        robot.camera.stamp_offset = -1000.0
        after = color.wait_for(
            lambda found: found['stamp']['sec'] < before['stamp']['sec'] - 900, 'old stamps')
        assert after['seq'] > before['seq']
        for viewer, stamp_of in ((poses, lambda found: found['header']['stamp']),
                                 (depth, lambda found: found['stamp'])):
            viewer.wait_for(lambda found, stamp_of=stamp_of: stamp_of(found)['sec']
                            <= after['stamp']['sec'] + 60, 'old stamps')
        robot.camera.stamp_offset = 0.0
        for viewer in (color, depth):
            viewer.wait_for(lambda found: found['stamp']['sec'] >= before['stamp']['sec'],
                            'the present')
    assert robot.bridge.health()[:2] == (200, 'ok')


def test_two_publishers_on_one_topic(robot: Any) -> None:
    robot.bridge.inject('camws_bridge.ros.camera_node:_LEASE', 'value:0.5')
    twin = Camera(robot.node, frame_id='twin', picture=GRAY, encoding='mono8', info=None)
    try:
        with robot.watching('color') as viewer:
            for frame_id in ('twin', 'camera_optical', 'twin', 'camera_optical'):
                viewer.wait_for(lambda found, frame_id=frame_id: found['frame_id'] == frame_id,
                                f'a picture of {frame_id}')
        wait_until(lambda: re.search(r'\d publishers on /faults/image: their images',
                                     robot.bridge.output), 5.0, 'the log says so')
    finally:
        twin.die()


@pytest.mark.parametrize('qos', [BEST_EFFORT, LATCHED], ids=['best_effort', 'latched'])
def test_a_publisher_with_other_qos_appears(robot: Any, qos: Any) -> None:
    with robot.watching('color') as viewer:
        viewer.next()
        other = Camera(robot.node, qos, frame_id='other', picture=GRAY, encoding='mono8',
                       info=None)
        try:
            viewer.wait_for(lambda found: found['frame_id'] == 'other', 'a picture of the other')
            viewer.wait_for(lambda found: found['frame_id'] != 'other', 'one of the first')
        finally:
            other.die()
        # Only the first is left: it is still received.
        for _ in range(5):
            viewer.next()


def test_a_clock_that_stands_stops_nothing(robot: Any) -> None:
    bridge = InjectedBridge(
        '-p', 'use_sim_time:=true', '-r', '__ns:=/paused', '-r', 'image:=/faults/image',
        '-r', 'camera_info:=/faults/camera_info', '-r', '/clock:=/faults/clock')
    try:
        bridge.wait_until_listening()
        clock = robot.node.create_publisher(Clock, '/faults/clock', 10)
        for sec in (50, 51):
            clock.publish(Clock(clock=header(sec).stamp))
        # From here on it stands. The bridge still finds the camera, serves and reports.
        bridge.wait_until_images_arrive()
        assert bridge.health()[:2] == (200, 'ok')
        robot.camera.die()
        bridge.wait_for_health(503, 'stale')
        robot.other_camera()
        bridge.wait_for_health(200, 'ok')
        robot.node.destroy_publisher(clock)
    finally:
        assert bridge.stop() == 0
    assert 'Traceback' not in bridge.output


def test_images_that_dds_loses_are_reported_with_the_remedy(robot: Any) -> None:
    robot.camera.die()
    # Inject a fault by a driver without the profile: its large best-effort images are lost.
    driver = Process('faults.publisher', '/faults/image', '3840', '2160', 'best_effort', 'lost',
                     environment={**BESIDE_THE_TESTS, 'FASTDDS_DEFAULT_PROFILES_FILE': ''})
    try:
        driver.wait_for_line(re.compile('publishing'))
        with robot.watching('color') as viewer:
            wait_until(lambda: 'FASTDDS_DEFAULT_PROFILES_FILE' in robot.bridge.health()[2], 8.0,
                       'healthz says what to do')
            viewer.wait_for_code('stale')
        wait_until(lambda: any('FASTDDS_DEFAULT_PROFILES_FILE' in line
                               for line in robot.new_lines), 5.0, 'the log says so, too')
    finally:
        driver.stop()


def test_scene_is_seen(robot: Any) -> None:
    """The picture of these tests shows the board: what they say of poses means something."""
    assert scene().shape == (HEIGHT, WIDTH, 3)
    with robot.watching('transforms_board') as viewer:
        assert viewer.next()['board']['visible']
