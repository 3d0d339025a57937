"""Corners from straight lines fitted to a marker's four edges: the ruler for the renderer."""
from __future__ import annotations

import cv2
import numpy as np

from camws_bridge.models import Array, CameraModel, FloatArray
from camws_bridge.vision.camera import project_points, undistort_points

_SHARES = np.linspace(0.12, 0.88, 28)
_OFFSETS = np.arange(-2.5, 2.51, 0.125)


def measure_corners(camera: CameraModel, gray: Array, near: FloatArray) -> FloatArray:
    """Return the corners (4 x 2 px) of a black square on white from a guess within a pixel."""
    lines = [_line(undistort_points(camera, _edge_points(gray, near[i], near[(i + 1) % 4])))
             for i in range(4)]
    corners = [np.cross(lines[i - 1], lines[i]) for i in range(4)]
    rays = np.array([corner / corner[2] for corner in corners])
    return project_points(camera, rays)


def _edge_points(gray: Array, start: FloatArray, end: FloatArray) -> FloatArray:
    """Return where the brightness rises most along normals of the edge, to the outside."""
    along = (end - start) / np.linalg.norm(end - start)
    normal = np.array([along[1], -along[0]])  # outwards, as corners go clockwise with y down
    points = start + _SHARES[:, np.newaxis] * (end - start)
    places = (points[:, np.newaxis] + _OFFSETS[:, np.newaxis] * normal).astype(np.float32)
    profiles = cv2.remap(gray.astype(np.float32), places, None, cv2.INTER_CUBIC)
    rise = np.clip(np.diff(profiles, axis=1), 0, None)
    # Noise far from the edge would pull the centroid to the window's middle.
    rise[rise < 0.2 * rise.max(axis=1, keepdims=True)] = 0
    middles = (_OFFSETS[1:] + _OFFSETS[:-1]) / 2
    return points + ((rise @ middles) / rise.sum(axis=1))[:, np.newaxis] * normal


def _line(points: FloatArray) -> FloatArray:
    """Return a, b, c of the line a x + b y + c = 0 through points (n x 2), least squares."""
    middle = points.mean(0)
    normal = np.linalg.svd(points - middle)[2][1]
    return np.array([*normal, -normal @ middle])
