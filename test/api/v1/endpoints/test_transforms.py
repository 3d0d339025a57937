"""Poses, markers and calibration over HTTP, by the wire contract."""
import json

from processes import http_get
import pytest
from web_bridge import DEMO_BOARD, running_bridge

ROBOT = [0.1, 0.2, 0.0, 0.0, 0.0, 1.0]


@pytest.fixture(scope='module')
def bridge():
    with running_bridge(board__file=DEMO_BOARD, robot__pose_in_board=ROBOT) as it:
        it.publish()
        yield it


def get(bridge, path):
    status, _, body = http_get(f'{bridge.http}/api/v1/{path}')
    return status, json.loads(body)


@pytest.mark.parametrize('frame,kinds', [
    ('camera', ['board', 'robot', 'marker']), ('board', ['camera', 'robot', 'marker']),
    ('robot', ['camera', 'board', 'marker'])])
def test_all_poses_in_each_frame(bridge, frame, kinds):
    status, value = get(bridge, f'transforms?frame={frame}')
    assert status == 200 and value['stream'] == f'transforms_{frame}'
    assert [entry['kind'] for entry in value['transforms']] == kinds
    assert value['board']['visible'] and value['board']['markers_used'] == 20
    for entry in value['transforms']:
        assert entry['header'] == value['header']
        rotation = entry['transform']['rotation']
        assert sum(rotation[axis] ** 2 for axis in 'xyzw') == pytest.approx(1.0)


def test_the_robot_stands_on_the_board_where_it_was_configured(bridge):
    _, value = get(bridge, 'transforms/robot?frame=board')
    robot, = value['transforms']
    assert robot['child_frame_id'] == 'base_link'
    assert robot['transform']['translation'] == pytest.approx({'x': 0.1, 'y': 0.2, 'z': 0.0})


@pytest.mark.parametrize('name,kind', [
    ('board', 'board'), ('robot', 'robot'), ('camera', 'camera'), ('external_markers', 'marker')])
def test_only_one_kind(bridge, name, kind):
    frame = 'board' if name == 'camera' else 'camera'
    status, value = get(bridge, f'transforms/{name}?frame={frame}')
    assert status == 200 and [entry['kind'] for entry in value['transforms']] == [kind]


def test_the_default_frame_is_the_camera(bridge):
    assert get(bridge, 'transforms')[1]['stream'] == 'transforms_camera'


def test_aruco_lists_all_markers_and_the_boards_state(bridge):
    status, value = get(bridge, 'aruco')
    assert status == 200 and value['board']['visible'] is True
    assert len(value['markers']) == 21
    single = [marker for marker in value['markers'] if not marker['on_board']]
    assert [marker['id'] for marker in single] == [42]
    assert len(single[0]['corners_px']) == 4 and single[0]['length_m'] == 0.05
    assert value['static'] == []


def test_calibration(bridge):
    status, value = get(bridge, 'calibration')
    assert status == 200
    assert set(value) == {'width', 'height', 'distortion_model', 'd', 'k', 'r', 'p', 'frame_id'}
    assert (value['width'], value['height'], len(value['k']), len(value['p'])) == (320, 240, 9, 12)


@pytest.mark.parametrize('path,status', [
    ('transforms?frame=moon', 400), ('transforms/moon', 404)])
def test_errors(bridge, path, status):
    answer = get(bridge, path)
    assert answer[0] == status and set(answer[1]['error']) == {'code', 'message'}


def test_without_calibration_and_robot():
    with running_bridge(board__file=DEMO_BOARD) as bridge:
        bridge.publish(camera=None, camera_problem='no camera_info has arrived')
        status, value = get(bridge, 'calibration')
        assert status == 503
        assert value['error'] == {'code': 'no_calibration',
                                  'message': 'no camera_info has arrived'}
        status, value = get(bridge, 'transforms?frame=board')
        assert status == 200 and value['transforms'] == []
        assert value['board']['visible'] is False
        assert value['board']['reason'] == 'no_calibration'
        assert len(get(bridge, 'aruco')[1]['markers']) == 21
        assert get(bridge, 'transforms?frame=robot')[0] == 404
