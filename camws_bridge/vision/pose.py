"""
Poses from corners.

Corners are undistorted first and poses solved in normalised coordinates, so that one path serves
every lens model; errors are measured in the pixels of the real, distorted image. Solvers:
IPPE (Collins and Bartoli 2014) for single squares, SQPNP (Terzakis and Lourakis 2020) for boards,
both followed by Levenberg-Marquardt.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from camws_bridge.models import CameraModel, FloatArray
from camws_bridge.vision.boards import marker_square
from camws_bridge.vision.camera import project_points, undistort_points
from camws_bridge.vision.geometry import difference, from_rvec_tvec, transform_points

# A pose that misses its own corners by more than this is none, whatever the solver says.
_MAX_ERROR_PX = 10.0
# A branch of the planar ambiguity is clearly better when e_other^2 > 6 e_best^2 + 6 sigma^2.
_CLEARLY_BETTER = 6.0
_CORNER_SIGMA_PX = 0.1

_PINHOLE = np.eye(3)
_NO_DISTORTION = np.zeros(4)
# OpenCV's own limit is meant for pixels: in normalised coordinates it stops far too early.
_UNTIL_EXACT = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-12)


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A pose of an object in the camera's optical frame and its rms reprojection error (px)."""

    camera_from_object: FloatArray
    error_px: float


def solve_marker(camera: CameraModel, corners: FloatArray, length: float,
                 previous: FloatArray | None = None) -> tuple[Solution, bool] | None:
    """
    Return the pose of one square marker and whether its tilt is ambiguous.

    ``corners`` is 4 x 2 px from the marker's top left, clockwise; ``length`` its side in metres.
    Where the two poses a small or frontal square allows cannot be told apart, the one nearer
    ``previous`` (4x4) is kept. None when no pose explains the corners.
    """
    points = marker_square(length)
    # IPPE alone tells both poses of a square. OpenCV loses its rotations by 180 degrees, which is
    # how a marker faces a camera: so the square is turned beforehand as the image shows it.
    turn = _turn_towards_camera(corners)
    found = [Solution(solution.camera_from_object @ turn, solution.error_px)
             for solution in _solve(camera, transform_points(turn, points), corners,
                                    [cv2.SOLVEPNP_IPPE])]
    if not found:
        found = _solve(camera, points, corners, [cv2.SOLVEPNP_SQPNP])
    return _choose(found, previous)


def solve_board(camera: CameraModel, points: FloatArray, pixels: FloatArray,
                previous: FloatArray | None = None) -> tuple[Solution, bool] | None:
    """
    Return the pose of a board and whether its tilt is ambiguous, as of a single small marker.

    ``points`` is n x 3 (metres), ``pixels`` n x 2. None with fewer than four points, or when no
    pose in front of the camera explains them. ``previous`` as in ``solve_marker``.
    """
    if len(points) < 4:
        return None
    found = _solve(camera, points, pixels, [cv2.SOLVEPNP_SQPNP])
    if found and np.ptp(points[:, 2]) < 1e-9:
        # The other pose of a flat board, for the same reason turned beforehand.
        turn = found[0].camera_from_object.copy()
        turn[:3, 3] = 0.0
        found += [Solution(solution.camera_from_object @ turn, solution.error_px)
                  for solution in _solve(camera, transform_points(turn, points), pixels,
                                         [cv2.SOLVEPNP_IPPE])]
    return _choose(_best_first(found), previous)


def _choose(found: list[Solution], previous: FloatArray | None) -> tuple[Solution, bool] | None:
    """Return the best pose, or of two that cannot be told apart the one nearer ``previous``."""
    if not found:
        return None
    best = found[0]
    others = [other for other in found[1:] if not _same(best, other)]
    if not others or _clearly_better(best, others[0]):
        return best, False
    if previous is not None and _angle(previous, others[0]) < _angle(previous, best):
        best = others[0]
    return best, True


def reprojection_error(camera: CameraModel, camera_from_object: FloatArray, points: FloatArray,
                       pixels: FloatArray) -> float:
    """Return the root mean square distance (px) between points as projected and as seen."""
    expected = project_points(camera, transform_points(camera_from_object, points))
    return float(np.sqrt(np.mean(np.sum((expected - pixels) ** 2, axis=1))))


def _solve(camera: CameraModel, points: FloatArray, pixels: FloatArray,
           methods: Iterable[int]) -> list[Solution]:
    """Return the poses in front of the camera, best first, that explain the pixels."""
    normalised = undistort_points(camera, pixels)
    if not np.all(np.isfinite(normalised)):
        return []
    poses = [pose for method in methods for pose in _candidates(points, normalised, method)]
    solutions = [Solution(pose, reprojection_error(camera, pose, points, pixels))
                 for pose in poses if np.all(transform_points(pose, points)[:, 2] > 1e-6)]
    good = [solution for solution in solutions if solution.error_px < _MAX_ERROR_PX]
    return _best_first(good)


def _best_first(solutions: list[Solution]) -> list[Solution]:
    return sorted(solutions, key=lambda solution: solution.error_px)


def _candidates(points: FloatArray, normalised: FloatArray, method: int) -> list[FloatArray]:
    try:
        _, rvecs, tvecs, _ = cv2.solvePnPGeneric(
            points, normalised, _PINHOLE, _NO_DISTORTION, flags=method)
        refined = [cv2.solvePnPRefineLM(
            points, normalised, _PINHOLE, _NO_DISTORTION, rvec, tvec, _UNTIL_EXACT)
                   for rvec, tvec in zip(rvecs, tvecs)]
    except cv2.error:
        # Degenerate points (all in one line, say) are no pose, not a failure.
        return []
    poses = [from_rvec_tvec(rvec, tvec) for rvec, tvec in refined]
    return [pose for pose in poses if np.all(np.isfinite(pose))]


def _turn_towards_camera(corners: FloatArray) -> FloatArray:
    """Return the rotation (4x4) of a marker that faces the camera, spun as its upper edge is."""
    x, y = corners[1] - corners[0]
    angle = np.arctan2(y, x)
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, sine, 0.0, 0.0], [sine, -cosine, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0],
                     [0.0, 0.0, 0.0, 1.0]])


def _same(a: Solution, b: Solution) -> bool:
    distance, angle = difference(a.camera_from_object, b.camera_from_object)
    return angle < 0.02 and distance < 0.01 * float(np.linalg.norm(a.camera_from_object[:3, 3]))


def _clearly_better(best: Solution, other: Solution) -> bool:
    bound = _CLEARLY_BETTER * (best.error_px ** 2 + _CORNER_SIGMA_PX ** 2)
    return other.error_px ** 2 > bound


def _angle(pose: FloatArray, solution: Solution) -> float:
    return difference(pose, solution.camera_from_object)[1]
