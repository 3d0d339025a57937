"""What is black on a printed board: rectangles of modules, in metres."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from camws_bridge.models import FloatArray
from camws_bridge.vision.boards import Board
from camws_bridge.vision.detection import get_dictionary


class PrintError(ValueError):
    """A board that cannot be drawn; the text says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Ink:
    """
    A rectangle of modules: its top left corner and its two edges (2 values each, metres).

    ``darkness`` (rows x columns) is 1 where a module is black.
    """

    corner: FloatArray
    right: FloatArray
    down: FloatArray
    darkness: FloatArray


def board_inks(board: Board) -> tuple[Ink, ...]:
    """Return all that is printed, in the board's frame; raises PrintError if it is not flat."""
    away = np.abs(board.corners[:, :, 2]).max(axis=1)
    if away.max() > 1e-9:
        marker_id = board.marker_ids[int(away.argmax())]
        raise PrintError(f'only a flat board can be drawn; marker {marker_id} lies '
                         f'{away.max():g} m from z = 0')
    inks = [marker_ink(corners, marker_id, board.dictionary)
            for marker_id, corners in zip(board.marker_ids, board.corners, strict=True)]
    return (*_chessboard(board), *inks)


def marker_ink(corners: FloatArray, marker_id: int, dictionary: str) -> Ink:
    """Return a marker by its corners (4 x 3, metres, clockwise from its top left)."""
    markers = get_dictionary(dictionary)
    if not 0 <= marker_id < len(markers.bytesList):
        raise PrintError(f'marker id {marker_id} is not in {dictionary}')
    modules = cv2.aruco.generateImageMarker(markers, marker_id, markers.markerSize + 2)
    top_left, top_right, _, bottom_left = corners[:, :2]
    return Ink(top_left, top_right - top_left, bottom_left - top_left,
               np.asarray(modules == 0, np.float64))


def _chessboard(board: Board) -> Iterator[Ink]:
    """Yield a ChArUco board's black squares: those that hold no marker."""
    if board.charuco is None:
        return
    x0, y0, x1, y1 = board.area
    square = board.charuco.detector.getBoard().getSquareLength()
    columns, rows = round((x1 - x0) / square), round((y1 - y0) / square)
    cells = (board.corners.mean(axis=1)[:, :2] - (x0, y0)) // square
    white = {(int(column), int(row)) for column, row in cells}
    for column, row in np.ndindex(columns, rows):
        if (column, row) not in white:
            corner = np.array([x0 + column * square, y0 + (row + 1) * square])
            yield Ink(corner, np.array([square, 0.0]), np.array([0.0, -square]), np.ones((1, 1)))
