"""What the tests of vision and services are made of: cameras, poses, rendered boards, frames."""
from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
from hypothesis import settings as hypothesis_settings, strategies as st
import numpy as np

from camws_bridge.models import (
    Array, BoardPose, CameraModel, Frame, MarkerPose, SeenMarker, Stamp, TransformsSnapshot)
from camws_bridge.services.aruco_service import ArucoService
from camws_bridge.services.frame_context import FrameContext
from camws_bridge.settings import Settings
from camws_bridge.vision.boards import Board, make_board
from camws_bridge.vision.camera import make_camera_model, undistort_points
from camws_bridge.vision.detection import get_dictionary
from camws_bridge.vision.geometry import from_xyz_rpy

# The same examples in every run, and no stop-watch: this machine may be busy with something else.
hypothesis_settings.register_profile('camws', max_examples=40, deadline=None, derandomize=True)
hypothesis_settings.load_profile('camws')

ROOT = Path(__file__).resolve().parents[1]
DICTIONARY = 'DICT_5X5_100'
STAMP = Stamp(1795389649, 351806352)
FOCAL, WIDTH, HEIGHT = 420.0, 480, 360

# A mild lens for every model and number of coefficients of sensor_msgs/CameraInfo.
LENSES: dict[str, tuple[str, tuple[float, ...]]] = {
    'plumb_bob-0': ('plumb_bob', ()),
    'plumb_bob-4': ('plumb_bob', (-0.2, 0.06, 0.001, -0.0008)),
    'plumb_bob-5': ('plumb_bob', (-0.2, 0.06, 0.001, -0.0008, -0.01)),
    'rational-8': ('rational_polynomial', (0.3, 0.05, 0.001, -0.0008, 0.004, 0.5, 0.09, 0.01)),
    'rational-12': ('rational_polynomial', (0.3, 0.05, 0.001, -0.0008, 0.004, 0.5, 0.09, 0.01,
                                            0.002, -0.001, 0.001, 0.002)),
    'rational-14': ('rational_polynomial', (0.3, 0.05, 0.001, -0.0008, 0.004, 0.5, 0.09, 0.01,
                                            0.002, -0.001, 0.001, 0.002, 0.02, -0.03)),
    'equidistant-0': ('equidistant', ()),
    'equidistant-4': ('equidistant', (-0.03, 0.01, -0.004, 0.001)),
}


@cache
def make_camera(lens: str = 'plumb_bob-5', r: tuple[float, ...] = tuple(np.eye(3).ravel()),
                zoom: float = 1.0) -> CameraModel:
    """Return a 480x360 camera; ``zoom`` is P's focal length by K's."""
    model, d = LENSES[lens]
    k = np.array([[FOCAL, 0, 236.0], [0, FOCAL + 3, 183.0], [0, 0, 1]])
    p = np.hstack([k @ np.diag([zoom, zoom, 1]), np.zeros((3, 1))])
    return make_camera_model(WIDTH, HEIGHT, model, d, k, r, p, 'camera_optical')


def facing(x: float = 0.0, y: float = 0.0, z: float = 0.6, tilt: float = 0.0, turn: float = 0.0,
           spin: float = 0.0) -> Array:
    """Return the pose of something printed: at 0, 0, 0 upright on the optical axis."""
    seen_from_front = from_xyz_rpy([x, y, z, np.pi, 0.0, 0.0])
    return seen_from_front @ from_xyz_rpy([0, 0, 0, tilt, turn, spin])


def poses(z: tuple[float, float] = (0.35, 0.9), spread: float = 0.12, tilt: float = 0.9
          ) -> st.SearchStrategy[Array]:
    """Return poses before the camera; ``spread`` is by metre of distance."""
    def pose(x: float, y: float, away: float, a: float, b: float, spin: float) -> Array:
        return facing(x * away, y * away, away, a, b, spin)
    sideways, angle = st.floats(-spread, spread), st.floats(-tilt, tilt)
    return st.builds(pose, sideways, sideways, st.floats(*z), angle, angle, st.floats(-3.1, 3.1))


GRID = {'type': 'grid', 'markers_x': 4, 'markers_y': 3, 'marker_length_m': 0.04,
        'separation_m': 0.01, 'margin_m': 0.01}
CHARUCO = {'type': 'charuco', 'squares_x': 6, 'squares_y': 4, 'square_length_m': 0.04,
           'marker_length_m': 0.03}
MARKER_LIST = {'type': 'markers', 'margin_m': 0.015, 'markers': [
    {'id': 3, 'center': [-0.08, 0.05, 0.0], 'length_m': 0.06},
    {'id': 9, 'center': [0.07, 0.04, 0.0], 'length_m': 0.05, 'rotation': [0, 0, 0.3]},
    {'id': 27, 'corners': [[-0.02, -0.02, 0], [0.05, -0.02, 0], [0.05, -0.09, 0],
                           [-0.02, -0.09, 0]]}]}


def grid_board(**changes: Any) -> Board:
    return make_board({**GRID, **changes}, DICTIONARY)


@dataclass(frozen=True, eq=False)
class Sheet:
    """Something printed: gray (h, w) and the rectangle it fills (x0, y0, x1, y1, metres)."""

    image: Array
    area: tuple[float, float, float, float]


@cache
def marker_sheet(marker_id: int, length: float, dictionary: str = DICTIONARY) -> Sheet:
    """Print one marker with a white border of a quarter of its side."""
    # Whole dots to a cell of 6, 7 or 8 to the side: the edges inside are where they should be.
    side, border = 168, 42
    image = np.full((side + 2 * border,) * 2, 255, np.uint8)
    image[border:-border, border:-border] = cv2.aruco.generateImageMarker(
        get_dictionary(dictionary), marker_id, side)
    half = length * 0.75
    return Sheet(image, (-half, -half, half, half))


def board_sheet(board: Board, dots: float = 2500.0) -> Sheet:
    """Print a flat board of single markers, ``dots`` to the metre."""
    x0, y0, x1, y1 = board.area
    width, height = round((x1 - x0) * dots), round((y1 - y0) * dots)
    sheet = np.full((height, width), 255, np.uint8)
    for marker_id, corners in zip(board.marker_ids, board.corners):
        # Corners of the printed square, between the dots (their centres stand at integers).
        ends = (corners[:, :2] - (x0, y1)) * (dots, -dots) - 0.5
        marker = cv2.aruco.generateImageMarker(get_dictionary(board.dictionary), marker_id, 140)
        square = np.array([[-0.5, -0.5], [139.5, -0.5], [139.5, 139.5], [-0.5, 139.5]])
        to_sheet = cv2.getPerspectiveTransform(square.astype(np.float32),
                                               ends.astype(np.float32))
        cv2.warpPerspective(marker, to_sheet, (width, height), sheet, cv2.INTER_LINEAR,
                            cv2.BORDER_TRANSPARENT)
    return Sheet(sheet, board.area)


def charuco_sheet(board: Board, description: dict[str, Any], dots: int = 100) -> Sheet:
    """Print a ChArUco board with OpenCV's own printer, ``dots`` to a square."""
    columns, rows = description['squares_x'], description['squares_y']
    opencv = cv2.aruco.CharucoBoard(
        (columns, rows), description['square_length_m'], description['marker_length_m'],
        get_dictionary(board.dictionary))
    opencv.setLegacyPattern(description.get('legacy_pattern', False))
    return Sheet(opencv.generateImage((columns * dots, rows * dots)), board.area)


_FINE = 2       # rendered this much larger, then averaged


@cache
def _rays(camera: CameraModel) -> Array:
    """Return the ray (x, y at z = 1) of every fine pixel."""
    xs, ys = ((np.arange(size * _FINE) + 0.5) / _FINE - 0.5
              for size in (camera.width, camera.height))
    pixels = np.stack(np.meshgrid(xs, ys), axis=2).reshape(-1, 2)
    rays = undistort_points(camera, pixels)
    return rays.reshape(len(ys), len(xs), 2).astype(np.float32)


def render(camera: CameraModel, *placed: tuple[Sheet, Array], background: int = 120) -> Array:
    """Return what the camera sees (h, w, uint8) of sheets at camera_from_sheet poses."""
    rays = _rays(camera)
    fine = np.full(rays.shape[:2], background, np.uint8)
    for sheet, pose in placed:
        x0, y0, x1, y1 = sheet.area
        height, width = sheet.image.shape
        dot_from_plane = np.array([[width / (x1 - x0), 0, -x0 * width / (x1 - x0) - 0.5],
                                   [0, -height / (y1 - y0), y1 * height / (y1 - y0) - 0.5],
                                   [0, 0, 1]])
        plane_from_ray = np.linalg.inv(np.column_stack([pose[:3, :2], pose[:3, 3]]))
        dots = cv2.perspectiveTransform(rays, dot_from_plane @ plane_from_ray)
        cv2.remap(sheet.image, dots, None, cv2.INTER_LINEAR, fine, cv2.BORDER_TRANSPARENT)
    return cv2.resize(fine, (camera.width, camera.height), interpolation=cv2.INTER_AREA)


def make_frame(pixels: Array | None, camera: CameraModel | None = None, **changes: Any) -> Frame:
    """Return a frame of gray or BGR pixels."""
    height, width = (HEIGHT, WIDTH) if pixels is None else pixels.shape[:2]
    encoding = 'bgr8' if pixels is not None and pixels.ndim == 3 else 'mono8'
    values = {'seq': 812, 'stamp': STAMP, 'frame_id': 'camera_optical', 'width': width,
              'height': height, 'encoding': encoding, 'pixels': pixels, 'camera': camera}
    return Frame(**{**values, **changes})


@dataclass(frozen=True, eq=False)
class View:
    """A rendered picture and its truth: the board and two single markers."""

    board: Board
    camera: CameraModel
    camera_from_board: Array
    camera_from_marker: dict[int, Array]
    gray: Array


SINGLES = {40: 0.05, 42: 0.08}


@cache
def make_view(lens: str = 'plumb_bob-5') -> View:
    """Return the board beside markers 40 (50 mm) and 42 (80 mm)."""
    board, camera = grid_board(), make_camera(lens)
    on_board = facing(-0.07, -0.02, 0.5, tilt=0.35, turn=0.3, spin=0.1)
    singles = {40: facing(0.16, -0.12, 0.5, tilt=-0.6, turn=0.2, spin=1.0),
               42: facing(0.17, 0.07, 0.52, tilt=0.5, turn=-0.6, spin=-0.4)}
    sheets = [(marker_sheet(marker_id, SINGLES[marker_id]), pose)
              for marker_id, pose in singles.items()]
    gray = render(camera, (board_sheet(board), on_board), *sheets)
    gray.flags.writeable = False        # as a view of a message: whoever draws into it fails
    return View(board, camera, on_board, singles, gray)


SETTINGS = Settings().with_values({
    'markers.length_m': 0.05, 'markers.lengths': ['42:0.08'],
    'robot.pose_in_board': [-0.2, -0.05, 0.01, 0.1, -0.2, 1.5], 'detector.min_perimeter_px': 40.0})


def make_context(frame: Frame, **values: Any) -> FrameContext:
    """Return a frame's context; ``values`` change parameters (``__`` stands for the dot)."""
    changes = {name.replace('__', '.'): value for name, value in values.items()}
    return FrameContext(frame, SETTINGS.with_values(changes))


COVARIANCE = np.diag([1e-8, 2e-8, 9e-8, 4e-6, 5e-6, 1e-6])


def make_snapshot(**changes: Any) -> TransformsSnapshot:
    """Return a snapshot with a board, a marker on it and a single one."""
    corners = np.array([[10.0, 10], [30, 11], [29, 31], [9, 30]])
    values: dict[str, Any] = {
        'seq': 812, 'stamp': STAMP, 'camera_frame_id': 'camera_optical', 'width': WIDTH,
        'height': HEIGHT, 'calibrated': True,
        'seen': (SeenMarker(2, corners, True, 0.04, 0.2, edge_residual_px=0.03, by_edges=4),
                 SeenMarker(7, corners + 50, False, 0.05, 0.3)),
        'markers': (MarkerPose(7, 0.05, facing(0.1, 0.05, 0.7, tilt=0.4), 0.3, True,
                               COVARIANCE * 4, 1.5),),
        'board': BoardPose(facing(-0.1, 0.02, 0.8, turn=0.5, spin=2.0), 12, 0.21, False,
                           COVARIANCE, 7.5, 46, 2),
        'board_absent': ''}
    return TransformsSnapshot(**{**values, **changes})


def make_aruco(board: Board | None = None, **values: Any) -> ArucoService:
    changes = {name.replace('__', '.'): value for name, value in values.items()}
    return ArucoService(SETTINGS.with_values(changes), board)
