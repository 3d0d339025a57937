"""
A registered depth image helps the pose of something flat: which tilt it has, and how exactly.

A plane n . X = d is seen at the ray (x, y, 1) at the depth z with 1 / z = (n . ray) / d: linear
in the ray, and the noise of a stereo camera, which grows with the square of the depth, is the same
for every 1 / z. So the depths are one robust linear fit, w = n / d with its covariance, and the
pose the least-squares solution of corners and w together. What a depth camera gets wrong as a
whole (scale and offset) and over wide areas stands in that covariance: it can tell tilts, but
hardly move the marker. Depth that is no plane, or no plane that the corners allow, is not used.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from camws_bridge.models import Array, CameraModel, FloatArray
from camws_bridge.vision.camera import undistort_points
from camws_bridge.vision.geometry import mirrored, moved, transform_points

# Pixels in this part of a marker are looked at: those near its edge mix with what is beside it.
_INNER = 0.85
_MOST_SAMPLES, _FEWEST_SAMPLES = 500, 30
# Of the pixels looked at, so many must have depth and agree on one plane.
_LEAST_SHARE = 0.5
# Neighbouring depths of a stereo camera come from overlapping windows of about this size (px).
_WINDOW_PX = 5.0
# What depth is wrong by as a whole, and as tilt over a marker (radians).
_SCALE_SIGMA, _TILT_SIGMA = 0.02, 0.02
# More scatter than this many times the expected noise is no plane.
_MOST_SCATTER = 6.0
# Depth must agree with the corners within chi^2 of 3 degrees of freedom (97 %), may cost the
# corners so much, and decides between two poses by so much (3 sigma).
_MOST_DISAGREEMENT, _MOST_COST, _DECISIVE = 9.0, 9.0, 9.0
_ITERATIONS = 8
# [x]x, [y]x and [z]x.
_TURNS = np.array([[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]],
                   [[0, -1, 0], [1, 0, 0], [0, 0, 0]]], np.float64)
# How well corners alone know the distance of a marker, at worst.
_DISTANCE_SIGMA, _FAR_AWAY = 0.03, 5.0
# chi^2: a thirtieth of a sigma.
_CONVERGED = 1e-3
# Where the mirrored pose misses the corners by so much (px) before it is refined, it is none.
_NOT_MIRRORED_PX = 6.0


@dataclass(frozen=True, slots=True, eq=False)
class DepthPlane:
    """
    The plane that depth shows: ``w`` (3, 1/m) with w . X = 1 for its points X, the camera's frame.

    ``covariance`` is 3x3, ``samples`` the number of depths that agree.
    """

    w: FloatArray
    covariance: FloatArray
    samples: int


@dataclass(frozen=True, slots=True, eq=False)
class DepthPose:
    """
    A pose (4x4, camera_from_object) refined by depth.

    ``covariance`` (6x6) is that of x y z and of small turns about the camera's axes; ``decided``
    tells whether depth rules the other pose out that looks nearly the same.
    """

    camera_from_object: FloatArray
    covariance: FloatArray
    decided: bool


def fit_plane(camera: CameraModel, depth: Array, outlines: Sequence[FloatArray],
              noise_at_1m: float) -> DepthPlane | None:
    """
    Return the plane in which the depth inside markers (outlines, each 4 x 2 px) lies.

    ``depth`` is h x w, uint16 millimetres or float32 metres, 0 or NaN where there is none, and
    registered to the image. ``noise_at_1m`` is the standard deviation (m) of one depth at 1 m; it
    grows with the square of the distance. None when there is too little depth, or no plane.
    """
    pixels = _inner_pixels(outlines, depth.shape)
    if len(pixels) < _FEWEST_SAMPLES:
        return None
    metres = _metres(depth[pixels[:, 1], pixels[:, 0]])
    known = metres > 0
    if known.sum() < max(_FEWEST_SAMPLES, _LEAST_SHARE * len(pixels)):
        return None
    rays = np.column_stack([undistort_points(camera, pixels[known]), np.ones(known.sum())])
    inverse = 1.0 / metres[known]
    found = _robust_fit(rays, inverse, noise_at_1m)
    if found is None or found[2].sum() < _LEAST_SHARE * len(pixels):
        return None
    w, sigma, inliers = found
    # Overlapping windows: fewer depths count than there are.
    area = sum(_area(outline) for outline in outlines) * _INNER ** 2
    density = max(1.0, _WINDOW_PX ** 2 * len(pixels) / max(area, 1.0))
    good = rays[inliers]
    covariance = sigma ** 2 * density * np.linalg.pinv(good.T @ good)
    # n / d scales with a wrong scale of depth, and turns with a tilt of it.
    covariance += _SCALE_SIGMA ** 2 * np.outer(w, w)
    covariance += _TILT_SIGMA ** 2 * (w @ w * np.eye(3) - np.outer(w, w))
    return DepthPlane(w, covariance, int(inliers.sum()))


def refine_by_depth(camera: CameraModel, points: FloatArray, pixels: FloatArray,
                    camera_from_object: FloatArray, plane: DepthPlane, corner_sigma_px: float
                    ) -> DepthPose | None:
    """
    Return the pose that corners and depth agree on best, of both that look nearly the same.

    ``points`` (n x 3, metres) lie at z = 0 and are seen at ``pixels`` (n x 2), each axis with a
    standard deviation of ``corner_sigma_px``; ``camera_from_object`` is a pose solved from them.
    None when depth contradicts the corners: the pose without it is to be kept.
    """
    place = camera_from_object[:3, 3]
    expected = float(np.sqrt(place @ plane.covariance @ place + _DISTANCE_SIGMA ** 2))
    if abs(plane.w @ place - 1) > _FAR_AWAY * expected:
        return None
    problem = _Problem(camera, points, pixels, plane, corner_sigma_px)
    start, other = [camera_from_object], mirrored(camera_from_object)
    if problem.corner_cost(other) < len(points) * (_NOT_MIRRORED_PX / corner_sigma_px) ** 2:
        start.append(problem.refine(other, with_depth=False))
    least = min(problem.corner_cost(pose) for pose in start)
    solved = sorted((problem.refine(pose) for pose in start), key=problem.cost)
    best, other = solved[0], solved[-1]
    # A fit worse than the corners' own noise is the corners' fault, not the depth's.
    if (problem.corner_cost(best) > least + _MOST_COST
            or problem.depth_cost(best) > _MOST_DISAGREEMENT):
        return None
    same = np.linalg.norm(best[:3, :3] - other[:3, :3]) < 0.02
    decided = bool(same or problem.cost(other) - problem.cost(best) > _DECISIVE)
    if not decided:
        # Depth does not tell them apart: it stays with the one there was.
        best = min(solved, key=lambda pose: float(
            np.linalg.norm(pose[:3, :3] - camera_from_object[:3, :3])))
        if problem.depth_cost(best) > _MOST_DISAGREEMENT:
            return None
    return DepthPose(best, problem.covariance(best), decided)


def fuse_with_depth(camera_from_object: FloatArray, covariance: FloatArray, plane: DepthPlane
                    ) -> DepthPose | None:
    """
    Return a pose that is no longer in doubt, and its covariance (6x6), corrected by depth.

    One step of a Kalman filter: the pose moves only as far as depth knows better. None when depth
    contradicts it.
    """
    normal, place = camera_from_object[:3, 2], camera_from_object[:3, 3]
    if abs(float(normal @ place)) < 1e-6:
        return None
    missed = plane.w - normal / (normal @ place)
    jacobian = _plane_jacobian(camera_from_object)
    expected = jacobian @ covariance @ jacobian.T + plane.covariance
    if missed @ np.linalg.solve(expected, missed) > _MOST_DISAGREEMENT:
        return None
    gain = np.linalg.solve(expected, jacobian @ covariance).T
    # Joseph's form, which stays symmetric and positive.
    kept = np.eye(6) - gain @ jacobian
    return DepthPose(
        moved(camera_from_object, gain @ missed),
        np.asarray(kept @ covariance @ kept.T + gain @ plane.covariance @ gain.T, np.float64),
        True)


def corner_sigma(camera: CameraModel, points: FloatArray, camera_from_object: FloatArray,
                 covariance: FloatArray) -> float:
    """
    Return the standard deviation (px) of corners that give a pose its covariance (6x6).

    Of its position alone: that of its turn may be widened for what is ambiguous.
    """
    jacobian = _corner_jacobian(points, camera_from_object, camera.k[[0, 1], [0, 1]])
    unit = np.linalg.pinv(jacobian.T @ jacobian)
    return float(np.sqrt(np.trace(covariance[:3, :3]) / np.trace(unit[:3, :3])))


def _inner_pixels(outlines: Sequence[FloatArray], shape: tuple[int, ...]) -> Array:
    """Return whole pixels (n x 2, x and y) of an even grid well inside the outlines."""
    if not outlines:
        return np.zeros((0, 2), int)
    quads = np.array(outlines)
    side = np.sqrt(max(map(_area, outlines))) * _INNER
    steps = int(np.clip(np.sqrt(_MOST_SAMPLES / len(quads)), 2, max(2.0, side)))
    along = 0.5 + _INNER * ((np.arange(steps) + 0.5) / steps - 0.5)
    u, v = np.meshgrid(along, along)
    shares = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], axis=-1)
    points = np.rint(np.einsum('ijc,kcx->kijx', shares, quads)).astype(int).reshape(-1, 2)
    inside = np.all((points >= 0) & (points < (shape[1], shape[0])), axis=1)
    found: Array = points[inside]
    return found


def _metres(depth: Array) -> FloatArray:
    """Return depths in metres, 0 where there is none."""
    metres = depth.astype(np.float64) / (1000.0 if depth.dtype == np.uint16 else 1.0)
    # Comparisons with NaN are false.
    with np.errstate(invalid='ignore'):
        known = (metres > 1e-3) & (metres < 1e3)
    return np.where(known, metres, 0.0)


def _robust_fit(rays: FloatArray, inverse: FloatArray, noise: float
                ) -> tuple[FloatArray, float, Array] | None:
    """Return w, the standard deviation of 1 / z, and which rays agree; None when too few do."""
    # Begin with what lies near the median: things before and behind the marker do not count.
    weights = (np.abs(inverse - np.median(inverse)) < 0.25 * np.median(inverse)).astype(float)
    w, sigma = np.zeros(3), noise
    for _ in range(_ITERATIONS):
        if np.count_nonzero(weights > 0) < _FEWEST_SAMPLES:
            return None
        weighted = rays * weights[:, np.newaxis]
        w = np.linalg.solve(weighted.T @ rays + 1e-12 * np.eye(3), weighted.T @ inverse)
        residuals = inverse - rays @ w
        sigma = max(noise, 1.4826 * float(np.median(np.abs(residuals[weights > 0]))))
        # Tukey's biweight.
        weights = np.clip(1 - (residuals / (4.685 * sigma)) ** 2, 0, None) ** 2
    if sigma > _MOST_SCATTER * noise:
        return None
    return w, sigma, np.abs(inverse - rays @ w) < 3 * sigma


def _area(outline: FloatArray) -> float:
    return float(cv2.contourArea(outline.astype(np.float32)))


class _Problem:
    """Corners and a plane of depth as one least-squares problem, in units of their noise."""

    def __init__(self, camera: CameraModel, points: FloatArray, pixels: FloatArray,
                 plane: DepthPlane, sigma: float) -> None:
        self._points, self._plane = points, plane
        self._rays = undistort_points(camera, pixels)
        self._focal = np.array([camera.k[0, 0], camera.k[1, 1]]) / sigma
        # whitens a deviation of w
        self._white = np.linalg.inv(np.linalg.cholesky(
            plane.covariance + 1e-12 * np.eye(3)))

    def corner_cost(self, pose: FloatArray) -> float:
        return float(np.sum(self._corners(pose) ** 2))

    def depth_cost(self, pose: FloatArray) -> float:
        return float(np.sum(self._depth(pose) ** 2))

    def cost(self, pose: FloatArray) -> float:
        return self.corner_cost(pose) + self.depth_cost(pose)

    def covariance(self, pose: FloatArray) -> FloatArray:
        jacobian = self._jacobian(pose, with_depth=True)
        return np.asarray(np.linalg.pinv(jacobian.T @ jacobian), np.float64)

    def refine(self, pose: FloatArray, with_depth: bool = True) -> FloatArray:
        """Levenberg and Marquardt's method."""
        damping, residuals = 1e-3, self._residuals(pose, with_depth)
        for _ in range(_ITERATIONS * 2):
            jacobian = self._jacobian(pose, with_depth)
            normal = jacobian.T @ jacobian
            damped = normal + np.diag(damping * np.diag(normal) + 1e-9)
            step = np.linalg.solve(damped, -jacobian.T @ residuals)
            following = moved(pose, np.asarray(step, np.float64))
            after = self._residuals(following, with_depth)
            gain = residuals @ residuals - after @ after
            if gain > 0:
                pose, residuals, damping = following, after, damping / 5
                if gain < _CONVERGED:
                    break
            else:
                damping *= 10
                if damping > 1e6:
                    break
        return pose

    def _residuals(self, pose: FloatArray, with_depth: bool) -> FloatArray:
        corners = self._corners(pose)
        return np.concatenate([corners, self._depth(pose)]) if with_depth else corners

    def _corners(self, pose: FloatArray) -> FloatArray:
        """Return what the corners are missed by, in normalised coordinates made pixels."""
        seen = transform_points(pose, self._points)
        if np.any(seen[:, 2] < 1e-3):
            return np.full(2 * len(seen), 1e4)
        missed: FloatArray = (seen[:, :2] / seen[:, 2:] - self._rays) * self._focal
        return missed.ravel()

    def _depth(self, pose: FloatArray) -> FloatArray:
        normal = pose[:3, 2]
        distance = float(normal @ pose[:3, 3])
        if abs(distance) < 1e-6:
            return np.full(3, 1e4)
        return np.asarray(self._white @ (normal / distance - self._plane.w), np.float64)

    def _jacobian(self, pose: FloatArray, with_depth: bool) -> FloatArray:
        """Return d residual / d (translation, rotation vector) as ``moved`` takes them."""
        corners = _corner_jacobian(self._points, pose, self._focal)
        if not with_depth:
            return corners
        return np.concatenate([corners, self._white @ _plane_jacobian(pose)])


def _plane_jacobian(pose: FloatArray) -> FloatArray:
    """Return d w / d (translation, rotation vector), 3 x 6, of w = n / (n . t)."""
    normal, place = pose[:3, 2], pose[:3, 3]
    distance = float(normal @ place) or 1e-6
    turned = -_cross_matrices(normal)
    of_distance = np.concatenate([normal, place @ turned])
    return np.asarray(np.hstack([np.zeros((3, 3)), turned]) / distance
                      - np.outer(normal, of_distance) / distance ** 2, np.float64)


def _corner_jacobian(points: FloatArray, pose: FloatArray, focal: FloatArray) -> FloatArray:
    """Return d pixel / d (translation, rotation vector), 2n x 6, as ``moved`` takes them."""
    arms = points @ pose[:3, :3].T
    x, y, z = (arms + pose[:3, 3]).T
    z = np.maximum(z, 1e-3)
    zero = np.zeros_like(z)
    projection = np.stack([np.stack([1 / z, zero, -x / z ** 2], axis=-1),
                           np.stack([zero, 1 / z, -y / z ** 2], axis=-1)], axis=1)
    turns = -_cross_matrices(arms)
    shifts = np.concatenate([np.broadcast_to(np.eye(3), turns.shape), turns], axis=2)
    return np.asarray((projection @ shifts * focal[:, np.newaxis]).reshape(-1, 6), np.float64)


def _cross_matrices(vectors: FloatArray) -> FloatArray:
    """Return [v]x (... x 3 x 3), with [v]x u = v x u, of vectors v (... x 3)."""
    return np.asarray(np.tensordot(vectors, _TURNS, 1), np.float64)
