"""
Boards: markers whose places are known to each other.

The frame of a grid or ChArUco board lies in its printed side: x to the right, y up, z out of it
towards the viewer (as on a REP 103 map when the board lies on the floor); the origin is the
board's centre or its lower left corner.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from camws_bridge.models import Array, Detection, FloatArray
from camws_bridge.vision.detection import get_dictionary
from camws_bridge.vision.geometry import from_xyz_rpy, transform_points

# The standard deviations of corners' coordinates: of a chessboard, of markers not refined.
_CHESSBOARD_SIGMA_PX, _CORNER_SIGMA_PX = 0.05, 0.3
_LONGEST = 1000.0       # metres: more is a length in other units


class BoardError(ValueError):
    """A board description that cannot be used; the text names the entry and what is allowed."""


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
    ``area`` is x_min, y_min, x_max, y_max of the printed rectangle at z = 0. ``dictionary`` is
    the name of the markers' dictionary.
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


def read_board(path: str, default_dictionary: str) -> Board:
    """
    Read a board file (YAML: see config/boards/); it may name its dictionary itself.

    Raises BoardError, with the path in its text, for anything that is not a board.
    """
    try:
        description = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
        return make_board(description, default_dictionary)
    except OSError as error:
        raise BoardError(f"board file '{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BoardError(f"board file '{path}' is not text: {error}") from error
    except yaml.YAMLError as error:
        raise BoardError(f"board file '{path}' is not YAML: {error}") from error
    except BoardError as error:
        raise BoardError(f"board file '{path}': {error}") from error


def make_board(description: Any, default_dictionary: str) -> Board:
    """Make a board of the mapping that a board file holds; raises BoardError."""
    entries = _Entries(description, 'the file')
    kind = entries.choice('type', tuple(_MAKERS))
    dictionary = entries.text('dictionary', default_dictionary)
    try:
        get_dictionary(dictionary)
    except ValueError as error:
        raise BoardError(f'dictionary: {error}') from error
    board = _MAKERS[kind](entries, dictionary)
    entries.check_all_used()
    _check_ids(board.marker_ids, dictionary)
    if len(set(board.marker_ids)) < len(board.marker_ids):
        raise BoardError('a marker id stands twice on the board')
    return board


def marker_square(length: float) -> FloatArray:
    """Return the corners (4 x 3, metres) of a marker in its own frame, from its top left."""
    half = length / 2
    return np.array([[-half, half, 0], [half, half, 0], [half, -half, 0], [-half, -half, 0]])


def _make_grid(entries: _Entries, dictionary: str) -> Board:
    columns, rows = entries.count('markers_x'), entries.count('markers_y')
    length, gap = entries.length('marker_length_m'), entries.length('separation_m')
    margin = entries.length('margin_m', default=0.0)
    first = entries.count('first_id', default=0, least=0)
    width = columns * (length + gap) - gap + 2 * margin
    height = rows * (length + gap) - gap + 2 * margin
    ids = _consecutive_ids(first, columns * rows, dictionary)
    centres = [(margin + length / 2 + column * (length + gap),
                height - margin - length / 2 - row * (length + gap), 0.0)
               for row in range(rows) for column in range(columns)]
    corners = np.array([marker_square(length) + centre for centre in centres])
    return _place(entries, ids, corners, width, height, dictionary)


def _make_charuco(entries: _Entries, dictionary: str) -> Board:
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


def _make_markers(entries: _Entries, dictionary: str) -> Board:
    markers = [_Entries(entry, f'markers[{index}]')
               for index, entry in enumerate(entries.sequence('markers'))]
    ids, corners = [], []
    for marker in markers:
        ids.append(marker.count('id', least=0))
        corners.append(_marker_in_list(marker))
        marker.check_all_used()
    points = np.array(corners).reshape(-1, 3)
    margin = entries.length('margin_m', default=0.0)
    (x0, y0), (x1, y1) = points[:, :2].min(0) - margin, points[:, :2].max(0) + margin
    return Board(tuple(ids), np.array(corners), (float(x0), float(y0), float(x1), float(y1)),
                 dictionary)


def _marker_in_list(marker: _Entries) -> FloatArray:
    if marker.has('corners'):
        return marker.numbers('corners', (4, 3))
    centre = marker.numbers('center', (3,))
    rotation = marker.numbers('rotation', (3,), default=(0.0, 0.0, 0.0))
    square = marker_square(marker.length('length_m'))
    return transform_points(from_xyz_rpy([*centre, *rotation]), square)


def _place(entries: _Entries, ids: tuple[int, ...], corners: FloatArray, width: float,
           height: float, dictionary: str) -> Board:
    shift = _origin_shift(entries, width, height)
    return Board(ids, corners + shift, _area(shift, width, height), dictionary)


def _consecutive_ids(first: int, count: int, dictionary: str) -> tuple[int, ...]:
    # Checked before anything is made of them: a slip of the key can ask for a billion markers.
    _check_ids((first, first + count - 1), dictionary)
    return tuple(range(first, first + count))


def _check_ids(marker_ids: Sequence[int], dictionary: str) -> None:
    capacity = len(get_dictionary(dictionary).bytesList)
    for marker_id in marker_ids:
        if not 0 <= marker_id < capacity:
            raise BoardError(f'marker id {marker_id} is not in {dictionary}; allowed: 0 to '
                             f'{capacity - 1}')


def _origin_shift(entries: _Entries, width: float, height: float) -> FloatArray:
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


class _Entries:
    """Reads a mapping of a board file entry by entry, with one clear error for a wrong one."""

    def __init__(self, mapping: Any, where: str) -> None:
        if not isinstance(mapping, Mapping):
            raise BoardError(f'{where} must be a mapping of names to values, not '
                             f'{type(mapping).__name__}')
        self._mapping, self._where, self._used = mapping, where, set[str]()

    def has(self, name: str) -> bool:
        return name in self._mapping

    def text(self, name: str, default: str) -> str:
        return str(self._get(name, default))

    def choice(self, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        value = self._get(name, default)
        if value not in allowed:
            raise self._error(name, value, ' or '.join(allowed))
        return str(value)

    def flag(self, name: str) -> bool:
        value = self._get(name, False)
        if not isinstance(value, bool):
            raise self._error(name, value, 'true or false')
        return value

    def count(self, name: str, default: int | None = None, least: int = 1) -> int:
        value = self._get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self._error(name, value, f'a whole number from {least} on')
        return value

    def length(self, name: str, default: float | None = None) -> float:
        value = self._get(name, default)
        least = 0.0 if default is not None else 1e-6
        if not _is_number(value) or not least <= value <= _LONGEST:
            raise self._error(name, value, 'a length in metres')
        return float(value)

    def numbers(self, name: str, shape: tuple[int, ...], default: Any = None) -> FloatArray:
        value = self._get(name, default)
        try:
            array = np.array(value, np.float64)
        except (TypeError, ValueError, OverflowError):
            array = np.zeros(0)
        if array.shape != shape or not np.all(np.isfinite(array)):
            wanted = ' x '.join(map(str, shape))
            raise self._error(name, value, f'{wanted} numbers (metres or radians)')
        return array

    def sequence(self, name: str) -> Sequence[Any]:
        value = self._get(name, None)
        if not isinstance(value, list) or not value:
            raise self._error(name, value, 'a list with at least one entry')
        return value

    def check_all_used(self) -> None:
        unknown = sorted(str(name) for name in set(self._mapping) - self._used)
        if unknown:
            raise BoardError(f'{self._where}: {", ".join(unknown)} is not known here; known: '
                             f'{", ".join(sorted(self._used))}')

    def _get(self, name: str, default: Any) -> Any:
        self._used.add(name)
        value = self._mapping.get(name, default)
        if value is None:
            raise BoardError(f'{self._where}: {name} is missing')
        return value

    def _error(self, name: str, value: Any, allowed: str) -> BoardError:
        return BoardError(f'{self._where}: {name} is {value!r}; allowed: {allowed}')


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_MAKERS = {'grid': _make_grid, 'charuco': _make_charuco, 'markers': _make_markers}
