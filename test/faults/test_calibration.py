"""Faults of the calibration: it changes, goes bad and comes back."""
from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is built by scripts/setup')

from processes import wait_until
from ros_side import camera_info
from web_bridge import HEIGHT, WIDTH


def good(focal: float = 300.0, **changes: Any) -> Any:
    return camera_info(WIDTH, HEIGHT, focal, p_focal=focal, **{'d': [0.0] * 5, **changes})


def distance(found: dict[str, Any]) -> float:
    """Return how far the camera is above the board, in metres."""
    camera, = (item for item in found['transforms'] if item['kind'] == 'camera')
    return float(camera['transform']['translation']['z'])


def test_the_calibration_is_changed_and_poses_follow(robot: Any) -> None:
    with robot.watching('transforms_board', 'rectified') as (poses, rectified):
        first = distance(poses.wait_for(lambda found: found['transforms'], 'poses'))
        robot.camera.info = good(600.0)
        poses.wait_for(lambda found: found['transforms']
                       and distance(found) == pytest.approx(2 * first, rel=0.02),
                       'twice the focal length, twice the distance')
        robot.camera.info = good(300.0, d=[-0.2, 0.05, 0.0, 0.0, 0.0])
        rectified.next()
        wait_until(lambda: robot.bridge.get_json('/api/v1/calibration')['d'][0] == -0.2, 5.0,
                   'the new calibration is told')


@pytest.mark.parametrize(('bad', 'word'), [
    (good(0.0), 'focal lengths'), (good(float('nan')), 'not finite'),
    (good(d=[float('inf')] * 5), 'not finite'), (good(model='wide'), "'wide'"),
    (camera_info(64, 48), '64x48')], ids=['zeros', 'nan', 'inf', 'model', 'other_size'])
def test_the_calibration_goes_bad_and_comes_back(robot: Any, bad: Any, word: str) -> None:
    with robot.watching('transforms_board', 'color', 'rectified') as (poses, color, rectified):
        poses.wait_for(lambda found: found['transforms'], 'poses')
        robot.camera.info = bad
        lost = poses.wait_for(lambda found: not found['transforms'], 'no more poses')
        assert lost['board'] == {'visible': False, 'markers_used': 0,
                                 'reprojection_error_px': None,
                                 'reason': 'no_calibration'} | lost['board']
        assert lost['board']['reason'] == 'no_calibration'
        color.next()
        rectified.wait_for_code('no_calibration')
        status, _, body = robot.bridge.get('/api/v1/calibration')
        assert status == 503 and word in json.loads(body)['error']['message']
        assert 'NaN' not in json.dumps(lost)
        robot.camera.info = good()
        poses.wait_for(lambda found: found['transforms'], 'poses again')
        rectified.next()
    assert robot.bridge.health()[:2] == (200, 'ok')


def test_a_flood_of_bad_calibrations_is_one_line(robot: Any) -> None:
    robot.camera.info = good(float('nan'))
    with robot.watching('color') as viewer:
        for _ in range(30):
            viewer.next()
    lines = [line for line in robot.new_lines if 'poses need a calibration' in line]
    assert len(lines) == 1
