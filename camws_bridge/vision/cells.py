"""Reading the cells of markers whose corners are known: whether it is the marker expected."""
from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np

from camws_bridge.models import Array, FloatArray
from camws_bridge.vision.geometry import square_to_quad

# Places of a cell that are looked at, in cells from its edge.
_PLACES = (0.3, 0.7)
# White is at least this many gray values brighter than black.
_LEAST_CONTRAST = 12.0
# Cells that may be read wrong: a glint, a speck of dirt.
_MOST_WRONG = 2
# A border is one when this share of its cells is black: corners may be half a cell off.
_LEAST_BORDER = 0.4
_NO_MAP: Any = None


class CellReader:
    """Compares the cells inside of corners with those of the markers of a dictionary."""

    def __init__(self, dictionary: cv2.aruco.Dictionary, border: int = 1) -> None:
        """``border`` is the width of the black border, in modules."""
        self._dictionary = dictionary
        self._border = border
        self.modules = int(self._dictionary.markerSize) + 2 * border
        self._known: dict[int, Array] = {}

    def agrees(self, gray: Array, corners: FloatArray, ids: Sequence[int]) -> Array:
        """
        Tell (n, bool) which of n x 4 x 2 corners (px) hold the cells of the marker of that id.

        An inverted marker, white where it should be black, agrees as well.
        """
        right, contrast = self._compare(gray, corners, ids)
        agree: Array = (np.abs(contrast) >= _LEAST_CONTRAST) & (
            (~right).sum(axis=1) <= _MOST_WRONG)
        return agree

    def holds(self, gray: Array, corners: FloatArray, ids: Sequence[int],
              correction_rate: FloatArray, border_rate: float) -> Array:
        """
        Tell (n, bool) which of n x 4 x 2 corners (px) hold that marker as OpenCV promises it.

        No more cells inside are wrong than the share ``correction_rate`` (n) of what the
        dictionary can correct, and no larger share of the border's than ``border_rate``. Inverted
        markers hold as well.
        """
        right, contrast = self._compare(gray, corners, ids)
        ring = self._ring()
        inside = (~right[:, ~ring]).sum(axis=1)
        most = np.floor(self._dictionary.maxCorrectionBits * np.asarray(correction_rate) + 1e-9)
        holds: Array = (inside <= most) & (contrast != 0) & (
            (~right[:, ring]).mean(axis=1) <= border_rate)
        return holds

    def has_border(self, gray: Array, corners: FloatArray, ids: Sequence[int],
                   inverted: bool = False) -> Array:
        """
        Tell (n, bool) which of n x 4 x 2 corners (px) have a border that is mostly black.

        With ``inverted`` it may be white instead, and the cells as well.
        """
        right, contrast = self._compare(gray, corners, ids)
        share = right[:, self._ring()].mean(axis=1)
        has: Array = (share >= _LEAST_BORDER) & ((contrast > 0) | inverted)
        return has

    def _ring(self) -> Array:
        """Return which cells (row by row, bool) are the border's."""
        ring = np.ones((self.modules, self.modules), bool)
        ring[self._border:-self._border, self._border:-self._border] = False
        return ring.ravel()

    def _compare(self, gray: Array, corners: FloatArray, ids: Sequence[int]
                 ) -> tuple[Array, FloatArray]:
        """Return which cells (n x cells, bool) are as they should be, and white less black."""
        corners = np.asarray(corners, np.float64).reshape(-1, 4, 2)
        if not len(corners):
            return np.zeros((0, self.modules ** 2), bool), np.zeros(0)
        mapped = _places(self.modules) @ square_to_quad(corners).transpose(0, 2, 1)
        with np.errstate(all='ignore'):
            pixels = (mapped[..., :2] / mapped[..., 2:]).astype(np.float32)
        values = cv2.remap(gray, pixels, _NO_MAP, cv2.INTER_LINEAR,
                           borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        cells = values.reshape(len(corners), -1, len(_PLACES) ** 2).mean(axis=2)
        white = np.array([self._white(marker_id) for marker_id in ids])
        count = white.sum(axis=1)
        bright = (cells * white).sum(axis=1) / count
        dark = (cells * ~white).sum(axis=1) / (white.shape[1] - count)
        middle, contrast = (bright + dark) / 2, bright - dark
        right: Array = ((cells > middle[:, None]) == (contrast > 0)[:, None]) == white
        return right, contrast.astype(np.float64)

    def _white(self, marker_id: int) -> Array:
        if marker_id not in self._known:
            image = cv2.aruco.generateImageMarker(
                self._dictionary, marker_id, self.modules, borderBits=self._border)
            self._known[marker_id] = np.ravel(image) > 127
        return self._known[marker_id]


@cache
def _places(modules: int) -> FloatArray:
    """Return where to look (cells x places, 3; homogeneous, unit square), row by row of cells."""
    at = (np.arange(modules)[:, None] + _PLACES) / modules
    y, x, v, u = np.meshgrid(np.arange(modules), np.arange(modules), range(2), range(2),
                             indexing='ij')
    columns = at[x.ravel(), u.ravel()], at[y.ravel(), v.ravel()], np.ones(x.size)
    return np.column_stack(columns)
