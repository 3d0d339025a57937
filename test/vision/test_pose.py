from builders import facing, grid_board, LENSES, make_camera, poses
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy.stats import chi2

from camws_bridge.vision import covariance
from camws_bridge.vision.boards import marker_square
from camws_bridge.vision.camera import project_points, without_distortion
from camws_bridge.vision.geometry import difference, transform_points
from camws_bridge.vision.pose import (
    reprojection_error, solve_board, solve_marker, solve_markers)

# Every lens with the raw image and with the rectified one (P's intrinsics, nothing else).
CAMERAS = {**{lens: make_camera(lens) for lens in LENSES},
           **{f'{lens}-rectified': without_distortion(make_camera(lens, zoom=0.9))
              for lens in ('plumb_bob-5', 'rational-14', 'equidistant-4')}}
BOARD = grid_board()
FEW = settings(max_examples=15)


def see(camera, pose, points):
    return project_points(camera, transform_points(pose, points))


def assert_near(solved, pose, metres, radians):
    distance, angle = difference(solved.camera_from_object, pose)
    assert distance < metres
    assert angle < radians


@pytest.mark.parametrize('camera', CAMERAS.values(), ids=CAMERAS)
@FEW
@given(pose=poses())
def test_a_projected_board_is_solved_back(camera, pose):
    points = BOARD.corners.reshape(-1, 3)
    solved = solve_board(camera, points, see(camera, pose, points))
    assert_near(solved, pose, 1e-5, 1e-4)
    assert solved.error_px < 1e-3


@pytest.mark.parametrize('camera', CAMERAS.values(), ids=CAMERAS)
@FEW
@given(pose=poses(spread=0.3), length=st.floats(0.02, 0.2))
def test_a_projected_marker_is_solved_back(camera, pose, length):
    solved = solve_marker(camera, see(camera, pose, marker_square(length)), length)
    assert_near(solved, pose, 1e-3 * pose[2, 3], 1e-2)
    assert solved.error_px < 1e-2


@FEW
@given(pose=poses(), heights=st.lists(st.floats(-0.05, 0.05), min_size=8, max_size=8))
def test_a_board_need_not_be_flat(pose, heights):
    points = BOARD.corners.reshape(-1, 3)[:8] + np.outer(heights, [0, 0, 1])
    camera = make_camera()
    solved = solve_board(camera, points, see(camera, pose, points))
    assert_near(solved, pose, 1e-4, 1e-3)


@pytest.mark.parametrize('x', [0.0, 0.1, -0.15])
@pytest.mark.parametrize('spin', [0.0, np.pi / 2, np.pi, 0.3])
def test_an_exactly_frontal_marker_is_solved(x, spin):
    # Where IPPE can return no rotation at all and a huge error.
    camera, pose = make_camera(), facing(x, 0, 0.6, spin=spin)
    solved = solve_marker(camera, see(camera, pose, marker_square(0.08)), 0.08)
    assert_near(solved, pose, 1e-4, 1e-2)


def small_frontal_marker(noise=0.0):
    pose = facing(0.02, 0.0, 1.0, tilt=0.25)
    corners = see(make_camera(), pose, marker_square(0.03))
    return pose, corners + noise * np.random.default_rng(1).standard_normal((4, 2))


@pytest.mark.parametrize('noise', [0.0, 0.1])
def test_a_small_frontal_marker_is_ambiguous_and_keeps_its_branch(noise):
    pose, corners = small_frontal_marker(noise)
    other = facing(0.02, 0.0, 1.0, tilt=-0.25)
    for previous, flipped in ((pose, other), (other, pose)):
        solved = solve_marker(make_camera(), corners, 0.03, previous)
        assert solved.ambiguous
        assert (difference(solved.camera_from_object, previous)[1]
                < difference(solved.camera_from_object, flipped)[1])


def test_a_large_tilted_marker_is_not_ambiguous_whatever_was_before():
    pose, wrong = facing(0.02, 0.0, 0.4, tilt=0.8), facing(0.02, 0.0, 0.4, tilt=-0.8)
    corners = see(make_camera(), pose, marker_square(0.1))
    solved = solve_marker(make_camera(), corners, 0.1, wrong)
    assert not solved.ambiguous
    assert_near(solved, pose, 1e-4, 1e-3)


def test_corners_that_are_no_square_have_no_pose():
    bow = np.array([[10.0, 10], [200, 200], [200, 10], [10, 200]])
    assert solve_marker(make_camera(), bow, 0.05) is None
    assert solve_marker(make_camera(), np.full((4, 2), 50.0), 0.05) is None
    assert solve_marker(make_camera(), np.full((4, 2), np.nan), 0.05) is None


def test_too_few_or_degenerate_points_have_no_pose():
    camera, points = make_camera(), BOARD.corners.reshape(-1, 3)
    assert solve_board(camera, points[:3], see(camera, facing(), points[:3])) is None
    assert solve_board(camera, np.zeros((0, 3)), np.zeros((0, 2))) is None
    assert solve_board(camera, np.zeros((8, 3)), np.full((8, 2), 100.0)) is None
    wrong = np.random.default_rng(0).uniform(0, 360, (48, 2))
    assert solve_board(camera, points, wrong) is None


def test_the_error_is_the_rms_distance_in_pixels_of_the_distorted_image():
    camera, pose, points = make_camera(), facing(tilt=0.3), BOARD.corners.reshape(-1, 3)
    shifted = see(camera, pose, points) + (3.0, 4.0)
    assert reprojection_error(camera, pose, points, shifted) == pytest.approx(5.0)


@pytest.mark.parametrize('tilt', [0.25, -0.25])
def test_one_small_marker_of_a_board_is_ambiguous_and_keeps_its_branch(tilt):
    camera, pose = make_camera(), facing(0.02, 0.0, 1.0, tilt=0.25)
    points = marker_square(0.03)
    pixels = see(camera, pose, points) + 0.1 * np.random.default_rng(1).standard_normal((4, 2))
    solved = solve_board(camera, points, pixels, facing(0.02, 0.0, 1.0, tilt=tilt))
    assert solved.ambiguous
    assert difference(solved.camera_from_object, facing(0.02, 0.0, 1.0, tilt=tilt))[1] < 0.25


def test_a_whole_board_is_not_ambiguous():
    camera, pose = make_camera(), facing(0.0, 0.0, 0.6, tilt=0.3)
    points = BOARD.corners.reshape(-1, 3)
    solved = solve_board(camera, points, see(camera, pose, points))
    assert not solved.ambiguous
    assert_near(solved, pose, 1e-5, 1e-4)


def noisy(pose, length, count, sigma, seed=0):
    """Return the corners (count x 4 x 2) of a marker seen that often, with noise (px)."""
    corners = see(make_camera(), pose, marker_square(length))
    return corners + sigma * np.random.default_rng(seed).standard_normal((count, 4, 2))


def inside(solutions, pose):
    """Return which 95 % ellipsoids hold the true pose."""
    steps = [covariance.difference(found.camera_from_object, pose) for found in solutions]
    return [step @ np.linalg.solve(found.covariance, step) < chi2.ppf(0.95, 6)
            for step, found in zip(steps, solutions)]


def test_many_markers_at_once_are_as_one_by_one():
    camera = make_camera()
    places = [facing(0.05 * index - 0.1, 0.0, 0.5, tilt=0.2 * index, spin=index)
              for index in range(5)]
    lengths = np.linspace(0.03, 0.08, 5)
    corners = np.array([see(camera, pose, marker_square(length))
                        for pose, length in zip(places, lengths)])
    corners[2] = 50.0       # no marker at all, which is nobody else's trouble
    together = solve_markers(camera, corners, lengths)
    assert together[2] is None
    for index in (0, 1, 3, 4):
        alone = solve_marker(camera, corners[index], lengths[index])
        np.testing.assert_allclose(together[index].camera_from_object, alone.camera_from_object,
                                   atol=1e-6)
        assert_near(together[index], places[index], 1e-4, 2e-3)
    assert solve_markers(camera, np.zeros((0, 4, 2)), np.zeros(0)) == []


@pytest.mark.parametrize('lens', ['plumb_bob-5', 'equidistant-4'])
def test_the_covariance_holds_the_truth(lens):
    camera, pose, sigma = make_camera(lens), facing(0.06, -0.04, 0.4, tilt=0.7, turn=0.2), 0.1
    corners = see(camera, pose, marker_square(0.08)) + sigma * np.random.default_rng(
        0).standard_normal((400, 4, 2))
    spread = np.tile(sigma ** 2 * np.eye(2), (400, 4, 1, 1))
    solutions = solve_markers(camera, corners, np.full(400, 0.08), None, spread)
    assert not any(found.ambiguous for found in solutions)
    assert np.mean(inside(solutions, pose)) == pytest.approx(0.95, abs=0.03)


def test_corners_count_by_how_far_they_are_trusted():
    camera, pose = make_camera(), facing(0.0, 0.0, 0.4, tilt=0.5)
    points = BOARD.corners.reshape(-1, 3)
    spread = np.tile(0.05 ** 2 * np.eye(2), (len(points), 1, 1))
    # One in three is out by a pixel and says so.
    spread[::3] = 4.0 * np.eye(2)
    pixels = see(camera, pose, points)
    pixels[::3] += (1.0, 0.5)
    trusting = solve_board(camera, points, pixels)
    told = solve_board(camera, points, pixels, None, spread)
    errors = [difference(found.camera_from_object, pose)[0] for found in (told, trusting)]
    assert errors[0] < 0.1 * errors[1]


def test_an_ambiguous_rotation_is_uncertain_by_the_other_branch():
    pose = facing(0.02, 0.0, 1.0, tilt=0.25)
    solutions = solve_markers(make_camera(), noisy(pose, 0.03, 30, 0.1), np.full(30, 0.03))
    assert all(found.ambiguous for found in solutions)
    for found in solutions:
        assert 1.0 <= found.error_ratio
        apart = difference(found.camera_from_object, facing(0.02, 0.0, 1.0, tilt=-0.25))[1]
        assert np.sqrt(np.trace(found.covariance[3:, 3:])) > 0.2 * min(apart, 0.3)
    clear = solve_marker(make_camera(), noisy(facing(z=0.4, tilt=0.8), 0.1, 1, 0.05)[0], 0.1)
    assert clear.error_ratio > 5
    assert np.sqrt(np.trace(clear.covariance[3:, 3:])) < 0.02


def test_a_few_wrong_corners_are_left_out():
    camera, pose = make_camera(), facing(0.0, 0.02, 0.5, tilt=0.4)
    points = BOARD.corners.reshape(-1, 3)
    pixels = see(camera, pose, points) + 0.05 * np.random.default_rng(0).standard_normal((48, 2))
    pixels[4:8] += (7.0, -5.0)
    pixels[20] += 2.0
    found = solve_board(camera, points, pixels)
    assert np.flatnonzero(~found.used).tolist() == [4, 5, 6, 7, 20]
    assert_near(found, pose, 2e-4, 1e-3)
    assert found.error_px < 0.12


def test_even_when_nearly_half_are_wrong_the_others_agree():
    camera, pose = make_camera(), facing(0.0, 0.02, 0.5, tilt=0.4)
    points = BOARD.corners.reshape(-1, 3)
    pixels = see(camera, pose, points)
    pixels[:20] = see(camera, facing(0.05, -0.03, 0.6, turn=0.9, spin=1.0), points[:20])
    found = solve_board(camera, points, pixels)
    assert not found.used[:20].any()
    assert found.used[20:].all()
    assert_near(found, pose, 1e-4, 1e-3)


def test_points_in_one_line_have_no_pose():
    camera = make_camera()
    line = np.column_stack([np.linspace(-0.1, 0.1, 8), np.zeros(8), np.zeros(8)])
    found = solve_board(camera, line, see(camera, facing(tilt=0.3), line))
    # Whatever turn about the line is taken, the covariance says that nothing is known of it.
    assert found is None or np.sqrt(found.covariance[3, 3]) > 1.0


def test_a_marker_seen_from_behind_is_none():
    corners = see(make_camera(), facing(tilt=0.3), marker_square(0.06))
    assert solve_marker(make_camera(), corners[::-1], 0.06) is None
