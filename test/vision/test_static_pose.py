from builders import facing, FOCAL
import numpy as np
import pytest

from camws_bridge.vision.boards import marker_square
from camws_bridge.vision.geometry import difference, from_xyz_rpy, invert, transform_points
from camws_bridge.vision.static_pose import (
    error_px, mean_pose, Observation, solve_marker_jointly)

LENGTH, STILL = 0.04, np.eye(4)
TRUTH = from_xyz_rpy([0.2, 0.1, 0.0, 0.05, -0.1, 0.7])


def see(camera_from_parent, parent_from_child, points, noise, rng):
    seen = transform_points(camera_from_parent @ parent_from_child, points)
    return seen[:, :2] / seen[:, 2:] + noise / FOCAL * rng.standard_normal((len(points), 2))


def observe(camera_from_parent, noise, rng, truth=TRUTH, flipped=False):
    """Return an observation of a marker whose own pose may be the wrong one of the two."""
    pose = camera_from_parent @ truth
    if flipped:
        sight = pose[:3, 3] / np.linalg.norm(pose[:3, 3])
        mirror = np.eye(3) - 2 * np.outer(sight, sight)
        pose = pose.copy()
        pose[:3, :3] = mirror @ pose[:3, :3] @ np.diag([1, 1, -1])
    # What one image alone gives is never exact.
    pose = pose @ from_xyz_rpy([*(0.002 * rng.standard_normal(3)),
                                *(0.03 * rng.standard_normal(3))])
    points = marker_square(LENGTH)
    return Observation(camera_from_parent, points,
                       see(camera_from_parent, truth, points, noise, rng), FOCAL, pose)


def around(rng, count):
    """Return board poses as a moving camera sees them."""
    return [facing(*rng.uniform(-0.1, 0.1, 2), rng.uniform(0.6, 0.9),
                   *rng.uniform(-0.5, 0.5, 3)) for _ in range(count)]


def test_a_marker_is_solved_from_all_images_at_once():
    rng = np.random.default_rng(0)
    seen = [observe(view, 0.3, rng) for view in around(rng, 30)]
    alone = np.median([difference(item.parent_from_child, TRUTH) for item in seen], axis=0)
    distance, angle = difference(solve_marker_jointly(seen), TRUTH)
    assert distance < 0.0004 < alone[0]
    assert angle < 0.01 < alone[1]


@pytest.mark.parametrize('share', [0.3, 0.7, 1.0])
def test_flips_are_resolved_by_a_camera_that_moves(share):
    rng = np.random.default_rng(1)
    views = around(rng, 30)
    seen = [observe(view, 0.3, rng, flipped=index < share * 30)
            for index, view in enumerate(views)]
    distance, angle = difference(solve_marker_jointly(seen), TRUTH)
    assert distance < 0.0005 and angle < 0.01


def test_images_that_show_something_else_do_not_count():
    rng = np.random.default_rng(2)
    views = around(rng, 30)
    elsewhere = TRUTH @ from_xyz_rpy([0.05, 0.02, 0, 0, 0, 0.5])
    seen = [observe(view, 0.3, rng, truth=TRUTH if index % 3 else elsewhere)
            for index, view in enumerate(views)]
    distance, angle = difference(solve_marker_jointly(seen), TRUTH)
    assert distance < 0.001 and angle < 0.015


def poses_with_noise(count, metres, radians, rng, covariance=None):
    truth = facing(0.02, 0.01, 0.7, tilt=0.3)
    for _ in range(count):
        shift, turn = metres * rng.standard_normal(3), radians * rng.standard_normal(3)
        pose = truth.copy()
        pose[:3, 3] += shift
        pose[:3, :3] = from_xyz_rpy([0, 0, 0, *turn])[:3, :3] @ pose[:3, :3]
        yield Observation(STILL, np.zeros((0, 3)), np.zeros((0, 2)), FOCAL, pose, covariance)


def test_the_mean_is_nearer_than_a_single_image():
    rng = np.random.default_rng(3)
    truth = facing(0.02, 0.01, 0.7, tilt=0.3)
    distance, angle = difference(mean_pose(list(poses_with_noise(40, 0.001, 0.01, rng))), truth)
    assert distance < 0.0005 and angle < 0.005


def test_the_mean_is_robust_to_wrong_images():
    rng = np.random.default_rng(4)
    truth = facing(0.02, 0.01, 0.7, tilt=0.3)
    good = list(poses_with_noise(25, 0.001, 0.01, rng))
    wrong = [Observation(STILL, np.zeros((0, 3)), np.zeros((0, 2)), FOCAL,
                         facing(*rng.uniform(-0.3, 0.3, 2), 1.0, *rng.uniform(-1, 1, 3)))
             for _ in range(12)]
    distance, angle = difference(mean_pose(good + wrong), truth)
    assert distance < 0.0008 and angle < 0.008


def test_covariances_weigh_the_mean():
    rng = np.random.default_rng(5)
    truth = facing(0.02, 0.01, 0.7, tilt=0.3)

    def covariance(metres, radians):
        return np.diag(np.repeat([metres ** 2, radians ** 2], 3))
    sharp = list(poses_with_noise(5, 1e-4, 1e-3, rng, covariance(1e-4, 1e-3)))
    blurred = list(poses_with_noise(30, 5e-3, 5e-2, rng, covariance(5e-3, 5e-2)))
    distance, angle = difference(mean_pose(sharp + blurred), truth)
    assert distance < 1.5e-4 and angle < 1.5e-3
    broken = [Observation(STILL, np.zeros((0, 3)), np.zeros((0, 2)), FOCAL,
                          item.camera_from_child, np.full((6, 6), np.nan)) for item in sharp]
    assert difference(mean_pose(broken), truth)[0] < 3e-4


def test_the_mean_of_what_a_moving_camera_sees_is_in_the_frame_of_the_parent():
    rng = np.random.default_rng(6)
    seen = [observe(view, 0.3, rng) for view in around(rng, 40)]
    distance, angle = difference(mean_pose(seen), TRUTH)
    assert distance < 0.0015 and angle < 0.02


def test_the_error_of_a_pose_is_in_pixels():
    rng = np.random.default_rng(7)
    item = observe(facing(z=0.5), 0.0, rng)
    assert error_px(item, TRUTH) < 1e-9
    moved = from_xyz_rpy([0.001, 0, 0, 0, 0, 0]) @ TRUTH
    assert error_px(item, moved) == pytest.approx(0.001 * FOCAL / 0.5, rel=0.1)
    assert error_px(item, invert(facing(z=0.5)) @ facing(z=-0.5)) == float('inf')
