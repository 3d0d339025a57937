"""What a method found against the truth: errors in pixels, metres, degrees."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from benchmarks.fiducials.methods import Estimate
from benchmarks.fiducials.renderer import MarkerTruth
from camws_bridge.models import Array, CameraModel, Detection, FloatArray
from camws_bridge.vision.geometry import difference

# A pose that is turned by less is inaccurate; by more, and nearer to the mirrored pose, flipped.
_FLIP_DEGREES = 10.0
# Something found further away than this (in sides) is another thing with the same id.
_SAME_PLACE = 0.5


@dataclass(frozen=True, eq=False)
class Sample:
    """
    One marker of one picture, and what a method made of it.

    ``size`` is its side (px) as if it stood frontal, ``tilt`` the angle (degrees) between its
    normal and the line of sight, ``shortest`` its shortest edge (px) in the picture.
    """

    truth: MarkerTruth
    size: float
    tilt: float
    shortest: float
    corners: FloatArray | None
    estimate: Estimate | None = None

    @property
    def corner_errors(self) -> FloatArray:
        """Distances (4, px) of the corners from the truth; empty when it was not found."""
        if self.corners is None:
            return np.zeros(0)
        distances: FloatArray = np.linalg.norm(self.corners - self.truth.corners, axis=1)
        return distances

    @property
    def edge_shifts(self) -> FloatArray:
        """How far (4, px) the edges lie outside their true places, in the middle."""
        if self.corners is None:
            return np.zeros(0)
        along = np.roll(self.truth.corners, -1, axis=0) - self.truth.corners
        outward = np.column_stack([along[:, 1], -along[:, 0]])
        outward /= np.linalg.norm(along, axis=1, keepdims=True)
        moved = self.corners - self.truth.corners
        shifts: FloatArray = np.sum((moved + np.roll(moved, -1, axis=0)) / 2 * outward, axis=1)
        return shifts


Samples = Sequence[Sample]


def sample_of(camera: CameraModel, truth: MarkerTruth, found: Sequence[Detection]
              ) -> tuple[Sample, Detection | None]:
    """Return the sample of a marker, still without a pose, and what was found of it."""
    pose = truth.camera_from_marker
    sight = pose[:3, 3] / np.linalg.norm(pose[:3, 3])
    sides = np.linalg.norm(truth.corners - np.roll(truth.corners, 1, axis=0), axis=1)
    near = [seen for seen in found if seen.marker_id == truth.marker_id
            and _distance(seen, truth) < _SAME_PLACE * sides.max()]
    best = min(near, key=lambda seen: _distance(seen, truth), default=None)
    return Sample(
        truth, float(camera.k[0, 0] * truth.length / pose[2, 3]),
        float(np.degrees(np.arccos(np.clip(-sight @ pose[:3, 2], -1, 1)))), float(sides.min()),
        None if best is None else best.corners), best


def corner_error(samples: Samples) -> tuple[float, ...]:
    """Return median and 95th percentile (px) of all corners found."""
    errors = [sample.corner_errors for sample in samples]
    return _quantiles(np.concatenate(errors) if errors else np.zeros(0), (50, 95))


def corner_bias(samples: Samples) -> FloatArray:
    """Return the median shift (x, y, px) of all corners found."""
    moved = [sample.corners - sample.truth.corners for sample in samples
             if sample.corners is not None]
    bias: FloatArray = np.median(np.concatenate(moved), axis=0)
    return bias


def recall(samples: Samples) -> float:
    """Return the share of the markers that was found."""
    return float(np.mean([sample.corners is not None for sample in samples]))


def pose_error(samples: Samples) -> tuple[float, ...]:
    """Return the medians of the translation's error (% of the distance) and the rotation's (°)."""
    errors = np.array([_pose_error(sample) for sample in samples if sample.estimate])
    if not len(errors):
        return np.nan, np.nan
    return tuple(np.median(errors, axis=0).tolist())


def flips(samples: Samples) -> tuple[float, float]:
    """Return the share (%) of flipped poses, and of those that are not called ambiguous."""
    solved = [sample for sample in samples if sample.estimate]
    flipped = [sample for sample in solved if is_flipped(sample)]
    silent = [sample for sample in flipped
              if sample.estimate and not sample.estimate.ambiguous]
    count = max(1, len(solved))
    return 100 * len(flipped) / count, 100 * len(silent) / count


def is_flipped(sample: Sample) -> bool:
    """Tell whether the pose is the mirrored one of the planar ambiguity."""
    if sample.estimate is None:
        return False
    true, pose = sample.truth.camera_from_marker, sample.estimate.pose
    sight = true[:3, 3] / np.linalg.norm(true[:3, 3])
    # The other branch has about the normal mirrored at the line of sight.
    normal, found = true[:3, 2], pose[:3, 2]
    mirrored = 2 * (normal @ sight) * sight - normal
    off = np.degrees(difference(true, pose)[1])
    return bool(off > _FLIP_DEGREES and found @ mirrored > found @ normal)


def inside_ellipsoid(samples: Samples, confidence: float = 0.95) -> tuple[float, float]:
    """Return the shares (%) of poses inside their ellipsoid: all six axes; translation alone."""
    return poses_inside([(sample.truth.camera_from_marker, sample.estimate)
                         for sample in samples if sample.estimate], confidence)


def poses_inside(poses: Sequence[tuple[FloatArray, Estimate]], confidence: float = 0.95
                 ) -> tuple[float, float]:
    """Return the same of true poses (4x4) and what was estimated."""
    squared = np.array([_mahalanobis(true, estimate) for true, estimate in poses
                        if estimate.covariance is not None])
    if not len(squared):
        return np.nan, np.nan
    inside = 100 * np.mean(squared <= chi2.ppf(confidence, [6, 3]), axis=0)
    return float(inside[0]), float(inside[1])


def edge_bias(samples: Samples) -> float:
    """Return the median shift (px) of edges away from the markers' middles."""
    return float(np.median(np.concatenate([sample.edge_shifts for sample in samples])))


def pose_difference(true: FloatArray, estimate: FloatArray) -> FloatArray:
    """Return the error's six values: metres, and radians about the camera's axes."""
    turned = Rotation.from_matrix(estimate[:3, :3] @ true[:3, :3].T).as_rotvec()
    return np.concatenate([estimate[:3, 3] - true[:3, 3], turned])


def _mahalanobis(true: FloatArray, estimate: Estimate) -> tuple[float, float]:
    assert estimate.covariance is not None
    error = pose_difference(true, estimate.pose)
    covariance = estimate.covariance
    return (float(error @ np.linalg.solve(covariance, error)),
            float(error[:3] @ np.linalg.solve(covariance[:3, :3], error[:3])))


def _pose_error(sample: Sample) -> tuple[float, float]:
    assert sample.estimate is not None
    true = sample.truth.camera_from_marker
    distance, angle = difference(true, sample.estimate.pose)
    return 100 * distance / float(np.linalg.norm(true[:3, 3])), float(np.degrees(angle))


def _distance(found: Detection, truth: MarkerTruth) -> float:
    return float(np.linalg.norm(found.corners.mean(axis=0) - truth.corners.mean(axis=0)))


def _quantiles(values: Array, percents: Sequence[float]) -> tuple[float, ...]:
    if not len(values):
        return (np.nan,) * len(percents)
    return tuple(np.percentile(values, percents).tolist())
