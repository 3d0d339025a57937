"""Image products: pure functions over numpy arrays; colour pictures are BGR, uint8."""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from camws_bridge.models import Array, FloatArray
from camws_bridge.vision.projection import Projection

_GREEN, _YELLOW, _WHITE, _BLACK = (80, 220, 80), (40, 210, 240), (255, 255, 255), (0, 0, 0)
_AXES = ((60, 60, 230), (60, 200, 60), (230, 110, 40))      # x red, y green, z blue
_SHIFT = 4                                                  # OpenCV draws in 1/16 px
# OpenCV's drawing functions overflow on points far outside the image (px).
_FAR = 30000.0
_MAP_STEP = 8                                               # px between exact map points
_MOST_ASPECT = 100                                          # of a straight view of a board


def resize_to_width(image: Array, width: int | None, smooth: bool = True) -> Array:
    """
    Return the image no wider than ``width`` px, in its own aspect ratio; never enlarged.

    ``smooth`` averages; without it every value stays one of the source's (masks, depth).
    """
    if width is None or width >= image.shape[1]:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    method = cv2.INTER_AREA if smooth else cv2.INTER_NEAREST
    return cv2.resize(image, (width, height), interpolation=method)


def drawable(image: Array) -> Array:
    """Return a BGR copy of a gray or BGR image, to draw into."""
    return image.copy() if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)


def rectify(image: Array, maps: tuple[Array, Array]) -> Array:
    """Return the image without lens distortion; ``maps`` come from rectification_maps."""
    return cv2.remap(image, maps[0], maps[1], cv2.INTER_LINEAR)


def depth_to_millimetres(depth: Array) -> Array:
    """Return depth (uint16 mm or float32 m) as uint16 mm; 0 = no depth (NaN, infinite, < 0)."""
    if depth.dtype == np.uint16:
        return depth
    # What does not fit into 16 bits is no depth either: clipping would invent a wall at 65.5 m.
    # Comparisons with NaN are false.
    with np.errstate(invalid='ignore', over='ignore'):
        millimetres = np.rint(depth * np.float32(1000.0))
        fits = (millimetres > 0) & (millimetres <= 65535)
    result: Array = np.where(fits, millimetres, 0).astype(np.uint16)
    return result


def colour_depth(depth: Array, min_m: float, max_m: float) -> Array:
    """Return depth in false colour from ``min_m`` (blue) to ``max_m`` (red); no depth = black."""
    millimetres = depth_to_millimetres(depth)
    steps = _depth_steps(min_m, max_m)[millimetres]
    coloured: Array = cv2.applyColorMap(steps, cv2.COLORMAP_TURBO)
    coloured[millimetres == 0] = 0
    return coloured


@lru_cache(maxsize=4)
def _depth_steps(min_m: float, max_m: float) -> Array:
    """Return the place of each of the 65536 depths (mm) between two limits, from 0 to 255."""
    steps = (np.arange(65536, dtype=np.float32) / 1000.0 - min_m) / (max_m - min_m)
    table: Array = np.clip(steps * 255.0, 0, 255).astype(np.uint8)
    return table


def outline_mask(width: int, height: int, outlines: Sequence[Array]) -> Array:
    """Return an 8-bit mask (h, w): 255 inside the outlines (each n x 2 px), 0 elsewhere."""
    mask = np.zeros((height, width), np.uint8)
    for outline in outlines:
        # One by one: overlapping outlines in one call would cut holes.
        cv2.fillPoly(mask, [_fixed_point(outline)], 255, cv2.LINE_8, _SHIFT)
    return mask


def trace_outline(project: Projection, corners: FloatArray,
                  points_per_edge: int = 16) -> FloatArray | None:
    """
    Return where the image shows a polygon (n x 3 corners, metres), edges bent by the lens.

    The result is m x 2 px; None when part of the polygon is not in front of the camera.
    """
    steps = np.linspace(0.0, 1.0, points_per_edge, endpoint=False)[:, None]
    edges = [start + (end - start) * steps
             for start, end in zip(corners, np.roll(corners, -1, axis=0))]
    return project(np.concatenate(edges))


def draw_marker(image: Array, corners: FloatArray, label: str) -> None:
    """Draw a marker's outline, its first corner and its label into ``image``."""
    cv2.polylines(image, [_fixed_point(corners)], True, _GREEN, 2, cv2.LINE_AA, _SHIFT)
    first = tuple(int(value) for value in np.rint(corners[0]))
    cv2.circle(image, first, 4, _AXES[0], -1, cv2.LINE_AA)
    draw_text(image, label, corners.mean(axis=0))


def draw_area(image: Array, outline: FloatArray) -> None:
    """Tint and outline an area (n x 2 px) in ``image``."""
    outline = np.clip(outline, -_FAR, _FAR)
    x, y, width, height = cv2.boundingRect(np.rint(outline).astype(np.int32))
    left, top = max(x, 0), max(y, 0)
    part = image[top:max(y + height, 0), left:max(x + width, 0)]
    if part.size:
        tinted = part.copy()
        cv2.fillPoly(tinted, [_fixed_point(outline - (left, top))], _YELLOW, cv2.LINE_8, _SHIFT)
        cv2.addWeighted(tinted, 0.15, part, 0.85, 0.0, part)
    cv2.polylines(image, [_fixed_point(outline)], True, _YELLOW, 2, cv2.LINE_AA, _SHIFT)


def draw_axes(image: Array, project: Projection, length: float, label: str = '') -> None:
    """Draw the axes of a frame (``length`` in metres; x red, y green, z blue) into ``image``."""
    pixels = project(np.vstack([np.zeros(3), np.eye(3) * length]))
    if pixels is None:
        return
    origin, *ends = _fixed_point(pixels).reshape(-1, 2).tolist()
    for end, colour in zip(ends, _AXES):
        cv2.line(image, origin, end, colour, 2, cv2.LINE_AA, _SHIFT)
    if label:
        draw_text(image, label, pixels[0])


def draw_text(image: Array, text: str, place: FloatArray) -> None:
    """Write ``text`` (ASCII) with its lower left corner at ``place`` (px), readable anywhere."""
    at = tuple(int(value) for value in np.clip(place, -_FAR, _FAR))
    for colour, thickness in ((_BLACK, 3), (_WHITE, 1)):
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thickness,
                    cv2.LINE_AA)


def board_view_map(project: Projection, area: tuple[float, float, float, float],
                   width: int) -> Array | None:
    """
    Return where each pixel of the straight view of a board lies in the image.

    The result is (h, w, 2) float32 px, for cv2.remap, the lens included: exact on a grid of
    8 px, linear between. ``area`` is left, bottom, right, top. None when part of the board is not
    in front of the camera, and for an area that is no more than a line, as that of markers on a
    wall.
    """
    x0, y0, x1, y1 = area
    across, along = x1 - x0, abs(y1 - y0)
    if min(across, along) * _MOST_ASPECT < max(across, along, 1e-6):
        return None
    height = max(1, round(width * along / across))
    # A small view has large steps in the image: more exact points, up to one for each pixel.
    columns, rows = (max(min(size, 32), size // _MAP_STEP + 1) for size in (width, height))
    xs, ys = np.meshgrid(np.linspace(0.5, width - 0.5, columns) / width,
                         np.linspace(0.5, height - 0.5, rows) / height)
    on_board = np.stack([x0 + (x1 - x0) * xs, y1 - (y1 - y0) * ys, np.zeros_like(xs)], axis=-1)
    pixels = project(on_board.reshape(-1, 3))
    if pixels is None:
        return None
    coarse = pixels.reshape(rows, columns, 2).astype(np.float32)
    # The coarse map's outer points belong to the view's outer pixels: sample it accordingly.
    at_x, at_y = np.meshgrid(np.linspace(0, columns - 1, width, dtype=np.float32),
                             np.linspace(0, rows - 1, height, dtype=np.float32))
    return cv2.remap(coarse, at_x, at_y, cv2.INTER_LINEAR)


def board_view(image: Array, view_map: Array) -> Array:
    """Return the board seen straight from above; what the image does not show is black."""
    return cv2.remap(image, view_map[..., 0], view_map[..., 1], cv2.INTER_LINEAR)


def _fixed_point(points: Array) -> Array:
    """Return points (n x 2 px) as OpenCV's drawing functions take them, 1/16 px exact."""
    limited = np.clip(points, -_FAR, _FAR)
    scaled = np.rint(limited * (1 << _SHIFT))
    return np.asarray(scaled, np.int32).reshape(-1, 1, 2)
