from dataclasses import replace

from builders import facing, make_camera, make_snapshot, poses, SETTINGS, STAMP
from hypothesis import given
import numpy as np
import pytest

from camws_bridge.models import BoardPose, MarkerPose
from camws_bridge.services.aruco_service import robot_pose
from camws_bridge.services.pose_messages import (
    calibration_object, FRAMES, markers_object, named_poses, transforms_object)
from camws_bridge.vision.geometry import from_quaternion, invert

NAMES, ROBOT = SETTINGS.tf, robot_pose(SETTINGS.robot)
STAMP_OBJECT = {'sec': 1795389649, 'nanosec': 351806352}


def make_object(frame, snapshot=None, robot=ROBOT):
    return transforms_object(snapshot or make_snapshot(), frame, NAMES, robot)


def matrix(transform):
    translation, rotation = transform['translation'], transform['rotation']
    assert list(translation) == ['x', 'y', 'z']
    assert list(rotation) == ['x', 'y', 'z', 'w']
    return from_quaternion(list(translation.values()), list(rotation.values()))


def by_child(message):
    return {entry['child_frame_id']: matrix(entry['transform']) for entry in message['transforms']}


@pytest.mark.parametrize('frame', FRAMES)
def test_the_shape_is_that_of_the_contract(frame):
    message = make_object(frame)
    frame_id = {'camera': 'camera_optical', 'board': 'aruco_board',
                'robot': NAMES.robot_frame}[frame]
    assert set(message) == {'stream', 'seq', 'header', 'camera_frame_id', 'board', 'transforms'}
    assert message['stream'] == f'transforms_{frame}'
    assert message['seq'] == 812
    assert message['header'] == {'stamp': STAMP_OBJECT, 'frame_id': frame_id}
    assert message['camera_frame_id'] == 'camera_optical'
    assert message['board'] == {
        'visible': True, 'markers_used': 12, 'reprojection_error_px': 0.21, 'corners_used': 46,
        'corners_rejected': 2, 'ambiguous': False, 'error_ratio': 7.5}
    # The frame itself is not listed.
    kinds = [entry['kind'] for entry in message['transforms']]
    assert kinds == [kind for kind in ('camera', 'board', 'robot', 'marker') if kind != frame]
    for entry in message['transforms']:
        assert set(entry) == {'header', 'child_frame_id', 'kind', 'id', 'transform',
                              'reprojection_error_px', 'covariance', 'ambiguous',
                              'error_ratio'}
        assert entry['header'] == message['header']
        assert entry['id'] == (7 if entry['kind'] == 'marker' else None)
        assert entry['ambiguous'] is (entry['kind'] == 'marker')
        assert entry['reprojection_error_px'] == (0.3 if entry['kind'] == 'marker' else 0.21)
        assert entry['error_ratio'] == (1.5 if entry['kind'] == 'marker' else 7.5)
        # What is configured is not measured: the robot on the board.
        configured = {frame, entry['kind']} == {'board', 'robot'}
        assert (entry['covariance'] is None) is configured
        if not configured:
            covariance = np.array(entry['covariance']).reshape(6, 6)
            np.testing.assert_allclose(covariance, covariance.T)
            assert np.linalg.eigvalsh(covariance).min() > 0
    assert message['transforms'][-1]['child_frame_id'] == 'aruco_marker_7'


@given(poses(), poses(), poses())
def test_the_three_frames_tell_the_same_story(board, marker, robot):
    snapshot = make_snapshot(board=BoardPose(board, 12, 0.2),
                             markers=(MarkerPose(7, 0.05, marker, 0.3, False),))
    camera, from_board, from_robot = (
        by_child(make_object(frame, snapshot, robot)) for frame in FRAMES)
    near = {'atol': 1e-9}
    np.testing.assert_allclose(camera['aruco_board'], board, **near)
    np.testing.assert_allclose(camera['aruco_marker_7'], marker, **near)
    np.testing.assert_allclose(from_board['camera_optical'], invert(board), **near)
    np.testing.assert_allclose(from_board[NAMES.robot_frame], robot, **near)
    np.testing.assert_allclose(from_board['aruco_marker_7'], invert(board) @ marker, **near)
    np.testing.assert_allclose(from_robot['aruco_board'], invert(robot), **near)
    np.testing.assert_allclose(from_robot['camera_optical'],
                               invert(camera[NAMES.robot_frame]), **near)
    np.testing.assert_allclose(from_robot['aruco_marker_7'],
                               invert(robot) @ from_board['aruco_marker_7'], **near)


@pytest.mark.parametrize('reason', ['not_detected', 'not_configured'])
def test_without_the_board_only_the_camera_frame_knows_markers(reason):
    snapshot = make_snapshot(board=None, board_absent=reason)
    assert [entry['kind'] for entry in make_object('camera', snapshot)['transforms']] == ['marker']
    for frame in FRAMES:
        assert make_object(frame, snapshot)['board'] == {
            'visible': False, 'markers_used': 0, 'reprojection_error_px': None, 'reason': reason}
    assert make_object('board', snapshot)['transforms'] == []
    assert make_object('robot', snapshot)['transforms'] == []


def test_the_covariance_is_in_the_frame_it_is_expressed_in():
    # A board known well but for its turn about the line of sight: from the board, that turns the
    # camera about its own axis, and moves it sideways as far as the board's origin is off it.
    about_z = np.diag([1e-10, 1e-10, 1e-10, 1e-10, 1e-10, 1e-4])
    snapshot = make_snapshot(board=BoardPose(facing(0.3, 0.0, 0.8), 12, 0.2, covariance=about_z))

    def covariance(frame, child):
        entry, = (entry for entry in make_object(frame, snapshot)['transforms']
                  if entry['child_frame_id'] == child)
        return np.array(entry['covariance']).reshape(6, 6)

    np.testing.assert_allclose(covariance('camera', 'aruco_board'), about_z)
    camera = np.diag(covariance('board', 'camera_optical'))
    np.testing.assert_allclose(camera[[1, 5]], [0.3 ** 2 * 1e-4, 1e-4], rtol=1e-3)
    assert camera[[0, 2, 3, 4]].max() < 1e-8
    # A marker in the board's frame is as uncertain as both.
    marker = covariance('board', 'aruco_marker_7')
    assert marker[5, 5] > 1e-4 + snapshot.markers[0].covariance[5, 5] / 10
    # The robot sits on the board: it is carried along.
    robot = covariance('camera', NAMES.robot_frame)
    assert robot[5, 5] == pytest.approx(1e-4, rel=1e-3)
    arm = np.hypot(*(facing(0.3, 0.0, 0.8)[:2, :3] @ ROBOT[:3, 3]))
    assert robot[0, 0] + robot[1, 1] == pytest.approx(arm ** 2 * 1e-4, rel=1e-3)


def test_a_covariance_that_is_not_known_is_null():
    snapshot = make_snapshot(board=BoardPose(facing(), 12, 0.2), markers=(
        replace(make_snapshot().markers[0], covariance=np.full((6, 6), np.inf)),))
    for frame in FRAMES:
        assert {entry['covariance'] for entry in make_object(frame, snapshot)['transforms']} == {
            None}


def test_without_a_robot_there_is_none():
    kinds = [entry['kind'] for entry in make_object('board', robot=None)['transforms']]
    assert kinds == ['camera', 'marker']
    assert make_object('robot', robot=None)['transforms'] == []


def test_without_calibration_there_are_no_poses():
    snapshot = make_snapshot(board=None, markers=(), calibrated=False,
                             board_absent='no_calibration')
    for frame in FRAMES:
        message = make_object(frame, snapshot)
        assert message['transforms'] == []
        assert message['board']['reason'] == 'no_calibration'


def test_named_poses_are_in_the_camera_frame():
    kinds = {pose.kind: pose for pose in named_poses(make_snapshot(), NAMES, ROBOT)}
    assert list(kinds) == ['camera', 'board', 'robot', 'marker']
    assert np.array_equal(kinds['camera'].camera_from_child, np.eye(4))
    np.testing.assert_allclose(kinds['robot'].camera_from_child,
                               facing(-0.1, 0.02, 0.8, turn=0.5, spin=2.0) @ ROBOT)


def test_the_markers_object():
    unknown = replace(make_snapshot().seen[1], reprojection_error_px=None, duplicate=True,
                      used=False)
    message = markers_object(make_snapshot(seen=(make_snapshot().seen[0], unknown)))
    corners = [[10.0, 10.0], [30.0, 11.0], [29.0, 31.0], [9.0, 30.0]]
    assert message == {
        'stream': 'markers', 'seq': 812,
        'header': {'stamp': STAMP.as_dict(), 'frame_id': 'camera_optical'},
        'width': 480, 'height': 360, 'markers': [
            {'id': 2, 'on_board': True, 'length_m': 0.04, 'corners_px': corners,
             'reprojection_error_px': 0.2, 'duplicate': False, 'used': True,
             'corners_by_edges': 4, 'edge_residual_px': 0.03},
            {'id': 7, 'on_board': False, 'length_m': 0.05,
             'corners_px': [[x + 50, y + 50] for x, y in corners],
             'reprojection_error_px': None, 'duplicate': True, 'used': False,
             'corners_by_edges': 0, 'edge_residual_px': None}]}


def test_the_calibration_object_is_row_major():
    camera = make_camera()
    message = calibration_object(camera)
    assert (message['width'], message['height']) == (480, 360)
    assert message['distortion_model'] == 'plumb_bob'
    assert message['d'] == list(camera.d)
    assert message['k'] == [420.0, 0, 236.0, 0, 423.0, 183.0, 0, 0, 1]
    assert message['r'] == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert message['p'] == [420.0, 0, 236.0, 0, 0, 423.0, 183.0, 0, 0, 0, 1, 0]
    assert message['frame_id'] == 'camera_optical'
    assert len(message) == 8
