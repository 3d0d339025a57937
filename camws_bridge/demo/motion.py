"""
The paths of the demo's objects: smooth closed loops, each inside a part of the image of its own.

Parts of the image are given in normalised coordinates (at z = 1, lens distortion removed).
"""
from __future__ import annotations

from dataclasses import dataclass, replace
import math

import cv2
import numpy as np

from camws_bridge.models import FloatArray
from camws_bridge.vision.geometry import from_rotation_translation, transform_points

# All loops close together after this many seconds.
PERIOD_S = 24.0

_TILT, _TILT_SWING = math.radians(30.0), math.radians(16.0)
_ROLL_SWING = math.radians(20.0)
# x right, y down, z away turned to x right, y up, z towards the camera.
_FACING = np.diag([1.0, -1.0, -1.0])
_CHECKED_TIMES = np.linspace(0.0, PERIOD_S, 96, endpoint=False)


@dataclass(frozen=True, slots=True)
class Cell:
    """A part of the image: centre and half size, normalised."""

    u: float
    v: float
    half_u: float
    half_v: float


@dataclass(frozen=True, slots=True)
class Motion:
    """
    A closed loop of a sheet: its centre wanders in a cell, comes and goes, tilts and turns.

    ``near`` and ``far`` bound the centre's z (metres); ``swing`` is the share of the cell's half
    size that the centre covers; ``phase`` (radians) tells the objects apart.
    """

    cell: Cell
    near: float
    far: float
    phase: float
    swing: float = 1.0

    def pose(self, t: float) -> FloatArray:
        """Return camera_from_sheet (4x4) at ``t`` seconds."""
        angle, phase = 2 * math.pi * t / PERIOD_S, self.phase
        u = self.cell.u + self.swing * self.cell.half_u * math.sin(angle + phase)
        v = self.cell.v + self.swing * self.cell.half_v * math.sin(2 * angle + 1.7 * phase)
        z = (self.near + self.far) / 2 + (self.far - self.near) / 2 * math.sin(angle + 2 * phase)
        tilt = _TILT + _TILT_SWING * math.sin(2 * angle + phase + 1.0)
        towards = angle + 2.3 * phase
        roll = _ROLL_SWING * math.sin(angle + 3.1 * phase)
        # The tilt counts from the line of sight: it is what a detector and a solver feel.
        rotation = (_look_along(u, v) @ _rotation(tilt * math.cos(towards),
                                                  tilt * math.sin(towards), 0.0)
                    @ _FACING @ _rotation(0.0, 0.0, roll))
        return from_rotation_translation(rotation, np.array([u * z, v * z, z]))


def fit(motion: Motion, outline: FloatArray) -> Motion:
    """
    Return the motion with the largest swing that keeps a sheet inside its cell all the time.

    ``outline`` (n x 3, metres) is the sheet's. One too large for the cell at these distances
    moves away until it fits.
    """
    while True:
        for swing in (0.8, 0.65, 0.5, 0.4, 0.3, 0.2):
            candidate = replace(motion, swing=swing)
            if all(_is_inside(candidate, outline, float(t)) for t in _CHECKED_TIMES):
                return candidate
        motion = replace(motion, near=1.03 * motion.near, far=1.03 * motion.far)


def _is_inside(motion: Motion, outline: FloatArray, t: float) -> bool:
    points = transform_points(motion.pose(t), outline)
    if points[:, 2].min() <= 0:
        return False
    offset = np.abs(points[:, :2] / points[:, 2:] - (motion.cell.u, motion.cell.v))
    return bool(np.all(offset < (motion.cell.half_u, motion.cell.half_v)))


def _look_along(u: float, v: float) -> FloatArray:
    """Return the shortest rotation that turns the optical axis to the ray (u, v, 1)."""
    radius = math.hypot(u, v)
    if radius < 1e-12:
        return np.eye(3)
    angle = math.atan(radius)
    return _rotation(-v / radius * angle, u / radius * angle, 0.0)


def _rotation(x: float, y: float, z: float) -> FloatArray:
    return np.asarray(cv2.Rodrigues(np.array([x, y, z]))[0], np.float64)
