from builders import facing, grid_board, make_camera, poses
from hypothesis import given
import numpy as np

from camws_bridge.vision.projection import by_homography, by_pose

BOARD = grid_board()
POINTS = BOARD.corners.reshape(-1, 3)


@given(poses())
def test_with_and_without_calibration_agree_where_the_lens_does_not_bend(pose):
    project = by_pose(make_camera('plumb_bob-0'), pose)
    guessed = by_homography(POINTS, project(POINTS))
    np.testing.assert_allclose(guessed(BOARD.outline), project(BOARD.outline), atol=1e-3)


def test_the_lens_bends_what_is_projected_by_pose():
    edge = np.linspace(BOARD.outline[0], BOARD.outline[1], 9)
    bent = by_pose(make_camera(), facing(0, -0.08, 0.3))(edge)
    assert np.ptp(bent[:, 1]) > 0.5
    straight = by_pose(make_camera('plumb_bob-0'), facing(0, -0.08, 0.3))(edge)
    assert np.ptp(straight[:, 1]) < 1e-6


def test_what_is_not_in_front_of_the_camera_has_no_place():
    assert by_pose(make_camera(), facing(z=-0.5))(BOARD.outline) is None
    # One corner behind is enough.
    assert by_pose(make_camera(), facing(z=0.05, turn=1.4))(BOARD.outline) is None
    tilted = by_pose(make_camera('plumb_bob-0'), facing(z=0.3, tilt=1.2))
    guessed = by_homography(POINTS, tilted(POINTS))
    assert guessed(np.array([[0.0, 0.0, 0.0]])) is not None
    assert guessed(np.array([[0.0, 0.5, 0.0]])) is None


def test_no_homography_from_too_little():
    pixels = np.arange(8.0).reshape(4, 2)
    assert by_homography(POINTS[:3], pixels[:3]) is None
    assert by_homography(np.zeros((0, 3)), np.zeros((0, 2))) is None
    assert by_homography(POINTS[:4] + np.outer([0, 0, 0, 1], [0, 0, 0.01]), pixels) is None
    assert by_homography(np.zeros((4, 3)), pixels) is None
