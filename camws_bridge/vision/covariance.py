"""
How uncertainty of poses walks from frame to frame.

A covariance (6x6) is that of x, y, z (metres) and of rotations about the fixed x, y, z axes of the
frame the pose is expressed in (radians), as in geometry_msgs/PoseWithCovariance: the true pose is
exp(w) R, t + v for small w and v. Formulae: first order, by differentiating products of rigid
transforms (Barfoot 2017, "State Estimation for Robotics", chapter 7).
"""
from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from camws_bridge.models import FloatArray

# 95 % of a normal distribution in three dimensions lie within so many standard deviations.
_SIGMAS_95_IN_3D = 2.7955


def of_inverse(pose: FloatArray, covariance: FloatArray) -> FloatArray:
    """
    Return the covariance of the inverse of a pose (4x4).

    exp(w) R and t + v become R' exp(-w) = exp(-R'w) R' and -R' exp(-w) (t + v): the rotation is
    out by -R'w and the translation by -R'(v + t x w).
    """
    back = pose[:3, :3].T
    jacobian = np.zeros((6, 6))
    jacobian[:3, :3] = jacobian[3:, 3:] = -back
    jacobian[:3, 3:] = -back @ _cross(pose[:3, 3])
    return _symmetric(jacobian @ covariance @ jacobian.T)


def of_product(a: FloatArray, covariance_a: FloatArray | None, b: FloatArray,
               covariance_b: FloatArray | None) -> FloatArray:
    """
    Return the covariance of a @ b, whose errors are independent; None: known exactly.

    The rotation is out by wa + Ra wb and the translation by va + wa x (Ra tb) + Ra vb.
    """
    result = np.zeros((6, 6))
    turn = a[:3, :3]
    if covariance_a is not None:
        jacobian = np.eye(6)
        jacobian[:3, 3:] = -_cross(turn @ b[:3, 3])
        result += jacobian @ covariance_a @ jacobian.T
    if covariance_b is not None:
        jacobian = np.zeros((6, 6))
        jacobian[:3, :3] = jacobian[3:, 3:] = turn
        result += jacobian @ covariance_b @ jacobian.T
    return _symmetric(result)


def difference(pose: FloatArray, other: FloatArray) -> FloatArray:
    """Return the step (6: v, w) that takes ``pose`` to ``other``: what a covariance is of."""
    # Not cv2.Rodrigues, which takes small turns for none.
    turn = Rotation.from_matrix(other[:3, :3] @ pose[:3, :3].T).as_rotvec()
    return np.concatenate([other[:3, 3] - pose[:3, 3], turn])


def position_ellipsoid(covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """
    Return the axes of the ellipsoid that holds the position with 95 %.

    A rotation (3x3, its columns the axes in the frame of the pose) and the half axes (3, metres).
    """
    variances, axes = np.linalg.eigh(covariance[:3, :3])
    if np.linalg.det(axes) < 0:
        axes[:, 0] *= -1
    return axes, _SIGMAS_95_IN_3D * np.sqrt(np.maximum(variances, 0.0))


def _cross(vector: FloatArray) -> FloatArray:
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def _symmetric(matrix: FloatArray) -> FloatArray:
    result: FloatArray = (matrix + matrix.T) / 2
    return result
