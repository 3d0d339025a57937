"""
A camera with a known truth: a board and single markers that move before a textured wall.

Everything that a real camera adds is in the picture (lens distortion, blur, noise) and the poses
are known exactly. Formula: a plane M = [r1 r2 t] maps its points (x, y, 1) to rays, so that its
inverse takes each pixel's ray to the point it sees; the third row of the inverse is 1 / z.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from camws_bridge.demo.background import draw_wall
from camws_bridge.demo.motion import Cell, fit, Motion
from camws_bridge.demo.textures import (
    board_sheet,
    level_for,
    levels,
    marker_sheet,
    PrintError,
    Sheet,
    Texture,
)
from camws_bridge.models import Array, CameraModel, FloatArray
from camws_bridge.vision.boards import Board
from camws_bridge.vision.camera import make_camera_model, project_points, undistort_points
from camws_bridge.vision.geometry import transform_points

_FOCAL_PX, _FOCAL_WIDTH = 600.0, 640.0
_DISTORTION = np.array([-0.12, 0.05, 0.001, -0.0005, 0.0])
# The board lives in the left part of the image, the markers in rows of the right part.
_BOARD_SHARE = 0.66
_EDGE = 0.015
_NOISE_SHIFT = 64
# OpenCV's type stubs do not know that one map of two channels is enough.
_NO_MAP: Any = None
_TINTS = ((0.94, 1.0, 1.0), (1.0, 0.97, 0.92), (0.95, 1.0, 0.95), (0.95, 0.95, 1.0))


@dataclass(frozen=True, slots=True)
class SceneMarker:
    """A single marker of the scene: its id and side (metres)."""

    marker_id: int
    length: float


MARKERS = (SceneMarker(40, 0.05), SceneMarker(41, 0.05), SceneMarker(42, 0.08))


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Where everything is: 4x4 poses in the camera's optical frame, markers by id."""

    camera_from_board: FloatArray
    camera_from_marker: dict[int, FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class _Actor:
    sheet: Sheet
    motion: Motion
    textures: tuple[Texture, ...]
    outline: FloatArray


class Scene:
    """Renders the scene of any time, in colour and depth."""

    def __init__(self, board: Board, width: int = 640, height: int = 480, noise: float = 2.0,
                 seed: int = 0, markers: Sequence[SceneMarker] = MARKERS,
                 frame_id: str = '') -> None:
        """
        Draw what never changes.

        ``noise`` is the standard deviation of the pixels' noise (gray values). Raises PrintError
        for a board that cannot be drawn or that has the id of a single marker.
        """
        for marker in markers:
            if marker.marker_id in board.marker_ids:
                raise PrintError(f'marker id {marker.marker_id} is that of a single marker')
        self.camera = demo_camera_model(width, height, frame_id)
        self._markers = tuple(markers)
        self._rays = _rays(self.camera)
        self._actors = self._make_actors(board)
        # Whatever the board's size, the wall stands behind everything.
        farthest = max(actor.motion.far for actor in self._actors)
        rng = np.random.default_rng(seed)
        self._wall, self._wall_depth = draw_wall(self._rays, max(1.0, farthest) * 1.8, rng)
        self._brighter, self._darker = _noise_images(rng, noise, width, height)
        self._shifts = np.random.default_rng(seed)

    def truth(self, t: float) -> Truth:
        """Return all poses at ``t`` seconds."""
        poses = [actor.motion.pose(t) for actor in self._actors]
        return Truth(poses[0], {marker.marker_id: pose
                                for marker, pose in zip(self._markers, poses[1:], strict=True)})

    def render(self, t: float, image: Array | None = None) -> tuple[Array, Array]:
        """
        Return the picture (h x w x 3, uint8, BGR) and the depth (h x w, uint16) at ``t`` seconds.

        Depth is z in millimetres, 0 where there is none. With ``image`` the picture is drawn into
        that array.
        """
        if image is None:
            image = np.empty_like(self._wall)
        np.copyto(image, self._wall)
        depth = self._wall_depth.copy()
        for actor in self._actors:
            self._draw(actor, actor.motion.pose(t), image, depth)
        self._add_noise(image)
        return image, depth

    def _draw(self, actor: _Actor, pose: FloatArray, image: Array, depth: Array) -> None:
        """Draw one sheet into picture and depth, touching only the box it stands in."""
        box = _bounding_box(self.camera, transform_points(pose, actor.outline))
        rays = self._rays[box]
        plane_from_ray = np.linalg.inv(np.column_stack([pose[:3, :2], pose[:3, 3]]))
        texture = level_for(actor.textures, self.camera.k[0, 0] / pose[2, 3])
        texels = cv2.perspectiveTransform(rays, texture.texel_from_plane @ plane_from_ray)
        drawn = cv2.remap(texture.image, texels, _NO_MAP, cv2.INTER_LINEAR,
                          borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0, 255))
        through = cv2.extractChannel(drawn, 3)
        behind = cv2.multiply(image[box], cv2.cvtColor(through, cv2.COLOR_GRAY2BGR),
                              scale=1 / 255)
        cv2.add(behind, cv2.cvtColor(drawn, cv2.COLOR_BGRA2BGR), dst=image[box])
        per_metre = cv2.transform(rays, plane_from_ray[2:])
        millimetres = cv2.divide(1000.0, per_metre, dtype=cv2.CV_16U)
        solid = cv2.threshold(through, 127, 255, cv2.THRESH_BINARY_INV)[1]
        cv2.copyTo(millimetres, solid, depth[box])

    def _add_noise(self, image: Array) -> None:
        # Another part of one large noise image for each picture: as good as new noise, and free.
        height, width = image.shape[:2]
        x, y = self._shifts.integers(0, _NOISE_SHIFT, 2)
        part = np.s_[y:y + height, x:x + width]
        cv2.add(image, self._brighter[part], dst=image)
        cv2.subtract(image, self._darker[part], dst=image)

    def _make_actors(self, board: Board) -> tuple[_Actor, ...]:
        dictionary = board.dictionary
        board_cell, marker_cells = _cells(self._rays, len(self._markers))
        sheets = [board_sheet(board, _TINTS[0])]
        motions = [Motion(board_cell, 0.56, 0.96, 0.4)]
        for index, (marker, cell) in enumerate(zip(self._markers, marker_cells, strict=True)):
            tint = _TINTS[1 + index % (len(_TINTS) - 1)]
            sheets.append(marker_sheet(marker.marker_id, marker.length, dictionary, tint))
            # Smaller markers stay nearer, as one would place them.
            away = marker.length / 0.08 * 0.1
            motions.append(Motion(cell, 0.45 + away, 0.85 + away, 1.0 + 1.9 * index))
        return tuple(map(self._make_actor, sheets, motions))

    def _make_actor(self, sheet: Sheet, motion: Motion) -> _Actor:
        motion = fit(motion, sheet.outline)
        focal = float(self.camera.k[0, 0])
        return _Actor(sheet, motion, levels(sheet, focal / motion.far, focal / motion.near),
                      _dense_outline(sheet.outline))


def demo_camera_model(width: int, height: int, frame_id: str = '') -> CameraModel:
    """Return the demo camera's intrinsics at a size: 600 px of focal length at 640 px width."""
    focal = _FOCAL_PX * width / _FOCAL_WIDTH
    # A little off the middle, as in every real camera.
    k = np.array([[focal, 0, (width - 1) / 2 + 0.004 * width],
                  [0, focal, (height - 1) / 2 - 0.005 * height], [0, 0, 1]])
    p = np.hstack([k, np.zeros((3, 1))])
    return make_camera_model(width, height, 'plumb_bob', _DISTORTION, k, np.eye(3), p, frame_id)


def _rays(camera: CameraModel) -> Array:
    """Return x and y of each pixel's ray at z = 1 (h x w x 2, float32)."""
    pixels = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=2)
    return undistort_points(camera, pixels.reshape(-1, 2)).astype(np.float32).reshape(pixels.shape)


def _cells(rays: Array, markers: int) -> tuple[Cell, list[Cell]]:
    """Divide the image among the board and the markers."""
    left, right = rays[:, 0, 0].max() + _EDGE, rays[:, -1, 0].min() - _EDGE
    top, bottom = rays[0, :, 1].max() + _EDGE, rays[-1, :, 1].min() - _EDGE
    border = left + _BOARD_SHARE * (right - left)
    rows = np.linspace(top, bottom, markers + 1)
    return (_cell(left, top, border, bottom),
            [_cell(border, rows[i], right, rows[i + 1]) for i in range(markers)])


def _cell(left: float, top: float, right: float, bottom: float) -> Cell:
    return Cell((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2)


def _dense_outline(outline: FloatArray) -> FloatArray:
    """Add points between the corners: the lens bends straight edges outwards."""
    following = np.roll(outline, -1, axis=0)
    return np.concatenate([outline + share * (following - outline)
                           for share in (0.0, 0.25, 0.5, 0.75)])


def _bounding_box(camera: CameraModel, points: FloatArray) -> tuple[slice, slice]:
    pixels = project_points(camera, points)
    low = np.maximum(np.floor(pixels.min(0)).astype(int) - 3, 0)
    high = np.ceil(pixels.max(0)).astype(int) + 4
    return np.s_[low[1]:min(high[1], camera.height), low[0]:min(high[0], camera.width)]


def _noise_images(rng: np.random.Generator, sigma: float, width: int, height: int
                  ) -> tuple[Array, Array]:
    """Return what noise adds and what it takes away, each larger than a picture."""
    shape = (height + _NOISE_SHIFT, width + _NOISE_SHIFT, 3)
    noise = np.rint(sigma * rng.standard_normal(shape, np.float32))
    return (np.clip(noise, 0, 255).astype(np.uint8), np.clip(-noise, 0, 255).astype(np.uint8))
