"""Depth stops while colour goes on, comes back, and comes broken."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is built by scripts/setup')

from processes import wait_until
from web_bridge import HEIGHT, WIDTH

DEPTH = np.full((HEIGHT, WIDTH), 1200, np.uint16)


def test_depth_stops_while_colour_goes_on(robot: Any) -> None:
    robot.camera.depth = DEPTH
    with robot.watching('color', 'depth_raw') as (color, depth):
        depth.next()
        robot.camera.depth = None
        depth.wait_for_code('no_depth')
        before = color.next()['seq']
        color.wait_for(lambda found: found['seq'] > before + 5, 'colour goes on')
        robot.camera.depth = DEPTH
        depth.codes.clear()
        depth.next()
        depth.wait_for_code('ok')


def test_depth_with_half_the_bytes_is_dropped_and_counted(robot: Any) -> None:
    before = robot.bridge.total('camws_images_dropped_total')
    with robot.watching('color', 'depth') as (color, depth):
        robot.camera.depth = np.zeros((HEIGHT, WIDTH), np.uint8)      # sent as 16UC1
        wait_until(lambda: robot.bridge.total('camws_images_dropped_total') > before, 5.0,
                   'dropped')
        for _ in range(3):
            color.next()
        robot.camera.depth = DEPTH
        depth.next()


@pytest.mark.parametrize('size', [(1, 1), (60, 80), (HEIGHT * 2, WIDTH * 2)])
def test_depth_of_another_size_than_colour(robot: Any, size: tuple[int, int]) -> None:
    robot.camera.depth = np.full(size, 900, np.uint16)
    before = robot.bridge.total('camws_processing_errors_total')
    with robot.watching('depth', 'depth_raw', 'color') as viewers:
        for viewer in viewers:
            viewer.next()
        assert viewers[1].next()['width'] == size[1]
    assert robot.bridge.total('camws_processing_errors_total') == before
