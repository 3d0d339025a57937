"""
Poses from corners.

Corners are undistorted first and poses solved in normalised coordinates, so that one path serves
every lens model; misfits are weighted by what they are in pixels of the real, distorted image, and
by how far each corner is to be trusted. A pose is ``camera_from_object`` (4x4, metres) in the
camera's optical frame (x right, y down, z along the view).

Solvers: IPPE (Collins and Bartoli 2014, "Infinitesimal Plane-Based Pose Estimation") for single
squares, all at once; SQPNP (Terzakis and Lourakis 2020) for boards; both followed by
Levenberg-Marquardt over corners that are weighted by their variance.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from camws_bridge.models import Array, CameraModel, FloatArray
from camws_bridge.vision import covariance
from camws_bridge.vision.boards import marker_square
from camws_bridge.vision.camera import project_points, undistort_points
from camws_bridge.vision.geometry import (
    difference, from_rotation_translation, from_rvec_tvec, square_to_quad, transform_points)

# A pose that misses its own corners by more than this is none, whatever the solver says.
_MAX_ERROR_PX = 10.0
# A branch of the planar ambiguity is clearly better when e_other^2 > 6 e_best^2 + 6 sigma^2.
_CLEARLY_BETTER = 6.0
# The standard deviation of a corner's coordinates where nothing is known of it.
_CORNER_SIGMA_PX = 0.1
# Corners of a board further off than this many standard deviations are not the board's.
_OUTLIER_SIGMA = 3.5
# Nor is a corner an outlier for less than this: prints and lenses are no more exact.
_NO_OUTLIER_PX = 0.3
# At least this share of a board's corners must agree on its pose.
_LEAST_INLIERS = 0.5
_RANSAC_PX = 4.0

_PINHOLE = np.eye(3)
_NO_DISTORTION = np.zeros(4)
_TO_UNIT_SQUARE = np.array([[0.5, 0.0, 0.5], [0.0, -0.5, 0.5], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """
    A pose of an object in the camera's optical frame, and how good it is.

    ``error_px`` is the rms reprojection error of the corners used. ``covariance`` (6x6) is that of
    x, y, z (metres) and of rotations about the camera's fixed x, y, z axes (radians), as in
    geometry_msgs/PoseWithCovariance. ``ambiguous`` tells that a second pose explains the corners
    about as well; ``error_ratio`` is the misfit of the other pose divided by this one's (weighted
    rms; None where there is no other). ``used`` (n, bool) marks the corners that were not
    rejected.
    """

    camera_from_object: FloatArray
    error_px: float
    covariance: FloatArray
    ambiguous: bool = False
    error_ratio: float | None = None
    used: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """
    The corners of b objects of k corners each, as Levenberg-Marquardt takes them.

    ``points`` b x k x 3 (metres), ``rays`` b x k x 2 (normalised), ``whiten`` b x k x 2 x 2: what
    takes a misfit of rays to one in standard deviations.
    """

    points: FloatArray
    rays: FloatArray
    whiten: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """Refined poses of b objects; ``squared`` is the weighted sum of squares of their misfits."""

    rotations: FloatArray
    translations: FloatArray
    squared: FloatArray
    covariances: FloatArray


def solve_marker(camera: CameraModel, corners: FloatArray, length: float,
                 previous: FloatArray | None = None, covariance: FloatArray | None = None
                 ) -> Solution | None:
    """Return the pose of one square marker (see ``solve_markers``); None when there is none."""
    return solve_markers(camera, np.asarray(corners)[None], np.array([length]), [previous],
                         None if covariance is None else covariance[None])[0]


def solve_markers(camera: CameraModel, corners: FloatArray, lengths: FloatArray,
                  previous: Sequence[FloatArray | None] | None = None,
                  covariance: FloatArray | None = None) -> list[Solution | None]:
    """
    Return the poses of n square markers, each by itself.

    ``corners`` is n x 4 x 2 px from each marker's top left, clockwise; ``lengths`` (n) the sides
    in metres; ``covariance`` (n x 4 x 2 x 2, px squared) that of each corner. Where the two poses
    that a small or frontal square allows cannot be told apart, the one nearer ``previous`` (4x4)
    is kept. None where no pose explains the corners.
    """
    count = len(corners)
    if not count:
        return []
    corners = np.asarray(corners, np.float64)
    rays = undistort_points(camera, corners.reshape(-1, 2)).reshape(count, 4, 2)
    solutions: list[Solution | None] = [None] * count
    with np.errstate(all='ignore'):
        rotations, translations, possible = _ippe(rays, np.asarray(lengths, float))
        chosen = np.flatnonzero(possible)
        if not len(chosen):
            return solutions
        points = np.array([marker_square(length) for length in np.asarray(lengths)[chosen]])
        whiten = _whitening(camera, rays[chosen].reshape(-1, 2),
                            None if covariance is None else covariance[chosen])
        seen = _Seen(*(np.repeat(values, 2, axis=0) for values in (
            points, rays[chosen], whiten.reshape(-1, 4, 2, 2))))
        fit = _refine(seen, rotations[chosen].reshape(-1, 3, 3),
                      translations[chosen].reshape(-1, 3))
        errors, visible = _errors(camera, seen, fit, np.repeat(corners[chosen], 2, axis=0))
        facing = np.einsum('bi,bi->b', fit.rotations[:, :, 2], fit.translations) < 0
        good = visible & facing & (errors < _MAX_ERROR_PX)
    for row, index in enumerate(chosen.tolist()):
        before = previous[index] if previous is not None else None
        branches = [branch for branch in (2 * row, 2 * row + 1) if good[branch]]
        solutions[index] = _choose(fit, errors, branches, before)
    return solutions


def solve_board(camera: CameraModel, points: FloatArray, pixels: FloatArray,
                previous: FloatArray | None = None, covariance: FloatArray | None = None
                ) -> Solution | None:
    """
    Return the pose of a board, solved from all corners that agree.

    ``points`` is n x 3 (metres), ``pixels`` n x 2, ``covariance`` (n x 2 x 2) that of each pixel
    (px squared). None with fewer than four points, or when no pose in front of the camera
    explains at least half of them. A flat board has two branches as a marker has; ``previous`` as
    in ``solve_markers``.
    """
    if len(points) < 4:
        return None
    points, pixels = np.asarray(points, np.float64), np.asarray(pixels, np.float64)
    rays = undistort_points(camera, pixels)
    if not np.all(np.isfinite(rays)):
        return None
    with np.errstate(all='ignore'):
        whiten = _whitening(camera, rays, covariance)
        seen = _Seen(points[None], rays[None], whiten[None])
        used = np.ones(len(points), bool)
        solution = None
        start = _sqpnp(points, rays)
        if start is not None:
            solution = _solve_robustly(camera, seen, pixels, start, used, previous)
        if solution is None:
            start, used = _ransac(camera, points, rays)
            if start is not None:
                solution = _solve_robustly(camera, seen, pixels, start, used, previous)
    return solution


def reprojection_error(camera: CameraModel, camera_from_object: FloatArray, points: FloatArray,
                       pixels: FloatArray) -> float:
    """Return the root mean square distance (px) between points as projected and as seen."""
    expected = project_points(camera, transform_points(camera_from_object, points))
    return float(np.sqrt(np.mean(np.sum((expected - pixels) ** 2, axis=1))))


def _solve_robustly(camera: CameraModel, seen: _Seen, pixels: FloatArray, start: FloatArray,
                    used: Array, previous: FloatArray | None) -> Solution | None:
    """Refine a board's pose and its other branch, leaving out corners that disagree."""
    points = seen.points[0]
    starts = np.array([start, *_other_branch(points, start)])
    branches = len(starts)
    seen = _Seen(*(np.repeat(values, branches, axis=0) for values in (
        seen.points, seen.rays, seen.whiten)))
    fit = _Fit(starts[:, :3, :3], starts[:, :3, 3], np.zeros(0), np.zeros(0))
    for _ in range(3):
        trusted = _Seen(seen.points, seen.rays, seen.whiten * used[:, None, None])
        fit = _refine(trusted, fit.rotations, fit.translations)
        best = int(np.argmin(np.where(np.isfinite(fit.squared), fit.squared, np.inf)))
        residual = _misfit(seen, fit.rotations, fit.translations)[0][best]
        distance = np.sqrt(np.sum(residual ** 2, axis=-1))
        # Corners may all be worse than they claim: Rayleigh's median is 1.177 sigma.
        scale = max(1.0, float(np.median(distance[used])) / 1.177)
        off = _distances(camera, points, fit, best, pixels)
        agree = (distance < _OUTLIER_SIGMA * scale) | (off < _NO_OUTLIER_PX)
        if agree.sum() < max(4, _LEAST_INLIERS * len(points)):
            return None
        if np.array_equal(agree, used):
            break
        used = agree
    trusted = _Seen(seen.points, seen.rays, seen.whiten * used[:, None, None])
    fit = _refine(trusted, fit.rotations, fit.translations)
    part = _Seen(seen.points[:, used], seen.rays[:, used], seen.whiten[:, used])
    errors, visible = _errors(camera, part, fit,
                              np.repeat(pixels[None, used], branches, axis=0))
    good = [branch for branch in range(branches)
            if visible[branch] and errors[branch] < _MAX_ERROR_PX]
    return _choose(fit, errors, good, previous, used)


def _choose(fit: _Fit, errors: FloatArray, branches: list[int], previous: FloatArray | None,
            used: Array | None = None) -> Solution | None:
    """Return the best pose, or of two that cannot be told apart the one nearer ``previous``."""
    if not branches:
        return None
    branches = sorted(branches, key=lambda branch: float(fit.squared[branch]))
    poses = [from_rotation_translation(fit.rotations[branch], fit.translations[branch])
             for branch in branches]
    corners = 4 if used is None else int(used.sum())
    freedom = max(2 * corners - 6, 1)
    squared = [float(fit.squared[branch]) for branch in branches]
    choice, other = 0, None
    ambiguous = False
    if len(branches) > 1 and not _same(*poses):
        other = 1
        limit = _CLEARLY_BETTER * (squared[0] + corners)
        ambiguous = squared[1] <= limit
        if ambiguous and previous is not None and (
                difference(previous, poses[1])[1] < difference(previous, poses[0])[1]):
            choice, other = 1, 0
    # With two degrees of freedom chance alone exceeds three times the expectation in 5 %.
    excess = max(1.0, squared[choice] / (freedom * (1.0 + 4.0 / freedom)))
    spread = fit.covariances[branches[choice]] * excess
    ratio = None
    if other is not None:
        ratio = float(np.sqrt(squared[other] / max(squared[choice], 1e-12)))
        if ambiguous:
            spread = spread + _between(
                poses[choice], poses[other], squared[other] - squared[choice])
    return Solution(poses[choice], float(errors[branches[choice]]), spread, ambiguous, ratio, used)


def _same(a: FloatArray, b: FloatArray) -> bool:
    distance, angle = difference(a, b)
    return angle < 0.02 and distance < 0.01 * float(np.linalg.norm(a[:3, 3]))


def _between(pose: FloatArray, other: FloatArray, difference_of_squares: float) -> FloatArray:
    """
    Return what the chance that the other branch is true adds to the covariance (6x6).

    The second moment of a mixture of two: w d d^T, d the step from one pose to the other and w
    the other's share by its likelihood, never taken for less than a twentieth.
    """
    step = covariance.difference(pose, other)
    share = 1 / (1 + np.exp(np.clip(difference_of_squares / 2, -50, 50)))
    moment: FloatArray = max(share, 0.05) * np.outer(step, step)
    return moment


def _covariances(information: FloatArray) -> FloatArray:
    """Return the inverses of b x 6 x 6 information matrices, scaled first: metres and radians."""
    scale = 1 / np.sqrt(np.maximum(np.einsum('bii->bi', information), 1e-30))
    both = scale[:, :, None] * scale[:, None, :]
    scaled = information * both
    try:
        inverse = np.linalg.inv(scaled)
    except np.linalg.LinAlgError:
        inverse = np.linalg.pinv(scaled, 1e-12, hermitian=True)
    covariances: FloatArray = inverse * both
    return covariances


def _refine(seen: _Seen, rotations: FloatArray, translations: FloatArray, most: int = 12) -> _Fit:
    """
    Minimise the weighted misfit of b poses by Levenberg-Marquardt, all at once.

    A step turns by exp(w) about axes of the camera and moves by v: X = exp(w) R p + t + v.
    """
    residual, turned, rays = _misfit(seen, rotations, translations)
    squared = np.sum(residual ** 2, axis=(1, 2))
    damping = np.full(len(squared), 1e-4)
    information = np.zeros((len(squared), 6, 6))
    for _ in range(most):
        jacobian = _jacobian(seen, turned, turned[..., 2] + translations[:, None, 2], rays)
        transposed = jacobian.transpose(0, 2, 1)
        information = transposed @ jacobian
        slope = (transposed @ residual.reshape(len(squared), -1, 1))[..., 0]
        diagonal = np.einsum('bii->bi', information)
        damped = information.copy()
        np.einsum('bii->bi', damped)[:] += (
            damping[:, None] * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-30)
        step = _solve_each(damped, -slope)
        new_rotations = _turns(step[:, 3:]) @ rotations
        new_translations = translations + step[:, :3]
        new_residual, new_turned, new_rays = _misfit(seen, new_rotations, new_translations)
        new_squared = np.sum(new_residual ** 2, axis=(1, 2))
        better = new_squared < squared
        # What this step gains: far below one squared standard deviation, none is needed after it.
        gain = -np.einsum('bi,bi->b', slope, step)
        done = ~(gain > 1e-3)
        if better.all():
            rotations, translations = new_rotations, new_translations
            residual, turned, rays, squared = new_residual, new_turned, new_rays, new_squared
        else:
            keep = better[:, None, None]
            rotations = np.where(keep, new_rotations, rotations)
            translations = np.where(better[:, None], new_translations, translations)
            residual = np.where(keep, new_residual, residual)
            turned, rays = np.where(keep, new_turned, turned), np.where(keep, new_rays, rays)
            squared = np.where(better, new_squared, squared)
        if np.all(done):
            break
        damping = np.where(better, damping * 0.1, damping * 10)
    return _Fit(rotations, translations, squared, _covariances(information))


def _misfit(seen: _Seen, rotations: FloatArray, translations: FloatArray
            ) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return misfits (b x k x 2, standard deviations), turned points, projected rays."""
    turned = seen.points @ rotations.transpose(0, 2, 1)
    in_camera = turned + translations[:, None]
    rays = in_camera[..., :2] / in_camera[..., 2:]
    residual = (seen.whiten @ (rays - seen.rays)[..., None])[..., 0]
    # Behind the camera is nowhere.
    behind = in_camera[..., 2] < 1e-6
    if behind.any():
        residual = np.where(behind[..., None], 1e6, residual)
    return residual, turned, rays


def _jacobian(seen: _Seen, turned: FloatArray, depth: FloatArray, rays: FloatArray) -> FloatArray:
    """Return d residual / d (v, w), b x 2k x 6."""
    x, y = rays[..., 0], rays[..., 1]
    px, py, pz = turned[..., 0], turned[..., 1], turned[..., 2]
    jacobian = np.zeros((*depth.shape, 2, 6))
    jacobian[..., 0, 0] = jacobian[..., 1, 1] = 1.0
    jacobian[..., 0, 2], jacobian[..., 1, 2] = -x, -y
    # Columns of w: (1, 0, -x) or (0, 1, -y) times w x p.
    jacobian[..., 0, 3], jacobian[..., 0, 4], jacobian[..., 0, 5] = -x * py, pz + x * px, -py
    jacobian[..., 1, 3], jacobian[..., 1, 4], jacobian[..., 1, 5] = -pz - y * py, y * px, px
    jacobian /= depth[..., None, None]
    whitened = seen.whiten @ jacobian
    return whitened.reshape(len(depth), -1, 6)


def _turns(vectors: FloatArray) -> FloatArray:
    """Return the rotations (b x 3 x 3) of rotation vectors (b x 3); none where not finite."""
    known = np.where(np.isfinite(vectors), vectors, 0.0)
    matrices: FloatArray = Rotation.from_rotvec(known).as_matrix()
    return matrices


def _solve_each(matrices: FloatArray, vectors: FloatArray) -> FloatArray:
    try:
        return np.asarray(np.linalg.solve(matrices, vectors[..., None])[..., 0], np.float64)
    except np.linalg.LinAlgError:
        # One singular matrix of many: only its own step is none.
        steps = np.zeros_like(vectors)
        for index, (matrix, vector) in enumerate(zip(matrices, vectors)):
            if np.linalg.matrix_rank(matrix) == len(matrix):
                steps[index] = np.linalg.solve(matrix, vector)
        return steps


def _errors(camera: CameraModel, seen: _Seen, fit: _Fit, pixels: FloatArray
            ) -> tuple[FloatArray, Array]:
    """Return rms reprojection errors (px) of b poses, and which see all points before them."""
    in_camera = seen.points @ fit.rotations.transpose(0, 2, 1) + fit.translations[:, None]
    visible: Array = np.asarray((in_camera[..., 2] > 1e-6).all(axis=1))
    visible &= np.isfinite(in_camera).all(axis=(1, 2))
    safe = np.where(visible[:, None, None], in_camera, (0.0, 0.0, 1.0))
    expected = project_points(camera, safe.reshape(-1, 3)).reshape(pixels.shape)
    errors = np.sqrt(np.mean(np.sum((expected - pixels) ** 2, axis=-1), axis=1))
    return np.where(visible, errors, np.inf), visible


def _distances(camera: CameraModel, points: FloatArray, fit: _Fit, branch: int,
               pixels: FloatArray) -> FloatArray:
    """Return how far (n, px) points are from where they were seen; infinite behind the camera."""
    in_camera = points @ fit.rotations[branch].T + fit.translations[branch]
    behind = ~(in_camera[:, 2] > 1e-6)
    expected = project_points(camera, np.where(behind[:, None], (0.0, 0.0, 1.0), in_camera))
    distances = np.where(behind, np.inf, np.linalg.norm(expected - pixels, axis=1))
    return np.asarray(distances, np.float64)


def _whitening(camera: CameraModel, rays: FloatArray, covariance: FloatArray | None
               ) -> FloatArray:
    """Return (n x 2 x 2) what takes small steps of rays to standard deviations of pixels."""
    whiten = np.zeros((len(rays), 2, 2))
    if camera.is_distorted:
        step = 1e-4
        three = np.ones((3, len(rays), 3))
        three[:, :, :2] = rays
        three[1, :, 0] += step
        three[2, :, 1] += step
        at, right, below = project_points(camera, three.reshape(-1, 3)).reshape(3, -1, 2)
        whiten[:, :, 0], whiten[:, :, 1] = (right - at) / step, (below - at) / step
    else:
        whiten[:, 0, 0], whiten[:, 1, 1] = camera.k[0, 0], camera.k[1, 1]
    if covariance is None:
        return whiten / _CORNER_SIGMA_PX
    # Of a covariance L L', the inverse of L takes errors to standard deviations.
    spread = np.reshape(covariance, (-1, 2, 2))
    a = np.sqrt(spread[:, 0, 0])
    b = spread[:, 1, 0] / a
    c = np.sqrt(np.maximum(spread[:, 1, 1] - b * b, 1e-12))
    first = whiten[:, 0] / a[:, None]
    return np.stack([first, (whiten[:, 1] - b[:, None] * first) / c[:, None]], axis=1)


def _ippe(rays: FloatArray, lengths: FloatArray) -> tuple[FloatArray, FloatArray, Array]:
    """
    Return both poses (n x 2 rotations and translations) of n squares, and which have any.

    Formulae: Collins and Bartoli 2014 (sections 4 and 5): the rotations that the derivative of
    the homography in the square's centre allows.
    """
    homography = square_to_quad(rays) @ _TO_UNIT_SQUARE
    homography = homography / homography[:, 2:, 2:]
    p, q = homography[:, 0, 2], homography[:, 1, 2]
    bottom = homography[:, 2, :2]
    # All corners on the same side of the horizon.
    possible = np.isfinite(homography).all(axis=(1, 2)) & (np.abs(bottom).sum(axis=1) < 1)
    derivative = homography[:, :2, :2] - homography[:, :2, 2:] * bottom[:, None]
    towards = _turn_to(p, q)
    project = np.zeros((len(rays), 2, 3))
    project[:, 0, 0] = project[:, 1, 1] = 1.0
    project[:, 0, 2], project[:, 1, 2] = -p, -q
    base = project @ towards[:, :, :2]
    a = _inverse_2x2(base) @ derivative
    squares = np.einsum('bki,bkj->bij', a, a)
    half = (squares[:, 0, 0] + squares[:, 1, 1]) / 2
    spread = np.sqrt(((squares[:, 0, 0] - squares[:, 1, 1]) / 2) ** 2 + squares[:, 0, 1] ** 2)
    largest = np.sqrt(half + spread)
    a = a / largest[:, None, None]
    b0 = np.sqrt(np.maximum(1 - a[:, 0, 0] ** 2 - a[:, 1, 0] ** 2, 0))
    b1 = np.sqrt(np.maximum(1 - a[:, 0, 1] ** 2 - a[:, 1, 1] ** 2, 0))
    mixed = -(a[:, 0, 0] * a[:, 0, 1] + a[:, 1, 0] * a[:, 1, 1])
    b1 = np.where(mixed < 0, -b1, b1)
    columns = np.zeros((len(rays), 2, 3, 3))
    columns[:, :, :2, :2] = a[:, None]
    # The third row is one of two, and the third column square to the others.
    for branch, (c, d) in enumerate(((b0, b1), (-b0, -b1))):
        columns[:, branch, 2, 0], columns[:, branch, 2, 1] = c, d
        columns[:, branch, 0, 2] = a[:, 1, 0] * d - c * a[:, 1, 1]
        columns[:, branch, 1, 2] = c * a[:, 0, 1] - a[:, 0, 0] * d
    columns[:, :, 2, 2] = (a[:, 0, 0] * a[:, 1, 1] - a[:, 1, 0] * a[:, 0, 1])[:, None]
    rotations = towards[:, None] @ columns
    depth = lengths / 2 / largest
    translations = depth[:, None] * np.stack([p, q, np.ones_like(p)], axis=1)
    possible &= np.isfinite(rotations).all(axis=(1, 2, 3)) & np.isfinite(depth)
    # A marker is seen from its printed side, never mirrored.
    possible &= a[:, 0, 0] * a[:, 1, 1] < a[:, 0, 1] * a[:, 1, 0]
    return rotations, np.repeat(translations[:, None], 2, axis=1), possible


def _turn_to(p: FloatArray, q: FloatArray) -> FloatArray:
    """Return the smallest rotations (n x 3 x 3) of the z axis onto the rays (p, q, 1)."""
    length = np.sqrt(p * p + q * q + 1)
    x, y, z = p / length, q / length, 1 / length
    share = 1 / (1 + z)
    rows = [1 - x * x * share, -x * y * share, x, -x * y * share, 1 - y * y * share, y, -x, -y, z]
    return np.stack(rows, axis=1).reshape(-1, 3, 3)


def _inverse_2x2(matrices: FloatArray) -> FloatArray:
    a, b = matrices[:, 0, 0], matrices[:, 0, 1]
    c, d = matrices[:, 1, 0], matrices[:, 1, 1]
    determinant = a * d - b * c
    return np.stack([d, -b, -c, a], axis=1).reshape(-1, 2, 2) / determinant[:, None, None]


def _other_branch(points: FloatArray, pose: FloatArray) -> list[FloatArray]:
    """
    Return where the other branch of a flat object begins, or nothing for one that is not flat.

    Its normal is this one's turned by half a turn about the line of sight.
    """
    centre = points.mean(axis=0)
    _, sizes, axes = np.linalg.svd(points - centre)
    if sizes[2] > 1e-6 * sizes[0] or sizes[1] < 1e-6 * sizes[0]:
        return []
    sight = transform_points(pose, centre[None])[0]
    half_turns = [2 * np.outer(axis, axis) - np.eye(3)
                  for axis in (sight / np.linalg.norm(sight), axes[2])]
    rotation = half_turns[0] @ pose[:3, :3] @ half_turns[1]
    return [from_rotation_translation(rotation, sight - rotation @ centre)]


def _sqpnp(points: FloatArray, rays: FloatArray) -> FloatArray | None:
    """Return the best pose in front of the camera; None when there is none."""
    try:
        _, rvecs, tvecs, _ = cv2.solvePnPGeneric(
            points, rays, _PINHOLE, _NO_DISTORTION, flags=cv2.SOLVEPNP_SQPNP)
    except cv2.error:
        # Degenerate points (all in one line, say) are no pose, not a failure.
        return None
    for rvec, tvec in zip(rvecs, tvecs):
        pose = from_rvec_tvec(rvec, tvec)
        if np.isfinite(pose).all() and (transform_points(pose, points)[:, 2] > 1e-6).all():
            return pose
    return None


def _ransac(camera: CameraModel, points: FloatArray, rays: FloatArray
            ) -> tuple[FloatArray | None, Array]:
    """Return a pose on which most corners agree, when all together agree on none."""
    used = np.zeros(len(points), bool)
    try:
        found, rvec, tvec, inliers = cv2.solvePnPRansac(
            points, rays, _PINHOLE, _NO_DISTORTION, iterationsCount=200,
            reprojectionError=_RANSAC_PX / float(camera.k[0, 0]), confidence=0.999,
            flags=cv2.SOLVEPNP_SQPNP)
    except cv2.error:
        return None, used
    if not found or inliers is None or len(inliers) < max(4, _LEAST_INLIERS * len(points)):
        return None, used
    used[np.ravel(inliers)] = True
    return from_rvec_tvec(rvec, tvec), used
