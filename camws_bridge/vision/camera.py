"""
The lens: pixels, rays and rectification for every distortion model of sensor_msgs/CameraInfo.

The optical frame is the field's: x right, y down, z along the view (REP 103). Pixel centres
stand at integers. Formulae: OpenCV's calib3d (plumb_bob, rational_polynomial) and its fisheye
module (equidistant, after Kannala and Brandt 2006).
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from camws_bridge.models import Array, CameraModel, DistortionModel, FloatArray

# The lengths of D that OpenCV's models take, and 0 for a lens without distortion.
_COEFFICIENTS = {
    DistortionModel.PLUMB_BOB: (0, 4, 5),
    DistortionModel.RATIONAL_POLYNOMIAL: (0, 8, 12, 14),
    DistortionModel.EQUIDISTANT: (0, 4),
}


class CalibrationError(ValueError):
    """Intrinsics that cannot be used; the text names the value and what is allowed."""


def make_camera_model(
        width: int, height: int, distortion_model: str, d: FloatArray, k: FloatArray,
        r: FloatArray, p: FloatArray, frame_id: str = '') -> CameraModel:
    """
    Check the fields of a sensor_msgs/CameraInfo and make them a model.

    ``k`` and ``r`` hold 9 values, ``p`` 12, row-major. Raises CalibrationError for a model or a
    number of coefficients that are not known, and for values that are not finite or zero.
    """
    k, r, p = (np.asarray(values, float) for values in (k, r, p))
    d = np.asarray(d, float).ravel()
    if not all(np.all(np.isfinite(values)) for values in (d, k, r, p)):
        raise CalibrationError('camera_info holds a value that is not finite')
    k, r, p = k.reshape(3, 3), r.reshape(3, 3), p.reshape(3, 4)
    if k[0, 0] <= 0 or k[1, 1] <= 0:
        raise CalibrationError(
            f'camera_info has focal lengths {k[0, 0]:g}, {k[1, 1]:g}: the camera is not '
            'calibrated')
    # A driver that fills no model and no coefficients describes a lens without distortion.
    name = distortion_model or DistortionModel.PLUMB_BOB.value
    try:
        model = DistortionModel(name)
    except ValueError:
        allowed = ', '.join(known.value for known in DistortionModel)
        raise CalibrationError(
            f"camera_info has distortion_model '{name}'; allowed: {allowed}") from None
    if len(d) not in _COEFFICIENTS[model]:
        raise CalibrationError(
            f'camera_info has {len(d)} distortion coefficients; '
            f'{name} takes {" or ".join(map(str, _COEFFICIENTS[model]))}')
    return CameraModel(width, height, model, k, d, r, p, frame_id)


def without_distortion(camera: CameraModel) -> CameraModel:
    """Return the model of the rectified image: P's intrinsics (K's when P is empty), no D."""
    k = camera.p[:, :3] if camera.p[0, 0] > 0 else camera.k
    return CameraModel(camera.width, camera.height, DistortionModel.PLUMB_BOB, k.copy(),
                       np.zeros(0), np.eye(3), np.hstack([k, np.zeros((3, 1))]), camera.frame_id)


def is_rectified(camera: CameraModel) -> bool:
    """Tell whether rectifying would leave the image as it is: no D, no R, P as K."""
    turned = np.any(camera.r) and not np.array_equal(camera.r, np.eye(3))
    return not (camera.is_distorted or turned
                or not np.array_equal(without_distortion(camera).k, camera.k))


def cut_and_binned(camera: CameraModel, offset: tuple[int, int], size: tuple[int, int],
                   binning: tuple[int, int]) -> CameraModel:
    """
    Return the model of an image that shows a part of the sensor, its pixels binned.

    ``offset`` and ``size`` (x, y) are in pixels of the sensor, as ``camera`` describes it.
    Formula: image_geometry's PinholeCameraModel (sensor_msgs/CameraInfo, binning and roi).
    """
    if offset == (0, 0) and size == (camera.width, camera.height) and binning == (1, 1):
        return camera
    k, p = camera.k.copy(), camera.p.copy()
    for matrix in (k, p):
        for axis in (0, 1):
            matrix[axis, 2] -= offset[axis]
            matrix[axis] /= binning[axis]
    return replace(camera, width=size[0] // binning[0], height=size[1] // binning[1], k=k, p=p)


def undistort_points(camera: CameraModel, pixels: Array) -> FloatArray:
    """Return normalised image coordinates (n x 2, at z = 1) of pixels (n x 2)."""
    points = np.asarray(pixels, np.float64).reshape(-1, 1, 2)
    if camera.model is DistortionModel.EQUIDISTANT and len(camera.d):
        undistorted = cv2.fisheye.undistortPoints(points, camera.k, camera.d)
    else:
        undistorted = _undistort(points, camera.k, _coefficients(camera))
    return np.asarray(undistorted, np.float64).reshape(-1, 2)


def project_points(camera: CameraModel, points: FloatArray) -> FloatArray:
    """Return the pixels (n x 2) of points in the camera's optical frame (n x 3, metres)."""
    points = np.asarray(points, np.float64).reshape(-1, 1, 3)
    zero = np.zeros(3)
    if camera.model is DistortionModel.EQUIDISTANT and len(camera.d):
        pixels = cv2.fisheye.projectPoints(points, zero, zero, camera.k, camera.d)[0]
    else:
        pixels = cv2.projectPoints(points, zero, zero, camera.k, _coefficients(camera))[0]
    return np.asarray(pixels, np.float64).reshape(-1, 2)


def rectification_maps(camera: CameraModel) -> tuple[Array, Array]:
    """Return the two maps for cv2.remap that turn an image into the rectified one (R and P)."""
    size = (camera.width, camera.height)
    target = without_distortion(camera).k
    rotation = camera.r if np.any(camera.r) else np.eye(3)
    if camera.model is DistortionModel.EQUIDISTANT and len(camera.d):
        return cv2.fisheye.initUndistortRectifyMap(
            camera.k, camera.d, rotation, target, size, cv2.CV_16SC2)
    return cv2.initUndistortRectifyMap(
        camera.k, _coefficients(camera), rotation, target, size, cv2.CV_16SC2)


def _undistort(points: Array, k: FloatArray, d: FloatArray) -> Array:
    # Far corners of wide lenses need more than OpenCV's five iterations.
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-9)
    # OpenCV 4 has a function of its own for that, which 5 has merged with the other.
    iterate: Callable[..., Array] | None = getattr(cv2, 'undistortPointsIter', None)
    if iterate is not None:
        return iterate(points, k, d, None, None, criteria)
    return cv2.undistortPoints(points, k, d, None, None, None, criteria)


def _coefficients(camera: CameraModel) -> FloatArray:
    return camera.d if len(camera.d) else np.zeros(4)
