"""Where the image shows the points of an object: by its pose, or by a homography without one."""
from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from camws_bridge.models import CameraModel, FloatArray
from camws_bridge.vision.camera import project_points
from camws_bridge.vision.geometry import transform_points

# Takes points of an object (n x 3, metres) to pixels (n x 2); None when one of them is not in
# front of the camera.
Projection = Callable[[FloatArray], 'FloatArray | None']

_NEAREST = 1e-3


def by_pose(camera: CameraModel, camera_from_object: FloatArray) -> Projection:
    """Return the projection of an object whose pose is known, lens distortion included."""
    def project(points: FloatArray) -> FloatArray | None:
        in_camera = transform_points(camera_from_object, points)
        if np.any(in_camera[:, 2] < _NEAREST):
            return None
        return project_points(camera, in_camera)
    return project


def by_homography(points: FloatArray, pixels: FloatArray) -> Projection | None:
    """
    Return the projection of a flat object without calibration, from points seen on it.

    ``points`` is n x 3 (metres, z = 0), ``pixels`` n x 2; lens distortion is left in. None when
    the points are not flat or do not determine it.
    """
    if len(points) < 4 or np.any(np.abs(points[:, 2]) > 1e-9):
        return None
    homography, _ = cv2.findHomography(points[:, :2], pixels)
    if homography is None:
        return None
    # Scaled so that what is seen has positive depth, whatever sign the solver chose.
    depths = points[:, :2] @ homography[2, :2] + homography[2, 2]
    matrix = homography * np.sign(depths.mean())

    def project(outline: FloatArray) -> FloatArray | None:
        mapped = np.column_stack([outline[:, :2], np.ones(len(outline))]) @ matrix.T
        if np.any(mapped[:, 2] <= 0):
            return None
        result: FloatArray = mapped[:, :2] / mapped[:, 2:]
        return result
    return project
