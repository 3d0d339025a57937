from dataclasses import dataclass

from builders import depth_of_plane, facing, grid_board, make_camera
import cv2
import numpy as np
import pytest

from camws_bridge.vision.boards import marker_square
from camws_bridge.vision.camera import project_points
from camws_bridge.vision.depth_pose import (
    corner_sigma, fit_plane, fuse_with_depth, refine_by_depth)
from camws_bridge.vision.geometry import difference, mirrored, moved, transform_points
from camws_bridge.vision.pose import solve_marker

CAMERA = make_camera()
SMALL, NOISE, CORNER_NOISE = 0.03, 0.002, 0.15
WALL = 1.6


@dataclass
class Trial:
    """A small marker: its truth, its corners as seen, the pose of them alone, and its depth."""

    truth: np.ndarray
    pixels: np.ndarray
    alone: np.ndarray
    depth: np.ndarray
    rng: np.random.Generator

    def sensed(self, exact=None, noise=NOISE):
        """Return depth in metres with a stereo camera's noise: of windows, growing with z^2."""
        exact = self.depth if exact is None else exact
        grain = cv2.GaussianBlur(self.rng.standard_normal(exact.shape), (0, 0), 1.5)
        return exact + noise * exact ** 2 * grain / grain.std()


def trials():
    rng = np.random.default_rng(1)
    points = marker_square(SMALL)
    while True:
        truth = facing(*rng.uniform(-0.12, 0.12, 2), rng.uniform(0.5, 1.0),
                       *rng.uniform(-0.6, 0.6, 2), rng.uniform(-3, 3))
        pixels = project_points(CAMERA, transform_points(truth, points))
        pixels = pixels + CORNER_NOISE * rng.standard_normal((4, 2))
        solved = solve_marker(CAMERA, pixels, SMALL)
        if solved is not None:
            yield Trial(truth, pixels, solved.camera_from_object,
                        depth_of_plane(CAMERA, truth, 0.8 * SMALL, WALL), rng)


TRIALS = [trial for trial, _ in zip(trials(), range(40))]


def millimetres(metres):
    return np.clip(np.rint(metres * 1000), 0, 65535).astype(np.uint16)


def refined(trial, depth, noise=NOISE):
    plane = fit_plane(CAMERA, depth, [trial.pixels], noise)
    return plane and refine_by_depth(CAMERA, marker_square(SMALL), trial.pixels, trial.alone,
                                     plane, CORNER_NOISE)


def holes(trial):
    depth = millimetres(trial.sensed())
    depth[trial.rng.random(depth.shape) < 0.4] = 0
    return depth


def outliers(trial):
    depth = trial.sensed()
    wrong = trial.rng.random(depth.shape) < 0.3
    depth[wrong] = trial.rng.uniform(0.2, 4, wrong.sum())
    return millimetres(depth)


def floats(trial):
    depth = trial.sensed().astype(np.float32)
    depth[trial.rng.random(depth.shape) < 0.2] = np.nan
    depth[trial.rng.random(depth.shape) < 0.05] = np.inf
    return depth


USEFUL = {
    'good': lambda trial: millimetres(trial.sensed()), 'holes': holes, 'outliers': outliers,
    'float': floats, '3 % too far': lambda trial: millimetres(trial.sensed() * 1.03),
    '10 mm too near': lambda trial: millimetres(trial.sensed() - 0.01),
    '6 px aside': lambda trial: millimetres(np.roll(trial.sensed(), 6, axis=1))}


@pytest.mark.parametrize('make', USEFUL.values(), ids=USEFUL)
def test_depth_resolves_flips_and_sharpens_poses(make):
    before, after, used = [], [], 0
    for trial in TRIALS:
        found = refined(trial, make(trial))
        used += found is not None
        before.append(difference(trial.alone, trial.truth))
        after.append(difference(found.camera_from_object if found else trial.alone, trial.truth))
    (metres_before, angle_before), (metres, angle) = np.array(before).T, np.array(after).T
    assert used > 0.9 * len(TRIALS)
    assert np.mean(angle_before > 0.35) > 0.05
    assert np.mean(angle > 0.35) <= 0.025                   # flips
    assert np.quantile(angle, 0.9) < 0.1 < np.quantile(angle_before, 0.9)
    assert np.median(angle) < np.median(angle_before)
    assert np.median(metres) < 1.05 * np.median(metres_before)
    assert np.quantile(metres, 0.9) < 1.05 * np.quantile(metres_before, 0.9)


def shape(trial):
    return trial.depth.shape


GARBAGE = {
    'none': lambda trial: np.zeros(shape(trial), np.uint16),
    'NaN': lambda trial: np.full(shape(trial), np.nan, np.float32),
    'negative': lambda trial: np.full(shape(trial), -1.0, np.float32),
    'random': lambda trial: millimetres(trial.rng.uniform(0.2, 3, shape(trial))),
    'the wall behind': lambda trial: millimetres(trial.sensed(np.full(shape(trial), WALL))),
    'millimetres as metres': lambda trial: (trial.sensed() * 1000).astype(np.float32),
    'one colour': lambda trial: np.full(shape(trial), 65535, np.uint16),
    'a hand': lambda trial: millimetres(trial.sensed() * 0.7)}


@pytest.mark.parametrize('make', GARBAGE.values(), ids=GARBAGE)
def test_wrong_depth_is_not_used(make):
    assert [refined(trial, make(trial)) for trial in TRIALS] == [None] * len(TRIALS)


def test_depth_of_another_tilt_is_not_used_where_the_corners_know_better():
    points, used = marker_square(0.1), 0
    for trial in TRIALS[:15]:
        pixels = project_points(CAMERA, transform_points(trial.truth, points))
        depth = depth_of_plane(CAMERA, mirrored(trial.truth), 0.08, WALL)
        plane = fit_plane(CAMERA, millimetres(trial.sensed(depth)), [pixels], NOISE)
        found = plane and refine_by_depth(CAMERA, points, pixels, trial.truth, plane, 0.1)
        if found is not None:
            used += 1
            assert difference(found.camera_from_object, trial.truth)[1] < 0.06
    assert used < 4


def test_noisier_depth_counts_less():
    worst = [max(difference(found.camera_from_object, trial.alone)[1]
                 for trial in TRIALS if (found := refined(
                     trial, millimetres(trial.sensed(noise=0.008)), noise)) and found.decided
                 and difference(trial.alone, trial.truth)[1] < 0.1)
             for noise in (0.002, 0.05)]
    assert worst[1] < worst[0]


def test_a_plane_is_found_with_its_uncertainty():
    board = grid_board()
    pose = facing(-0.05, 0.02, 0.6, tilt=0.4, turn=0.2)
    exact = depth_of_plane(CAMERA, pose, 0.25, WALL)
    outlines = [project_points(CAMERA, transform_points(pose, quad)) for quad in board.corners]
    plane = fit_plane(CAMERA, exact.astype(np.float32), outlines, NOISE)
    normal = pose[:3, 2]
    np.testing.assert_allclose(plane.w, normal / (normal @ pose[:3, 3]), rtol=1e-4, atol=1e-4)
    assert plane.samples > 300
    assert np.all(np.linalg.eigvalsh(plane.covariance) > 0)
    # Outside of the image there is nothing; what is partly inside counts as far as it is.
    assert fit_plane(CAMERA, exact, [outlines[0] + 1000, outlines[0] - 1000], NOISE) is None
    assert fit_plane(CAMERA, exact, [], NOISE) is None
    aside = fit_plane(CAMERA, exact[:, :int(outlines[0][:, 0].mean())], outlines[:1], NOISE)
    assert aside is None or aside.samples < plane.samples


def test_the_covariance_tells_how_far_the_pose_is_off():
    inside = []
    for trial in TRIALS:
        found = refined(trial, USEFUL['good'](trial))
        if found is None:
            continue
        error = np.concatenate([
            found.camera_from_object[:3, 3] - trial.truth[:3, 3],
            cv2.Rodrigues(found.camera_from_object[:3, :3] @ trial.truth[:3, :3].T)[0].ravel()])
        inside.append(error @ np.linalg.solve(found.covariance, error) < 12.6)      # 95 %, 6
    assert len(inside) > 30
    assert np.mean(inside) > 0.85


def test_the_noise_of_corners_follows_from_the_covariance_of_their_pose():
    pose, points = facing(0.05, -0.03, 0.4, tilt=0.6, turn=-0.3), marker_square(0.04)
    rng, solved = np.random.default_rng(0), []
    exact = project_points(CAMERA, transform_points(pose, points))
    for _ in range(400):
        found = solve_marker(CAMERA, exact + 0.1 * rng.standard_normal(exact.shape), 0.04, pose)
        solved.append(found.camera_from_object[:3, 3])
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = np.cov(np.array(solved).T)
    assert corner_sigma(CAMERA, points, pose, covariance) == pytest.approx(0.1, rel=0.25)


def distance_and_tilt(a, b):
    """Return how far two poses are apart, and their normals: turns about them no depth shows."""
    return np.linalg.norm(a[:3, 3] - b[:3, 3]), np.arccos(min(1.0, a[:3, 2] @ b[:3, 2]))


def fused(prior_sigma, plane_of):
    """Return median errors before and after, and how often depth was used."""
    rng, before, after, used = np.random.default_rng(3), [], [], 0
    covariance = np.diag(np.repeat(np.square(prior_sigma), 3))
    for trial in TRIALS:
        prior = moved(trial.truth, rng.multivariate_normal(np.zeros(6), covariance))
        found = fuse_with_depth(prior, covariance, plane_of(trial))
        used += found is not None
        before.append(distance_and_tilt(prior, trial.truth))
        after.append(distance_and_tilt(found.camera_from_object if found else prior, trial.truth))
    return np.median(before, axis=0), np.median(after, axis=0), used


def exact_plane(trial):
    return fit_plane(CAMERA, millimetres(trial.sensed()), [trial.pixels], NOISE)


def test_a_pose_in_no_doubt_moves_as_far_as_depth_knows_better():
    before, after, used = fused((0.001, 0.06), exact_plane)
    assert used > 0.9 * len(TRIALS)
    assert after[1] < 0.7 * before[1] and after[0] < 1.05 * before[0]
    before, after, used = fused((0.00002, 0.0005), exact_plane)
    assert used > 0.9 * len(TRIALS)
    np.testing.assert_allclose(after, before, rtol=0.05)


def test_a_pose_in_no_doubt_is_not_moved_by_depth_that_contradicts_it():
    def other_tilt(trial):
        depth = depth_of_plane(CAMERA, mirrored(trial.truth), 0.8 * SMALL, WALL)
        return fit_plane(CAMERA, millimetres(trial.sensed(depth)), [trial.pixels], NOISE)
    before, after, used = fused((0.0005, 0.01), other_tilt)
    assert used < 0.2 * len(TRIALS)
    np.testing.assert_allclose(after, before, rtol=0.1)


def test_fusing_makes_the_covariance_smaller_and_keeps_it_one():
    covariance = np.diag(np.repeat([1e-6, 4e-3], 3))
    for trial in TRIALS[:10]:
        found = fuse_with_depth(trial.truth, covariance, exact_plane(trial))
        assert np.all(np.linalg.eigvalsh(found.covariance) > 0)
        assert np.all(np.linalg.eigvalsh(covariance - found.covariance) > -1e-9)
        np.testing.assert_allclose(found.covariance, found.covariance.T)
