"""Rigid transforms as 4x4 matrices (see models.py for the convention)."""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from camws_bridge.models import Array, FloatArray


def from_rotation_translation(rotation: FloatArray, translation: Array) -> FloatArray:
    """Return the 4x4 matrix of a 3x3 rotation and a translation (3 values, metres)."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = np.ravel(translation)
    return matrix


def from_rvec_tvec(rvec: Array, tvec: Array) -> FloatArray:
    """Return the 4x4 matrix of OpenCV's rotation vector (radians) and translation (metres)."""
    return from_rotation_translation(np.asarray(cv2.Rodrigues(rvec)[0], float), tvec)


def from_xyz_rpy(pose: Sequence[float]) -> FloatArray:
    """
    Return the 4x4 matrix of ``[x, y, z, roll, pitch, yaw]`` (metres, radians).

    Fixed axes x, y, z in this order, as in URDF and REP 103.
    """
    rotation = Rotation.from_euler('xyz', pose[3:6]).as_matrix()
    return from_rotation_translation(rotation, np.asarray(pose[:3], float))


def to_quaternion(matrix: FloatArray) -> FloatArray:
    """Return the unit quaternion x, y, z, w with w >= 0."""
    quaternion: FloatArray = Rotation.from_matrix(matrix[:3, :3]).as_quat(canonical=True)
    return quaternion


def from_quaternion(translation: Sequence[float], quaternion: Sequence[float]) -> FloatArray:
    """Return the 4x4 matrix of a translation (metres) and a quaternion x, y, z, w."""
    rotation = Rotation.from_quat(quaternion).as_matrix()
    return from_rotation_translation(rotation, np.asarray(translation, float))


def invert(matrix: FloatArray) -> FloatArray:
    """Return the inverse of a rigid transform: T_a_b becomes T_b_a."""
    rotation = matrix[:3, :3].T
    return from_rotation_translation(rotation, -rotation @ matrix[:3, 3])


def transform_points(matrix: FloatArray, points: FloatArray) -> FloatArray:
    """Take points (n x 3, metres) of frame b into frame a by T_a_b."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def difference(a: FloatArray, b: FloatArray) -> tuple[float, float]:
    """
    Return the distance (metres) and the angle (radians) between two poses.

    The angle follows from the chordal distance |Ra - Rb| = 2 sqrt(2) sin(angle / 2) (Hartley et
    al. 2013, "Rotation Averaging"), which is exact for small angles, too.
    """
    chord = np.linalg.norm(a[:3, :3] - b[:3, :3]) / np.sqrt(8.0)
    return float(np.linalg.norm(a[:3, 3] - b[:3, 3])), float(2.0 * np.arcsin(min(chord, 1.0)))


def square_to_quad(quads: FloatArray) -> FloatArray:
    """
    Return the homographies (n x 3 x 3) of the unit square (0,0 1,0 1,1 0,1) to quads (n x 4 x 2).

    Formula: Heckbert 1989, "Fundamentals of Texture Mapping and Image Warping", section 2.2.3.
    What is no quadrangle gives infinite or undefined numbers.
    """
    x, y = quads[..., 0], quads[..., 1]
    dx1, dx2, dx3 = x[:, 1] - x[:, 2], x[:, 3] - x[:, 2], x[:, 0] - x[:, 1] + x[:, 2] - x[:, 3]
    dy1, dy2, dy3 = y[:, 1] - y[:, 2], y[:, 3] - y[:, 2], y[:, 0] - y[:, 1] + y[:, 2] - y[:, 3]
    area = dx1 * dy2 - dx2 * dy1
    with np.errstate(divide='ignore', invalid='ignore'):
        g, h = (dx3 * dy2 - dx2 * dy3) / area, (dx1 * dy3 - dx3 * dy1) / area
    rows = [x[:, 1] - x[:, 0] + g * x[:, 1], x[:, 3] - x[:, 0] + h * x[:, 3], x[:, 0],
            y[:, 1] - y[:, 0] + g * y[:, 1], y[:, 3] - y[:, 0] + h * y[:, 3], y[:, 0],
            g, h, np.ones_like(g)]
    return np.stack(rows, axis=1).reshape(-1, 3, 3)
