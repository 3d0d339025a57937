"""
Printed sheets (a board, a marker) as textures whose edges stand exactly where they should.

A texel is the print blurred by a Gaussian and evaluated in its closed form, by products of the
normal distribution along the two axes of each square: nothing is sampled, so nothing aliases.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
from scipy.special import ndtr

from camws_bridge.models import Array, FloatArray
from camws_bridge.vision.board_inks import (
    board_inks, Ink, marker_ink, PrintError as PrintError)
from camws_bridge.vision.boards import Board, marker_square

# White round a marker, in its own modules: detectors need at least one.
_QUIET_ZONE_MODULES = 1.0
_BLACK, _WHITE = 28.0, 228.0
# A level holds between _TEXELS_PER_PIXEL / _STEP and _TEXELS_PER_PIXEL texels a pixel.
_TEXELS_PER_PIXEL, _STEP = 2.0, math.sqrt(2.0)
# The lens and the pixel's own area together, a little less than the field notes' 0.58 px because
# the bilinear look-up adds the rest.
_BLUR_PX = 0.5
_BORDER_TEXELS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """
    A printed sheet in its own plane, x right and y up, metres.

    ``area`` is x_min, y_min, x_max, y_max of the paper, ``tint`` its colour (BGR, at most 1).
    """

    area: tuple[float, float, float, float]
    inks: tuple[Ink, ...]
    tint: tuple[float, float, float]

    @property
    def outline(self) -> FloatArray:
        """The corners (4 x 3, metres) of the paper: top left, then clockwise."""
        x0, y0, x1, y1 = self.area
        return np.array([[x0, y1, 0], [x1, y1, 0], [x1, y0, 0], [x0, y0, 0]], float)


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """
    One level of a sheet's pyramid.

    ``image`` is h x w x 4 uint8: BGR times the paper's cover, and what the paper lets through
    (255: nothing is here). ``texel_from_plane`` (3x3) takes metres to texels.
    """

    image: Array
    texel_from_plane: FloatArray
    density: float


def marker_sheet(marker_id: int, length: float, dictionary: str,
                 tint: tuple[float, float, float]) -> Sheet:
    """Return a marker of ``length`` metres with its white quiet zone."""
    ink = marker_ink(marker_square(length), marker_id, dictionary)
    half = length / 2 + _QUIET_ZONE_MODULES * length / len(ink.darkness)
    return Sheet((-half, -half, half, half), (ink,), tint)


def board_sheet(board: Board, tint: tuple[float, float, float]) -> Sheet:
    """Return a board as printed; raises PrintError for one that cannot be drawn."""
    if board.front < 0:
        raise PrintError('only a board with y up (z out of the printed side) can be drawn')
    return Sheet(board.area, board_inks(board), tint)


def levels(sheet: Sheet, coarsest: float, finest: float) -> tuple[Texture, ...]:
    """Return the sheet's textures, finest first, for scales in pixels a metre."""
    count = 1 + max(0, math.ceil(math.log(finest / coarsest, _STEP)))
    return tuple(_draw(sheet, finest * _TEXELS_PER_PIXEL / _STEP ** level)
                 for level in range(count))


def level_for(textures: Sequence[Texture], scale: float) -> Texture:
    """Return the coarsest level that is fine enough for ``scale`` pixels a metre."""
    wanted = scale * _TEXELS_PER_PIXEL / _STEP
    return next((texture for texture in reversed(textures) if texture.density >= wanted),
                textures[0])


def _draw(sheet: Sheet, density: float) -> Texture:
    x0, y0, x1, y1 = sheet.area
    width, height = (math.ceil((high - low) * density) + 2 * _BORDER_TEXELS
                     for low, high in ((x0, x1), (y0, y1)))
    # Texel centres stand at integers, as OpenCV's pixels do; rows go down while y goes up.
    shift = _BORDER_TEXELS - 0.5
    texel_from_plane = np.array([[density, 0, shift - x0 * density],
                                 [0, -density, shift + y1 * density], [0, 0, 1]])
    paper = Ink(np.array([x0, y1]), np.array([x1 - x0, 0.0]), np.array([0.0, y0 - y1]),
                np.ones((1, 1)))
    cover, darkness = np.zeros((height, width)), np.zeros((height, width))
    _add_ink(cover, paper, texel_from_plane)
    for ink in sheet.inks:
        _add_ink(darkness, ink, texel_from_plane)
    gray = np.clip(_WHITE * cover - (_WHITE - _BLACK) * darkness, 0, 255)
    planes = [*(gray * share for share in sheet.tint), 255 * (1 - cover)]
    image = np.rint(np.stack(planes, axis=2)).astype(np.uint8)
    return Texture(image, texel_from_plane, density)


def _add_ink(target: FloatArray, ink: Ink, texel_from_plane: FloatArray) -> None:
    """Add one blurred rectangle of modules to ``target`` (h x w), only round itself."""
    sigma = _BLUR_PX * _TEXELS_PER_PIXEL / math.sqrt(_STEP)
    linear = texel_from_plane[:2, :2]
    corner = linear @ ink.corner + texel_from_plane[:2, 2]
    right, down = linear @ ink.right, linear @ ink.down
    ends = np.array([corner, corner + right, corner + down, corner + right + down])
    low = np.maximum(np.floor(ends.min(0) - 5 * sigma).astype(int), 0)
    high = np.minimum(np.ceil(ends.max(0) + 5 * sigma).astype(int) + 1, target.shape[::-1])
    x = np.arange(low[0], high[0])[np.newaxis, :] - corner[0]
    y = np.arange(low[1], high[1])[:, np.newaxis] - corner[1]
    rows, columns = ink.darkness.shape
    across = _shares(x, y, right, columns, sigma)
    along = _shares(x, y, down, rows, sigma) @ ink.darkness
    target[low[1]:high[1], low[0]:high[0]] += np.einsum('hwc,hwc->hw', across, along)


def _shares(x: FloatArray, y: FloatArray, edge: FloatArray, modules: int,
            sigma: float) -> FloatArray:
    """
    Return how much of each module along ``edge`` a texel sees (h x w x modules, sum <= 1).

    ``x`` (1 x w) and ``y`` (h x 1) are texels from the edge's start. An edge along an axis leaves
    the other dimension at 1, which makes boards with straight markers a hundred times cheaper.
    """
    length = float(np.hypot(*edge))
    direction = edge / length
    terms = [place * share for place, share in zip((x, y), direction, strict=True)
             if abs(share) > 1e-12]
    position = sum(terms[1:], terms[0])
    borders = np.linspace(0.0, length, modules + 1)
    reached: FloatArray = ndtr((borders - position[..., np.newaxis]) / sigma)
    return np.diff(reached, axis=-1)
