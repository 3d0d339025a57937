"""
One pose of something that does not move, from many images.

A single marker is solved from its corners in all images at once (Gauss-Newton over reprojection
errors), which also tells its two possible tilts apart as soon as the camera has moved: only the
true one stays where it is. A board, whose images hold better corners than those of its markers,
is the mean of its poses on SE(3), weighted by their covariances. Both are robust: an image that
does not agree loses its weight (Geman and McClure's; Black and Rangarajan 1996).
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from camws_bridge.models import FloatArray
from camws_bridge.vision.geometry import (
    invert, mirrored, moved, transform_points)

_ITERATIONS = 12
_NEAREST = 1e-3
# Reprojection error (px) and distance in sigmas at which an image has lost three quarters of its
# weight.
_OUTLIER_PX, _OUTLIER_SIGMAS = 2.0, 3.0
# The median absolute deviation of a normal distribution, in sigmas.
_MAD = 0.6745
_MOST_CANDIDATES = 24


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """
    What one image says of the pose of a child in its parent's frame.

    ``camera_from_parent`` is known (the identity when the camera is the parent). ``points``
    (n x 3, metres, the child's frame) are seen at ``rays`` (n x 2, normalised, undistorted);
    ``focal`` (px) makes pixels of them. ``camera_from_child`` is the pose this image alone gives,
    ``covariance`` (6x6, x y z roll pitch yaw in the camera's frame) how far it is to be trusted,
    if known.
    """

    camera_from_parent: FloatArray
    points: FloatArray
    rays: FloatArray
    focal: float
    camera_from_child: FloatArray
    covariance: FloatArray | None = None

    @property
    def parent_from_child(self) -> FloatArray:
        """The pose this image alone gives (4x4)."""
        result: FloatArray = invert(self.camera_from_parent) @ self.camera_from_child
        return result


def error_px(observation: Observation, parent_from_child: FloatArray) -> float:
    """Return how far a pose is from what an image shows (rms, px); infinite behind the camera."""
    pose = observation.camera_from_parent @ parent_from_child
    seen = transform_points(pose, observation.points)
    if np.any(seen[:, 2] < _NEAREST):
        return float('inf')
    missed = (seen[:, :2] / seen[:, 2:] - observation.rays) * observation.focal
    return float(np.sqrt(np.mean(np.sum(missed ** 2, axis=1))))


def solve_marker_jointly(observations: Sequence[Observation]) -> FloatArray:
    """
    Return the pose (4x4, parent_from_child) of a flat marker that fits all images best.

    Every observation must have the same number of points. Tries, besides the pose of each image,
    the mirrored one that looks nearly the same.
    """
    step = max(1, len(observations) // (_MOST_CANDIDATES // 2))
    candidates = [pose for observation in observations[::step]
                  for pose in (observation.parent_from_child, _mirrored(observation))]
    batch = _Batch.of(observations)
    best = sorted(candidates, key=batch.robust_cost)
    # Two that differ: the best may be the mirror image of a better one that needs refinement.
    other = next((pose for pose in best if _angle(pose, best[0]) > 0.05), None)
    refined = [batch.refine(pose) for pose in (best[0], other) if pose is not None]
    return min(refined, key=batch.robust_cost)


def mean_pose(observations: Sequence[Observation]) -> FloatArray:
    """
    Return the robust mean (4x4, parent_from_child) of the poses that single images give.

    Deviations are (translation, rotation vector) in the axes of the camera, as the covariances
    are; images without one are weighted by the scatter of all.
    """
    poses = np.array([observation.parent_from_child for observation in observations])
    mean = _medoid(poses)
    parents, measured, turns = (np.array(values) for values in zip(*(
        (observation.camera_from_parent, observation.camera_from_child, _in_parent(observation))
        for observation in observations)))
    for _ in range(_ITERATIONS):
        deviations = _deviations(parents, measured, mean)
        scatter = np.maximum(np.median(np.abs(deviations), axis=0) / _MAD, 1e-9)
        weights = np.array([_information(observation, scatter) for observation in observations])
        # Geman and McClure's weight of a squared distance d: 1 / (1 + d / c)^2.
        distances = np.einsum('ni,nij,nj->n', deviations, weights, deviations)
        weights /= ((1 + distances / (6 * _OUTLIER_SIGMAS ** 2)) ** 2)[:, np.newaxis, np.newaxis]
        # The camera's axes differ from image to image: add up in those of the parent.
        turned = turns @ weights @ turns.transpose(0, 2, 1)
        offsets = np.einsum('nij,nj->ni', turns, deviations)
        step = np.linalg.lstsq(turned.sum(0), np.einsum('nij,nj->i', turned, offsets),
                               rcond=None)[0]
        mean = moved(mean, step)
        if np.max(np.abs(step)) < 1e-10:
            break
    return mean


def _medoid(poses: FloatArray) -> FloatArray:
    """Return the pose nearest to all others, each counted no more than a wrong one."""
    places, turns = poses[:, :3, 3], poses[:, :3, :3]
    distances = np.linalg.norm(places[:, np.newaxis] - places, axis=2)
    angles = np.linalg.norm(turns[:, np.newaxis] - turns, axis=(2, 3))
    near, narrow = (max(float(np.median(values)), 1e-9) for values in (distances, angles))
    cost = np.minimum(distances / near, 3.0) + np.minimum(angles / narrow, 3.0)
    found: FloatArray = poses[int(cost.sum(1).argmin())]
    return found


def _deviations(parents: FloatArray, measured: FloatArray, mean: FloatArray) -> FloatArray:
    """Return how poses (k x 4 x 4) deviate (k x 6) from the mean, in the camera's axes."""
    expected = parents @ mean
    turns = Rotation.from_matrix(
        measured[:, :3, :3] @ expected[:, :3, :3].transpose(0, 2, 1)).as_rotvec()
    return np.concatenate([measured[:, :3, 3] - expected[:, :3, 3], turns], axis=1)


def _information(observation: Observation, scatter: FloatArray) -> FloatArray:
    covariance = observation.covariance
    if covariance is None or not np.all(np.isfinite(covariance)):
        covariance = np.diag(scatter ** 2)
    # Never surer than half a micrometre and a microradian: it must be invertible.
    least = np.diag(np.repeat([2.5e-13, 1e-12], 3))
    return np.asarray(np.linalg.inv(covariance + least), np.float64)


def _in_parent(observation: Observation) -> FloatArray:
    """Return the 6x6 rotation of a deviation from the camera's axes into the parent's."""
    rotation = observation.camera_from_parent[:3, :3].T
    return np.block([[rotation, np.zeros((3, 3))], [np.zeros((3, 3)), rotation]])


def _mirrored(observation: Observation) -> FloatArray:
    """Return the pose (parent_from_child) whose image is nearly the same."""
    result: FloatArray = (invert(observation.camera_from_parent)
                          @ mirrored(observation.camera_from_child))
    return result


def _angle(a: FloatArray, b: FloatArray) -> float:
    return float(np.linalg.norm(a[:3, :3] - b[:3, :3]) / np.sqrt(2.0))


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """All observations as arrays: k images of n points."""

    parents: FloatArray         # k x 4 x 4
    points: FloatArray          # k x n x 3
    rays: FloatArray            # k x n x 2
    focals: FloatArray          # k

    @staticmethod
    def of(observations: Sequence[Observation]) -> _Batch:
        return _Batch(np.array([item.camera_from_parent for item in observations]),
                      np.array([item.points for item in observations]),
                      np.array([item.rays for item in observations]),
                      np.array([item.focal for item in observations]))

    def seen_from_camera(self, pose: FloatArray) -> FloatArray:
        poses = self.parents @ pose
        return self.points @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, np.newaxis, :3, 3]

    def residuals(self, pose: FloatArray) -> FloatArray:
        """Return what is missed (k x n x 2, px); far too much behind the camera."""
        seen = self.seen_from_camera(pose)
        depth = np.where(seen[..., 2:] < _NEAREST, np.nan, seen[..., 2:])
        missed = (seen[..., :2] / depth - self.rays) * self.focals[:, np.newaxis, np.newaxis]
        return np.nan_to_num(missed, nan=1e3)

    def robust_cost(self, pose: FloatArray) -> float:
        squared = np.mean(np.sum(self.residuals(pose) ** 2, axis=2), axis=1)
        return float(np.sum(squared / (squared + _OUTLIER_PX ** 2)))

    def refine(self, pose: FloatArray) -> FloatArray:
        """Gauss and Newton's method, an image's weight falling with its error."""
        best, lowest = pose, self.robust_cost(pose)
        for _ in range(_ITERATIONS):
            residuals, jacobian = self.residuals(best), self._jacobian(best)
            squared = np.mean(np.sum(residuals ** 2, axis=2), axis=1)
            weights = 1 / (1 + squared / _OUTLIER_PX ** 2) ** 2
            weighted = jacobian * weights[:, np.newaxis, np.newaxis, np.newaxis]
            normal = np.einsum('knia,knib->ab', weighted, jacobian)
            gradient = np.einsum('knia,kni->a', weighted, residuals)
            step = np.linalg.lstsq(normal, -gradient, rcond=None)[0]
            following = moved(best, step)
            cost = self.robust_cost(following)
            if not cost < lowest:
                break
            best, lowest = following, cost
        return best

    def _jacobian(self, pose: FloatArray) -> FloatArray:
        """Return d residual / d (translation, rotation in the parent's axes): k x n x 2 x 6."""
        seen = self.seen_from_camera(pose)
        x, y, z = seen[..., 0], seen[..., 1], np.maximum(seen[..., 2], _NEAREST)
        zero = np.zeros_like(z)
        projection = np.stack([np.stack([1 / z, zero, -x / z ** 2], axis=-1),
                               np.stack([zero, 1 / z, -y / z ** 2], axis=-1)], axis=-2)
        rotations = self.parents[:, np.newaxis, :3, :3]
        turned = self.points @ pose[:3, :3].T
        # d (w x p) / dw = -[p]x
        cross = np.zeros((*turned.shape, 3))
        for row, column, axis, sign in ((0, 1, 2, 1), (0, 2, 1, -1), (1, 0, 2, -1), (1, 2, 0, 1),
                                        (2, 0, 1, 1), (2, 1, 0, -1)):
            cross[..., row, column] = sign * turned[..., axis]
        shifted = np.concatenate([np.broadcast_to(rotations, cross.shape), rotations @ cross],
                                 axis=-1)
        result: FloatArray = projection @ shifted * self.focals[:, np.newaxis, np.newaxis,
                                                              np.newaxis]
        return result
