"""
Pictures of flat prints whose every edge is known: supersampled through the exact projection.

A pixel is the mean of the light on its area. Each sample's ray is undistorted, meets the print's
plane and is looked up in the print, which is a grid of cells and therefore exact at any scale:
there is no texture whose resolution could move an edge. Only pixels that an edge of a cell runs
through are supersampled; all others are one value. Pixel centres stand at integers. Values are
linear light (1: a white sheet in full light); ``conditions.py`` makes a camera's picture of them.

Formula: a plane M = [r1 r2 t] maps its points (x, y, 1) to rays, so that its inverse takes a ray
to the point it meets; the third row of the inverse is 1 / z.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from camws_bridge.models import Array, CameraModel, FloatArray
from camws_bridge.vision.boards import marker_square
from camws_bridge.vision.camera import project_points, undistort_points
from camws_bridge.vision.detection import get_dictionary
from camws_bridge.vision.geometry import transform_points

BLACK, WHITE = 0.06, 0.85
SAMPLES = 64


@dataclass(frozen=True, eq=False)
class View:
    """
    A camera and what it does to geometry beyond its model.

    ``row_skew`` is a rolling shutter's: the x (px) that a picture row is ahead of the one above,
    as of a camera that pans while it reads its rows.
    """

    camera: CameraModel
    row_skew: float = 0.0

    def project(self, points: FloatArray) -> FloatArray:
        """Return the pixels (n x 2) of points in the camera's optical frame (n x 3, metres)."""
        pixels = project_points(self.camera, points)
        pixels[:, 0] += self.row_skew * (pixels[:, 1] - self.camera.height / 2)
        return pixels

    @cached_property
    def rays(self) -> FloatArray:
        """The ray (x and y at z = 1) of each pixel and of a rim of one (h + 2, w + 2, 2)."""
        rows, columns = np.mgrid[-1:self.camera.height + 1, -1:self.camera.width + 1]
        unskewed = columns - self.row_skew * (rows - self.camera.height / 2)
        pixels = np.stack([unskewed, rows], axis=2, dtype=np.float64)
        return undistort_points(self.camera, pixels.reshape(-1, 2)).reshape(pixels.shape)


@dataclass(frozen=True, eq=False)
class Print:
    """
    A rectangle of cells in its own plane, centred, x right and y up.

    ``cells`` is rows x columns of reflectance, ``size`` width and height (metres) of all cells;
    ``margin`` is how far (in cells) the outermost values in ``rim`` go on around them.
    """

    cells: FloatArray
    size: tuple[float, float]
    margin: float = 0.0
    rim: float = WHITE

    @property
    def cell_from_plane(self) -> FloatArray:
        """Takes metres to columns and rows, which count from the upper left corner (3x3)."""
        rows, columns = self.cells.shape
        x, y = columns / self.size[0], rows / self.size[1]
        return np.array([[x, 0, columns / 2], [0, -y, rows / 2], [0, 0, 1]])

    @property
    def outline(self) -> FloatArray:
        """Points all around the edge, margin included (n x 3, metres): lenses bend it."""
        rows, columns = self.cells.shape
        half = np.array([self.size[0] * (0.5 + self.margin / columns),
                         self.size[1] * (0.5 + self.margin / rows)])
        turn = np.array([[-1, 1], [1, 1], [1, -1], [-1, -1], [-1, 1]]) * half
        shares = np.linspace(0, 1, 5)[:-1, None]
        edge = np.concatenate([a + shares * (b - a) for a, b in zip(turn, turn[1:])])
        return np.column_stack([edge, np.zeros(len(edge))])

    def look_up(self, columns: FloatArray, rows: FloatArray) -> tuple[FloatArray, Array]:
        """Return the reflectance at places given in cells, and whether the print is there."""
        count_y, count_x = self.cells.shape
        inside = ((columns >= -self.margin) & (columns <= count_x + self.margin)
                  & (rows >= -self.margin) & (rows <= count_y + self.margin))
        padded = np.pad(self.cells, 1, constant_values=self.rim)
        column = np.clip(np.floor(columns).astype(int) + 1, 0, count_x + 1)
        row = np.clip(np.floor(rows).astype(int) + 1, 0, count_y + 1)
        return padded[row, column], inside


@dataclass(frozen=True, eq=False)
class Placed:
    """A print in space: ``camera_from_print`` (4x4) in the camera's optical frame."""

    print: Print
    camera_from_print: FloatArray


@dataclass(frozen=True, eq=False)
class MarkerTruth:
    """A marker as it stands: side (metres), pose (4x4), corners (4 x 2 px) from its top left."""

    marker_id: int
    length: float
    camera_from_marker: FloatArray
    corners: FloatArray = field(repr=False)


def marker_print(dictionary: str, marker_id: int, length: float, quiet_zone: float = 1.0,
                 paper: float = WHITE, ink: float = BLACK) -> Print:
    """Return a marker of ``length`` metres with ``quiet_zone`` cells of paper around it."""
    markers = get_dictionary(dictionary)
    bits = cv2.aruco.generateImageMarker(markers, marker_id, markers.markerSize + 2)
    return Print(np.where(bits > 0, paper, ink), (length, length), quiet_zone, paper)


def sheet_print(width: float, height: float, paper: float = WHITE) -> Print:
    """Return a blank sheet (metres)."""
    return Print(np.full((1, 1), paper), (width, height))


def chessboard_print(columns: int, rows: int, square: float) -> Print:
    """Return a chessboard, its upper left square black (as OpenCV's ChArUco boards)."""
    black = np.add.outer(np.arange(rows), np.arange(columns)) % 2 == 0
    return Print(np.where(black, BLACK, WHITE), (columns * square, rows * square))


def marker_truth(view: View, marker_id: int, length: float, camera_from_marker: FloatArray
                 ) -> MarkerTruth:
    """Return the truth of a marker, its corners by the exact projection."""
    corners = transform_points(camera_from_marker, marker_square(length))
    return MarkerTruth(marker_id, length, camera_from_marker, view.project(corners))


def render(view: View, background: Array, placed: Iterable[Placed], samples: int = SAMPLES
           ) -> Array:
    """
    Return the picture (h x w, float32, linear light) of prints before a background.

    Later prints hide earlier ones. ``samples`` (a power of two) are taken of each pixel that an
    edge runs through.
    """
    image = background.astype(np.float32)
    for item in placed:
        _draw(view, image, item, samples)
    return image


def _draw(view: View, image: Array, item: Placed, samples: int) -> None:
    box = _bounding_box(view, transform_points(item.camera_from_print, item.print.outline))
    if box is None:
        return
    pose = item.camera_from_print
    plane_from_ray = np.linalg.inv(np.column_stack([pose[:3, :2], pose[:3, 3]]))
    cell_from_ray = item.print.cell_from_plane @ plane_from_ray
    ray, ray_dx, ray_dy = _rays_of(view, box)
    cells, in_front = _cells(ray, cell_from_ray)
    values, cover = item.print.look_up(cells[..., 0], cells[..., 1])
    cover = (cover & in_front).astype(np.float64)
    mixed = np.nonzero(_has_edge(item.print, cells, ray, ray_dx, ray_dy, cell_from_ray))
    values[mixed], cover[mixed] = _sample(
        item.print, ray[mixed], ray_dx[mixed], ray_dy[mixed], cell_from_ray, samples)
    target = image[box]
    target += (cover * (values - target)).astype(np.float32)


def _bounding_box(view: View, outline: FloatArray) -> tuple[slice, slice] | None:
    if np.any(outline[:, 2] <= 0):
        raise ValueError('a print that reaches behind the camera cannot be rendered')
    pixels = view.project(outline)
    low = np.maximum(np.floor(pixels.min(0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(pixels.max(0)).astype(int) + 3,
                      (view.camera.width, view.camera.height))
    if np.any(low >= high):
        return None
    return np.s_[low[1]:high[1], low[0]:high[0]]


def _rays_of(view: View, box: tuple[slice, slice]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the rays of a box's pixels and how they change with x and y."""
    rows, columns = box
    grid = view.rays[rows.start:rows.stop + 2, columns.start:columns.stop + 2]
    return (grid[1:-1, 1:-1], (grid[1:-1, 2:] - grid[1:-1, :-2]) / 2,
            (grid[2:, 1:-1] - grid[:-2, 1:-1]) / 2)


def _cells(rays: FloatArray, cell_from_ray: FloatArray) -> tuple[FloatArray, Array]:
    """Return columns and rows of a print that rays meet, and whether they meet it in front."""
    mapped = rays @ cell_from_ray[:, :2].T + cell_from_ray[:, 2]
    return mapped[..., :2] / mapped[..., 2:], mapped[..., 2] > 0


def _has_edge(print_: Print, cells: FloatArray, ray: FloatArray, ray_dx: FloatArray,
              ray_dy: FloatArray, cell_from_ray: FloatArray) -> Array:
    """Tell which pixels an edge between two cells, or the print's own edge, may run through."""
    reach = sum(np.abs(_cells(ray + step / 2, cell_from_ray)[0] - cells)
                for step in (ray_dx, ray_dy, -ray_dx, -ray_dy))
    # Twice what is needed where the scale is uniform; the more where perspective is strong.
    count = np.array(print_.cells.shape[::-1])
    distance = np.abs(cells - np.round(cells))
    for border in (-print_.margin, count + print_.margin):
        distance = np.minimum(distance, np.abs(cells - border))
    near = np.all((cells > -print_.margin - reach) & (cells < count + print_.margin + reach), -1)
    return np.asarray(np.any(distance <= reach, axis=-1) & near)


def _sample(print_: Print, ray: FloatArray, ray_dx: FloatArray, ray_dy: FloatArray,
            cell_from_ray: FloatArray, samples: int) -> tuple[FloatArray, FloatArray]:
    """
    Return the mean reflectance of the part of each pixel that the print covers, and that part.

    The samples are a Hammersley set: no two share a row or a column, so that edges along the axes,
    too, are resolved to 1 / samples of a pixel, where a square grid has but its root.
    """
    count = np.arange(samples)
    mirrored = sum((count >> bit & 1) / 2 ** (bit + 1) for bit in range(samples.bit_length() - 1))
    x, y = (count + 0.5) / samples - 0.5, mirrored + 0.5 / samples - 0.5
    # Inside one pixel a lens bends rays by less than 1e-4 px: the local slope is exact enough.
    rays = (ray[:, None] + x[:, None] * ray_dx[:, None] + y[:, None] * ray_dy[:, None])
    cells, in_front = _cells(rays, cell_from_ray)
    values, inside = print_.look_up(cells[..., 0], cells[..., 1])
    weights = inside & in_front
    covered = weights.sum(1)
    mean = (values * weights).sum(1) / np.maximum(covered, 1)
    return mean, covered / samples
