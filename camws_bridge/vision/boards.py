"""
Boards: markers whose places are known to each other.

The frame of a grid or ChArUco board lies in its printed side: x to the right, y up, z out of it
towards the viewer (as on a REP 103 map when the board lies on the floor); the origin is the
board's centre or its lower left corner.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np

from camws_bridge.models import Array, Detection, FloatArray
from camws_bridge.vision.board_entries import BoardError as BoardError, Entries, shown
from camws_bridge.vision.detection import get_dictionary
from camws_bridge.vision.geometry import from_quaternion, from_xyz_rpy, transform_points

# A marker given by its corners is a square as far as they were measured.
_MOST_SKEW = 0.05
# The standard deviations of corners' coordinates: of a chessboard, of markers not refined.
_CHESSBOARD_SIGMA_PX, _CORNER_SIGMA_PX = 0.05, 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Charuco:
    """The inner chessboard corners (n x 3, metres) and OpenCV's own board to find them."""

    corners: FloatArray
    detector: cv2.aruco.CharucoDetector


@dataclass(frozen=True, slots=True, eq=False)
class Board:
    """
    Markers with known corners in one frame (metres).

    ``corners`` is n x 4 x 3, by index of ``marker_ids``, clockwise from each marker's top left.
    ``area`` is left, bottom, right, top of the printed rectangle at z = 0, as one sees it from
    its front: where y points down (and z into the board) bottom is greater than top.
    ``dictionary`` is the name of the markers' dictionary.
    """

    marker_ids: tuple[int, ...]
    corners: FloatArray
    area: tuple[float, float, float, float]
    dictionary: str
    charuco: Charuco | None = None

    @property
    def outline(self) -> FloatArray:
        """The corners (4 x 3, metres) of ``area``: top left, then clockwise."""
        x0, y0, x1, y1 = self.area
        return np.array([[x0, y1, 0], [x1, y1, 0], [x1, y0, 0], [x0, y0, 0]], float)

    @property
    def front(self) -> float:
        """The sign of z on the printed side: 1, or -1 where z points into the board."""
        return 1.0 if self.area[3] >= self.area[1] else -1.0

    def marker_corners(self, marker_id: int) -> FloatArray:
        """Return the corners (4 x 3, metres) of one marker of the board."""
        found: FloatArray = self.corners[self.marker_ids.index(marker_id)]
        return found

    def match(self, detections: Sequence[Detection]) -> tuple[Detection, ...]:
        """Return the detections that belong to the board; an id seen twice is not trusted."""
        seen = Counter(detection.marker_id for detection in detections)
        return tuple(detection for detection in detections
                     if detection.marker_id in self.marker_ids
                     and seen[detection.marker_id] == 1)

    def correspondences(self, gray: Array, matched: Sequence[Detection]
                        ) -> tuple[FloatArray, FloatArray]:
        """
        Return points of the board (n x 3, metres) and where the image shows them (n x 2, px).

        ChArUco boards give their chessboard corners, which are sharper than the markers', when
        at least four of them are seen and not all in one line.
        """
        return self._correspondences(gray, matched)[:2]

    def weighted_correspondences(self, gray: Array, matched: Sequence[Detection]
                                 ) -> tuple[FloatArray, FloatArray, FloatArray, bool]:
        """
        Return what ``correspondences`` does, and how far each point is to be trusted.

        The third value (n x 2 x 2, px squared) is the covariance of its coordinates, the fourth
        tells whether the points are the markers' corners, four for each in order.
        """
        return self._correspondences(gray, matched)

    def _correspondences(self, gray: Array, matched: Sequence[Detection]
                         ) -> tuple[FloatArray, FloatArray, FloatArray, bool]:
        if self.charuco is not None and matched:
            points, pixels = _charuco_correspondences(self.charuco, gray, matched)
            if np.linalg.matrix_rank(points[:, :2] - points[:, :2].mean(0), 1e-6) == 2:
                return points, pixels, np.tile(
                    _CHESSBOARD_SIGMA_PX ** 2 * np.eye(2), (len(points), 1, 1)), False
        return (*self.marker_correspondences(matched), True)

    def marker_correspondences(self, matched: Sequence[Detection]
                               ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the markers' corners alone: points, pixels and their covariance, as above."""
        points = np.array([self.marker_corners(found.marker_id) for found in matched])
        pixels = np.array([found.corners for found in matched])
        unknown = np.tile(_CORNER_SIGMA_PX ** 2 * np.eye(2), (4, 1, 1))
        covariance = np.array([unknown if found.covariance is None else found.covariance
                               for found in matched])
        return points.reshape(-1, 3), pixels.reshape(-1, 2), covariance.reshape(-1, 2, 2)


def make_board(description: Any, default_dictionary: str) -> Board:
    """Make a board of the mapping that a board file holds; raises BoardError."""
    entries = Entries(description, 'the file')
    kind = entries.choice('type', tuple(_MAKERS))
    dictionary = entries.text('dictionary', default_dictionary)
    try:
        get_dictionary(dictionary)
    except ValueError as error:
        raise BoardError(f'dictionary: {error}') from error
    board = _MAKERS[kind](entries, dictionary)
    entries.check_all_used()
    return board


def board_of_markers(marker_ids: Sequence[int], corners: Sequence[FloatArray], dictionary: str,
                     margin: float = 0.0) -> Board:
    """
    Return the board of single markers: ids and corners (4 x 3 each, metres).

    Its area is what they fill and a ``margin`` (metres). Raises BoardError for an id that stands
    twice or is not in the dictionary.
    """
    check_ids(marker_ids, dictionary)
    for marker_id in marker_ids:
        if marker_ids.count(marker_id) > 1:
            raise BoardError(f'marker id {marker_id} stands twice on the board')
    places = np.array(corners)
    points = places.reshape(-1, 3)
    (x0, y0), (x1, y1) = points[:, :2].min(0) - margin, points[:, :2].max(0) + margin
    area = (float(x0), float(y0), float(x1), float(y1))
    if _all_face_away(places):
        area = (area[0], area[3], area[2], area[1])
    return Board(tuple(marker_ids), places, area, dictionary)


def make_grid(columns: int, rows: int, length: float, gap: float, first_id: int,
              dictionary: str) -> tuple[tuple[int, ...], FloatArray]:
    """
    Return ids and corners (n x 4 x 3, metres) of a grid, row by row from the top left.

    The origin is its lower left corner. Raises BoardError for ids the dictionary does not have.
    """
    ids = _consecutive_ids(first_id, columns * rows, dictionary)
    height = rows * (length + gap) - gap
    centres = [(length / 2 + column * (length + gap),
                height - length / 2 - row * (length + gap), 0.0)
               for row in range(rows) for column in range(columns)]
    return ids, np.array([marker_square(length) + centre for centre in centres])


def marker_square(length: float) -> FloatArray:
    """Return the corners (4 x 3, metres) of a marker in its own frame, from its top left."""
    half = length / 2
    return np.array([[-half, half, 0], [half, half, 0], [half, -half, 0], [-half, -half, 0]])


def _make_grid(entries: Entries, dictionary: str) -> Board:
    columns, rows = entries.count('markers_x'), entries.count('markers_y')
    length, gap = entries.length('marker_length_m'), entries.length('separation_m')
    margin = entries.length('margin_m', default=0.0)
    first = entries.count('first_id', default=0, least=0)
    ids, corners = make_grid(columns, rows, length, gap, first, dictionary)
    width = columns * (length + gap) - gap + 2 * margin
    height = rows * (length + gap) - gap + 2 * margin
    shift = _origin_shift(entries, width, height)
    return Board(ids, corners + shift + (margin, margin, 0), _area(shift, width, height),
                 dictionary)


def _make_charuco(entries: Entries, dictionary: str) -> Board:
    columns, rows = entries.count('squares_x', least=2), entries.count('squares_y', least=2)
    square, marker = entries.length('square_length_m'), entries.length('marker_length_m')
    first = entries.count('first_id', default=0, least=0)
    legacy = entries.flag('legacy_pattern')
    if marker >= square:
        raise BoardError(f'marker_length_m is {marker:g}; allowed: less than square_length_m '
                         f'({square:g})')
    ids = _consecutive_ids(first, columns * rows // 2, dictionary)
    opencv = cv2.aruco.CharucoBoard((columns, rows), square, marker, get_dictionary(dictionary),
                                    np.array(ids, np.int32))
    opencv.setLegacyPattern(legacy)
    width, height = columns * square, rows * square
    # OpenCV counts from the top left corner with y down and z into the board.
    flip = np.array([1.0, -1.0, 1.0])
    corners = np.array(opencv.getObjPoints(), float) * flip + (0, height, 0)
    chessboard = np.array(opencv.getChessboardCorners(), float) * flip + (0, height, 0)
    shift = _origin_shift(entries, width, height)
    charuco = Charuco(chessboard + shift, cv2.aruco.CharucoDetector(opencv))
    return Board(ids, corners + shift, _area(shift, width, height), dictionary, charuco)


def _make_markers(entries: Entries, dictionary: str) -> Board:
    markers = [Entries(entry, f'markers[{index}]')
               for index, entry in enumerate(entries.sequence('markers'))]
    ids, corners = [], []
    for marker in markers:
        ids.append(marker.count('id', least=0))
        corners.append(_marker_in_list(marker))
        marker.check_all_used()
    return board_of_markers(ids, corners, dictionary, entries.length('margin_m', default=0.0))


def _marker_in_list(marker: Entries) -> FloatArray:
    if marker.has('corners'):
        corners = marker.numbers('corners', (4, 3))
        if not _is_square(corners):
            raise marker.error('corners', corners.tolist(), 'the corners of a square, in metres, '
                               "clockwise from the marker's top left")
        return corners
    centre = marker.numbers('center', (3,))
    square = marker_square(marker.length('length_m'))
    if not marker.has('quaternion'):
        rotation = marker.numbers('rotation', (3,), default=(0.0, 0.0, 0.0))
        return transform_points(from_xyz_rpy([*centre, *rotation]), square)
    quaternion = marker.numbers('quaternion', (4,))
    if marker.has('rotation'):
        raise BoardError(f'{marker.where}: rotation and quaternion are both there; allowed: one')
    if abs(np.linalg.norm(quaternion) - 1) > 0.01:
        raise marker.error('quaternion', quaternion.tolist(), 'x, y, z, w of length 1')
    return transform_points(from_quaternion(list(centre), list(quaternion)), square)


def _is_square(corners: FloatArray) -> bool:
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    diagonals = np.linalg.norm(corners[:2] - corners[2:], axis=1)
    ratios = np.append(sides, diagonals / np.sqrt(2)) / max(float(sides.mean()), 1e-9)
    return bool(np.all(np.abs(ratios - 1) < _MOST_SKEW))


def _all_face_away(corners: FloatArray) -> bool:
    """Tell whether all markers (n x 4 x 3) are printed on the side where z is negative."""
    right, up = corners[:, 1] - corners[:, 0], corners[:, 0] - corners[:, 3]
    return bool(np.all(right[:, 0] * up[:, 1] < right[:, 1] * up[:, 0]))


def _consecutive_ids(first: int, count: int, dictionary: str) -> tuple[int, ...]:
    # Checked before anything is made of them: a slip of the key can ask for a billion markers.
    check_ids((first, first + count - 1), dictionary)
    return tuple(range(first, first + count))


def check_ids(marker_ids: Sequence[int], dictionary: str) -> None:
    """Raise BoardError for an id that the dictionary does not have."""
    capacity = len(get_dictionary(dictionary).bytesList)
    for marker_id in marker_ids:
        if not 0 <= marker_id < capacity:
            raise BoardError(f'marker id {shown(marker_id)} is not in {dictionary}; allowed: 0 to '
                             f'{capacity - 1}')


def _origin_shift(entries: Entries, width: float, height: float) -> FloatArray:
    """Return what moves a board from its lower left corner to the asked origin."""
    if entries.choice('origin', ('center', 'lower_left'), 'center') == 'lower_left':
        return np.zeros(3)
    return np.array([-width / 2, -height / 2, 0.0])


def _area(shift: FloatArray, width: float, height: float) -> tuple[float, float, float, float]:
    x, y = float(shift[0]), float(shift[1])
    return (x, y, x + width, y + height)


def _charuco_correspondences(charuco: Charuco, gray: Array, matched: Sequence[Detection]
                             ) -> tuple[FloatArray, FloatArray]:
    corners = [found.corners.astype(np.float32).reshape(1, 4, 2) for found in matched]
    ids = np.array([found.marker_id for found in matched], np.int32)
    pixels, indices, _, _ = charuco.detector.detectBoard(gray, markerCorners=corners,
                                                         markerIds=ids)
    if indices is None or len(indices) < 4:
        return np.zeros((1, 3)), np.zeros((1, 2))
    return (charuco.corners[np.ravel(indices)],
            np.asarray(pixels, np.float64).reshape(-1, 2) - _charuco_shift())


@cache
def _charuco_shift() -> float:
    """
    Return by how much this OpenCV misplaces ChArUco corners, in x and y (px).

    OpenCV 4 was half a pixel off until opencv/opencv#28380. Builds with and without it are hard
    to tell by their number: it is measured, once, on a board printed on whole pixels.
    """
    board = cv2.aruco.CharucoBoard((3, 3), 1.0, 0.7, get_dictionary('DICT_4X4_50'))
    pixels, indices, _, _ = cv2.aruco.CharucoDetector(board).detectBoard(
        board.generateImage((300, 300)))
    if indices is None:
        return 0.0
    corners = np.asarray(board.getChessboardCorners())[np.ravel(indices), :2]
    expected = corners * 100 - 0.5      # pixel centres stand at integers
    return round(2 * float(np.mean(pixels.reshape(-1, 2) - expected))) / 2


_MAKERS = {'grid': _make_grid, 'charuco': _make_charuco, 'markers': _make_markers}
