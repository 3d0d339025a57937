"""Scenes with known truth: random markers, boards, empty rooms and things that move."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from benchmarks.fiducials.conditions import Condition, develop
from benchmarks.fiducials.renderer import (
    marker_print,
    marker_truth,
    MarkerTruth,
    Placed,
    render,
    sheet_print,
    View,
    WHITE,
)
from camws_bridge.models import Array, FloatArray
from camws_bridge.vision.boards import Board, make_board
from camws_bridge.vision.camera import undistort_points
from camws_bridge.vision.geometry import (
    from_rotation_translation,
    from_rvec_tvec,
    transform_points,
)

DICTIONARY = 'DICT_5X5_100'
LENGTH = 0.05
_FOUR = ((-0.15, 0.1), (0.15, 0.1), (0.15, -0.1), (-0.15, -0.1))


@dataclass(frozen=True, eq=False)
class Scene:
    """
    Markers before a background, and what lies under and over them.

    ``quiet_zone`` (cells) and ``paper`` (reflectance) are those of the markers' white border.
    """

    view: View
    background: Array
    markers: tuple[MarkerTruth, ...]
    under: tuple[Placed, ...] = ()
    over: tuple[Placed, ...] = ()
    quiet_zone: float = 1.0
    paper: float = WHITE

    def light(self, dictionary: str = DICTIONARY) -> Array:
        """Return the linear light (h x w, float32); the markers are those of ``dictionary``."""
        prints = [Placed(marker_print(dictionary, truth.marker_id, truth.length, self.quiet_zone,
                                      self.paper), truth.camera_from_marker)
                  for truth in self.markers]
        return render(self.view, self.background, (*self.under, *prints, *self.over))

    def picture(self, condition: Condition, seed: int, dictionary: str = DICTIONARY) -> Array:
        """Return the picture (h x w, uint8) under a condition."""
        scene = self if condition.occluded is None else self._covered(condition.occluded, seed)
        return develop(scene.light(dictionary), condition, np.random.default_rng(seed))

    def _covered(self, sizes: tuple[float, float], seed: int) -> Scene:
        rng = np.random.default_rng((seed, 7))
        return replace(self, over=self.over + tuple(
            _cover(truth, rng, rng.uniform(*sizes)) for truth in self.markers))


@dataclass(frozen=True, eq=False)
class BoardScene:
    """A scene that shows a board, and the board's pose (4x4)."""

    scene: Scene
    board: Board
    camera_from_board: FloatArray


def background(rng: np.random.Generator, width: int, height: int) -> Array:
    """Return a textured wall (h x w, float32, linear light): clouds, shapes, lines, letters."""
    clouds = np.full((height, width), 90.0, np.float32)
    for scale, strength in ((96, 30.0), (24, 15.0), (6, 10.0), (2, 6.0)):
        small = rng.standard_normal((height // scale + 3, width // scale + 3), np.float32)
        clouds += strength * cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    wall = np.clip(clouds, 5, 230).astype(np.uint8)
    size = np.array([width, height])
    for _ in range(14):
        centre, sides = rng.uniform(0, 1, 2) * size, rng.uniform(12, 120, 2)
        box = cv2.boxPoints((centre.tolist(), sides.tolist(), rng.uniform(0, 180)))
        cv2.fillPoly(wall, [np.rint(box * 16).astype(np.int32)], int(rng.integers(12, 205)),
                     cv2.LINE_AA, 4)
    for _ in range(10):
        a, b = (rng.uniform(0, 1, (2, 2)) * size).astype(int).tolist()
        cv2.line(wall, a, b, int(rng.integers(12, 205)), int(rng.integers(1, 4)), cv2.LINE_AA)
    for _ in range(6):
        place = (rng.uniform(0, 0.9, 2) * size).astype(int).tolist()
        text = ''.join(chr(code) for code in rng.integers(48, 91, 8))
        cv2.putText(wall, text, place, cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.4, 1.2),
                    int(rng.integers(12, 205)), int(rng.integers(1, 3)), cv2.LINE_AA)
    return cv2.GaussianBlur(wall.astype(np.float32) / 255, (0, 0), 0.5)


def facing(view: View, pixel: FloatArray, distance: float, tilt: float, about: float, roll: float
           ) -> FloatArray:
    """
    Return the pose (4x4) of a print whose centre is seen at a pixel.

    ``distance`` is z (metres), ``tilt`` the angle (radians) between its normal and the line of
    sight, ``about`` the direction in the picture it is tilted about, ``roll`` its spin.
    """
    x, y = undistort_points(view.camera, pixel)[0]
    sight = np.array([x, y, 1.0])
    # The shortest turn from the optical axis to the line of sight.
    axis = np.cross([0.0, 0.0, 1.0], sight / np.linalg.norm(sight))
    size = np.linalg.norm(axis)
    towards = axis / size * np.arcsin(size) if size > 1e-12 else np.zeros(3)
    turns = (towards, tilt * np.array([np.cos(about), np.sin(about), 0.0]),
             np.array([np.pi, 0.0, 0.0]), np.array([0.0, 0.0, roll]))
    rotation = np.eye(3)
    for turn in turns:
        rotation = rotation @ cv2.Rodrigues(turn)[0]
    return from_rotation_translation(rotation, sight * distance)


def random_markers(view: View, rng: np.random.Generator, count: int,
                   sizes: tuple[float, float] = (30.0, 200.0),
                   tilts: tuple[float, float] = (0.0, 75.0), quiet_zone: float = 1.0,
                   paper: float = WHITE) -> Scene:
    """
    Return up to ``count`` markers of sizes (px, as if frontal, uniform in their logarithm).

    ``tilts`` is in degrees. No marker touches another or the picture's edge; one that finds no
    place in 40 attempts is left out.
    """
    camera = view.camera
    circles: list[tuple[FloatArray, float]] = []
    truths = []
    ids = rng.permutation(100)
    for marker_id in ids[:count]:
        size = float(np.exp(rng.uniform(*np.log(sizes))))
        tilt, about, roll = (np.radians(rng.uniform(*tilts)), *rng.uniform(0, 2 * np.pi, 2))
        radius = size * np.sqrt(0.5) * (1 + 2 * quiet_zone / 7) * (1 + 0.15 * np.sin(tilt)) + 4
        centre = _free_place(rng, camera.width, camera.height, radius, circles)
        if centre is None:
            continue
        circles.append((centre, radius))
        pose = facing(view, centre, camera.k[0, 0] * LENGTH / size, tilt, about, roll)
        truths.append(marker_truth(view, int(marker_id), LENGTH, pose))
    wall = background(rng, camera.width, camera.height)
    return Scene(view, wall, tuple(truths), quiet_zone=quiet_zone, paper=paper)


def four_marker_board() -> Board:
    """Return the board of the targets: four markers of 50 mm in the corners of 350 x 250 mm."""
    return make_board({'type': 'markers', 'margin_m': 0.01, 'markers': [
        {'id': marker_id, 'length_m': LENGTH, 'center': [x, y, 0.0]}
        for marker_id, (x, y) in enumerate(_FOUR)]}, DICTIONARY)


def random_board(view: View, rng: np.random.Generator, board: Board, distance: float,
                 tilts: tuple[float, float] = (0, 60), paper: float = WHITE) -> BoardScene:
    """Return a flat board on its sheet at a distance (metres), wholly in the picture."""
    camera = view.camera
    size = np.array([camera.width, camera.height])
    for _ in range(1000):
        pose = facing(view, rng.uniform(0.3, 0.7, 2) * size, distance,
                      np.radians(rng.uniform(*tilts)), *rng.uniform(0, 2 * np.pi, 2))
        pixels = view.project(transform_points(pose, board.outline))
        if np.all((pixels > 4) & (pixels < size - 5)):
            break
    else:
        raise ValueError(f'the board does not fit the picture at {distance} m')
    return place_board(view, background(rng, camera.width, camera.height), board, pose, paper)


def place_board(view: View, wall: Array, board: Board, camera_from_board: FloatArray,
                paper: float = WHITE) -> BoardScene:
    """Return the scene of a flat board at a pose."""
    x0, y0, x1, y1 = board.area
    middle = from_rotation_translation(np.eye(3), np.array([(x0 + x1) / 2, (y0 + y1) / 2, 0.0]))
    sheet = Placed(sheet_print(x1 - x0, y1 - y0, paper), camera_from_board @ middle)
    truths = []
    for marker_id, corners in zip(board.marker_ids, board.corners):
        length = float(np.linalg.norm(corners[1] - corners[0]))
        pose = camera_from_board @ _frame_of(corners)
        truths.append(marker_truth(view, marker_id, length, pose))
    scene = Scene(view, wall, tuple(truths), (sheet,), quiet_zone=0.0, paper=paper)
    return BoardScene(scene, board, camera_from_board)


def moving(view: View, rng: np.random.Generator, frames: int, count: int = 4,
           size: float = 60.0, speed: float = 0.1, jumps: bool = True) -> Iterator[Scene]:
    """
    Yield the frames of markers that drift and turn.

    ``speed`` is in sides a frame. With ``jumps`` they walk everywhere, hide one another, and now
    and then one leaps to another place or leaves for some frames and comes back where it likes.
    Without, up to four keep to a quarter of the picture each and are always seen.
    """
    camera = view.camera
    wall = background(rng, camera.width, camera.height)
    whole = np.array([camera.width, camera.height])
    walkers = []
    for index in range(count):
        quarter = np.array([index % 2, index // 2]) * whole / 2
        area = (np.zeros(2), whole) if jumps else (quarter, whole / 2)
        walkers.append(_Walker(view, rng, index, size * rng.uniform(0.8, 1.25), speed, area))
    for _ in range(frames):
        circles: list[tuple[FloatArray, float]] = []
        truths = []
        for walker in walkers:
            walker.step(jumps)
            # One that runs into another is hidden until they part: prints would overlap.
            apart = all(np.linalg.norm(walker.centre - centre) > walker.radius + radius
                        for centre, radius in circles)
            if walker.hidden == 0 and apart:
                circles.append((walker.centre.copy(), walker.radius))
                truths.append(walker.truth())
        yield Scene(view, wall, tuple(truths))


class _Walker:
    """A marker that walks through the picture."""

    def __init__(self, view: View, rng: np.random.Generator, marker_id: int, size: float,
                 speed: float, area: tuple[FloatArray, FloatArray]) -> None:
        self._view, self._rng, self._id = view, rng, marker_id
        self._size, self._speed = size, speed * size
        self.radius = size * 1.0 + 6
        self._low, self._space = area[0] + self.radius, area[1] - 2 * self.radius
        self.centre = self._anywhere()
        self._heading, self._tilt, self._about, self._roll = rng.uniform(0, 2 * np.pi, 4)
        self.hidden = 0

    def step(self, jumps: bool) -> None:
        rng = self._rng
        self._heading += rng.normal(0, 0.15)
        self._tilt += 0.03
        self._about += 0.01
        self._roll += 0.02
        step = self._speed * np.array([np.cos(self._heading), np.sin(self._heading)])
        inside = np.clip(self.centre + step, self._low, self._low + self._space)
        if not np.array_equal(inside, self.centre + step):
            self._heading += np.pi / 2
        self.centre = inside
        self.hidden = max(0, self.hidden - 1)
        if jumps and rng.random() < 0.02:
            self.centre = self._anywhere()
        elif jumps and rng.random() < 0.02:
            self.hidden = int(rng.integers(2, 9))
            self.centre = self._anywhere()

    def _anywhere(self) -> FloatArray:
        place: FloatArray = self._low + self._rng.uniform(0, 1, 2) * self._space
        return place

    def truth(self) -> MarkerTruth:
        tilt = np.radians(30 + 25 * np.sin(self._tilt))
        pose = facing(self._view, self.centre, self._view.camera.k[0, 0] * LENGTH / self._size,
                      tilt, self._about, self._roll)
        return marker_truth(self._view, self._id, LENGTH, pose)


def _free_place(rng: np.random.Generator, width: int, height: int, radius: float,
                circles: Sequence[tuple[FloatArray, float]]) -> FloatArray | None:
    if 2 * radius >= min(width, height):
        raise ValueError(f'a marker of radius {radius:.0f} px does not fit {width} x {height}')
    for _ in range(40):
        centre = radius + rng.uniform(0, 1, 2) * (width - 2 * radius, height - 2 * radius)
        if all(np.linalg.norm(centre - other) > radius + taken for other, taken in circles):
            return centre
    return None


def _cover(truth: MarkerTruth, rng: np.random.Generator, size: float) -> Placed:
    """Return a piece of paper (``size`` in sides) on one corner of a marker."""
    corner = rng.choice([-0.5, 0.5], 2) * truth.length
    turn = from_rvec_tvec(np.array([0, 0, rng.uniform(0, np.pi)]), np.array([*corner, 0.0]))
    side = size * truth.length
    return Placed(sheet_print(side, side, float(rng.uniform(0.1, 0.8))),
                  truth.camera_from_marker @ turn)


def _frame_of(corners: FloatArray) -> FloatArray:
    """Return the pose of a marker in the board's frame, of its corners (4 x 3)."""
    x, y = corners[1] - corners[0], corners[0] - corners[3]
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    return from_rotation_translation(np.column_stack([x, y, np.cross(x, y)]), corners.mean(0))


