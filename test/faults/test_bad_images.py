"""Images no driver should send, sizes few drivers have, and markers that are no markers."""
from __future__ import annotations

import array
from collections.abc import Callable
import time
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is built by scripts/setup')

from faults.robot import picture
from ros_side import header, image_message
from web_bridge import HEIGHT, scene, WIDTH

from camws_bridge.vision.detection import get_dictionary

GRAY = np.full((6, 8), 90, np.uint8)
HUGE = 2 ** 31


def malformed(**changes: Any) -> Any:
    message = image_message(GRAY, 'mono8', header(100))
    for name, value in changes.items():
        setattr(message, name, value)
    return message


MALFORMED = {
    'no data': (malformed(data=array.array('B')), 'short_data'),
    'half the data': (malformed(data=array.array('B', bytes(24))), 'short_data'),
    'no size': (malformed(width=0, height=0), 'zero_size'),
    'a step of nothing': (malformed(step=0), 'short_step'),
    'a step below the width': (malformed(step=7), 'short_step'),
    'larger than memory': (malformed(width=HUGE, height=HUGE), 'short_step'),
    'a height beyond the data': (malformed(height=HUGE), 'short_data'),
    'an unknown encoding': (malformed(encoding='bgr9'), 'unknown_encoding'),
    'no encoding': (malformed(encoding=''), 'unknown_encoding'),
    'another depth than the data has': (malformed(encoding='64FC4'), None),
    'too odd for yuv': (image_message(np.zeros((3, 5, 2), np.uint8), 'yuv422', header(100)), None),
}


def send_until(robot: Any, message: Any, condition: Callable[[], bool]) -> None:
    """Send a message, again while the next image replaces it before the bridge takes it."""
    for _ in range(10):
        robot.camera.send(message)
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.02)
    raise AssertionError('it was never dropped')


@pytest.mark.parametrize('name', MALFORMED)
def test_it_is_dropped_and_counted_and_the_next_goes_through(robot: Any, name: str) -> None:
    message, reason = MALFORMED[name]
    before = robot.bridge.total('camws_images_dropped_total')
    of_kind = robot.bridge.count('camws_images_dropped_total', reason=str(reason))
    with robot.watching('color', 'markers') as (color, markers):
        color.next()
        send_until(robot, message, lambda: robot.bridge.total(
            'camws_images_dropped_total') > before)
        for _ in range(3):
            assert color.next()['width'] == markers.next()['width'] == WIDTH
    if reason is not None:
        assert robot.bridge.count('camws_images_dropped_total', reason=reason) > of_kind
    assert robot.bridge.health()[:2] == (200, 'ok')


@pytest.mark.parametrize(('size', 'encoding'), [
    ((1, 1), 'bgr8'), ((1, 1), 'mono8'), ((1, 640), 'mono8'), ((480, 1), 'bgr8')])
def test_images_of_hardly_any_pixel(robot: Any, size: tuple[int, int], encoding: str) -> None:
    before = robot.bridge.total('camws_processing_errors_total')
    height, width = size
    robot.other_camera(picture=picture(height, width, (3,) if encoding == 'bgr8' else ()),
                       encoding=encoding, info=None)
    with robot.watching('color', 'color?width=1', 'aruco_debug', 'markers') as viewers:
        for viewer in viewers[:1] + viewers[2:]:
            viewer.wait_for(lambda found: (found['height'], found['width']) == size,
                            'such pictures')
        assert viewers[1].wait_for(lambda found: found['width'] == 1, 'a narrow one')
    assert robot.bridge.total('camws_processing_errors_total') == before


def test_8k_images(robot: Any) -> None:
    small = robot.camera.picture
    robot.camera.info = None
    with robot.watching('color?fps=4', 'color?width=640', 'markers?fps=1') as viewers:
        robot.camera.encoding = 'mono8'
        robot.camera.picture = np.tile(np.arange(256, dtype=np.uint8), (4320, 30))
        shapes = [viewer.wait_for(lambda found, width=width: found['width'] == width, 'that size')
                  for viewer, width in zip(viewers, (7680, 640, 7680))]
        assert [found['height'] for found in shapes] == [4320, 360, 4320]
        robot.camera.encoding, robot.camera.picture = 'bgr8', small
        viewers[0].wait_for(lambda found: found['width'] == WIDTH, 'small ones again')


# -- markers ----------------------------------------------------------------------------------


def marker(marker_id: int, side: int = 56) -> Any:
    image = cv2.aruco.generateImageMarker(get_dictionary('DICT_5X5_100'), marker_id, side)
    return np.repeat(image[..., None], 3, axis=2)


def placed(*places: tuple[int, int, int]) -> Any:
    """Return a light picture with markers (id, top, left); what lies outside is cut off."""
    image = np.full((HEIGHT + 200, WIDTH + 200, 3), 200, np.uint8)
    for marker_id, top, left in places:
        image[top + 100:top + 156, left + 100:left + 156] = marker(marker_id)
    return np.ascontiguousarray(image[100:-100, 100:-100])


CASES: dict[str, tuple[Any, list[int]]] = {
    'at_the_edge': (placed((40, 100, -28), (41, 90, WIDTH - 20), (42, 100, 150)), [42]),
    'mirrored': (placed((42, 100, 150))[:, ::-1].copy(), []),
    'two_of_one_id': (placed((42, 40, 60), (42, 150, 200), (43, 40, 220)), [42, 42, 43]),
}
hidden = placed((42, 100, 150), (43, 40, 20))
hidden[120:240, 130:220] = 120          # something before the lower part of marker 42
CASES['behind_another'] = (hidden, [43])


@pytest.mark.parametrize('case', CASES)
def test_markers_that_are_hard_to_see(robot: Any, case: str) -> None:
    image, ids = CASES[case]
    with robot.watching('markers', 'transforms_camera', 'color') as (markers, poses, color):
        before = markers.next()['seq']
        robot.camera.picture = image
        seen = markers.wait_for(lambda found: found['seq'] > before + 5, 'such markers')
        assert sorted(found['id'] for found in seen['markers']) == ids
        solved = poses.wait_for(lambda found: found['seq'] >= seen['seq'], 'poses')
        # Which of two equal ids is the right one cannot be known.
        single = [marker_id for marker_id in ids if ids.count(marker_id) == 1]
        assert sorted(found['id'] for found in solved['transforms']
                      if found['kind'] == 'marker') == single
        color.next()
        robot.camera.picture = scene()
        markers.wait_for(lambda found: len(found['markers']) > 3, 'the scene again')
