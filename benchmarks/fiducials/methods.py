"""What is compared: the bridge's own vision, plain OpenCV with each refinement, AprilTag."""
from __future__ import annotations

import atexit
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
import math
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from benchmarks.fiducials.apriltag import TagFinder
from benchmarks.fiducials.scenes import DICTIONARY
from benchmarks.harness.peer import peer_folder
from camws_bridge.models import Array, CameraModel, Detection, FloatArray
from camws_bridge.vision.boards import Board, marker_square
from camws_bridge.vision.detection import MarkerDetector
from camws_bridge.vision.edges import refine_corners
from camws_bridge.vision.geometry import from_rvec_tvec
from camws_bridge.vision.pose import Solution, solve_board, solve_marker, solve_markers
from camws_bridge.vision.tracking import Tracker, TrackingOptions

REQUIREMENTS = Path(__file__).resolve().parents[1] / 'requirements-pose.txt'
APRILTAG_DICTIONARY = 'DICT_APRILTAG_36H11'
OURS, SUBPIX, APRILTAG = 'ours', 'SUBPIX', 'AprilTag'


@dataclass(frozen=True, eq=False)
class Seen:
    """
    A marker as a method sees it: corners (4 x 2 px) clockwise from its upper left.

    ``sigma`` (4) is how far the method trusts its corners (px).
    """

    marker_id: int
    corners: FloatArray
    sigma: FloatArray = field(default_factory=lambda: np.full(4, np.nan))


@dataclass(frozen=True, eq=False)
class Estimate:
    """
    A pose in the camera's optical frame (4x4), and what the method says of it.

    ``covariance`` is 6x6 (metres, radians; x, y, z and turns about the camera's fixed axes), None
    where the method gives none.
    """

    pose: FloatArray
    ambiguous: bool = False
    covariance: FloatArray | None = None


class Method(Protocol):
    """Finds markers and solves poses; ``dictionary`` names the markers it looks for."""

    name: str
    dictionary: str

    def detect(self, image: Array, camera: CameraModel) -> Sequence[Seen]:
        """Return the markers in a picture (h x w, uint8) that nothing before it tells about."""

    def solve_marker(self, camera: CameraModel, found: Seen, length: float) -> Estimate | None:
        """Return the pose of one marker of ``length`` metres."""

    def solve_board(self, camera: CameraModel, found: Sequence[Seen], board: Board
                    ) -> Estimate | None:
        """Return the pose of a board."""


class _PlainPoses:
    """Poses as OpenCV's tutorials and aruco_opencv solve them."""

    def solve_marker(self, camera: CameraModel, found: Seen, length: float) -> Estimate | None:
        return _solve_pnp(camera, marker_square(length), found.corners,
                          cv2.SOLVEPNP_IPPE_SQUARE)

    def solve_board(self, camera: CameraModel, found: Sequence[Seen], board: Board
                    ) -> Estimate | None:
        matched = _on_board(board, found)
        if not matched:
            return None
        points = np.concatenate([board.marker_corners(seen.marker_id) for seen in matched])
        pixels = np.concatenate([seen.corners for seen in matched])
        return _solve_pnp(camera, points, pixels, cv2.SOLVEPNP_ITERATIVE)


class PlainOpenCv(_PlainPoses):
    """cv2.aruco.ArucoDetector with default parameters and one of its refinements."""

    def __init__(self, name: str, dictionary: str = DICTIONARY) -> None:
        """``name`` is that of the refinement: NONE, SUBPIX or CONTOUR."""
        self.name, self.dictionary = name, dictionary
        parameters = cv2.aruco.DetectorParameters()
        parameters.cornerRefinementMethod = getattr(cv2.aruco, f'CORNER_REFINE_{name}')
        markers = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, dictionary))
        self._detector = cv2.aruco.ArucoDetector(markers, parameters)

    def detect(self, image: Array, camera: CameraModel) -> Sequence[Seen]:
        """Return the markers in a picture."""
        corners, ids, _ = self._detector.detectMarkers(image)
        return [Seen(int(marker_id), np.asarray(quad, np.float64).reshape(4, 2))
                for marker_id, quad in zip(() if ids is None else np.ravel(ids), corners)]


class AprilTag(_PlainPoses):
    """The AprilTag library (pupil-apriltags) on the same scenes, printed with its tag36h11."""

    name, dictionary = APRILTAG, APRILTAG_DICTIONARY

    def __init__(self) -> None:
        """Fetch the library if need be; raises benchmarks.harness.peer.PeerError."""
        self._tags = _tag_finder()

    def detect(self, image: Array, camera: CameraModel) -> Sequence[Seen]:
        """Return the tags in a picture."""
        # AprilTag's pixel centres stand at halves, OpenCV's at integers.
        return [Seen(tag_id, _from_upper_left(corners - 0.5))
                for tag_id, corners in self._tags.find(image)]


class Ours:
    """The bridge's own vision as it is configured by default."""

    name = OURS

    def __init__(self, dictionary: str = DICTIONARY) -> None:
        self.dictionary = dictionary
        self._detector = MarkerDetector(dictionary)

    def detect(self, image: Array, camera: CameraModel) -> Sequence[Seen]:
        """Return the markers in a picture, refined by their edges."""
        return self.refine(image, camera, self.search(image))

    def search(self, image: Array) -> Sequence[Detection]:
        """Return the markers in a picture as the detector finds them."""
        return self._detector.detect(image)

    def refine(self, image: Array, camera: CameraModel, found: Sequence[Detection]
               ) -> Sequence[Seen]:
        """Return better corners of what was found."""
        refined = refine_corners(
            image, np.array([seen.corners for seen in found]).reshape(-1, 4, 2), camera)
        return [Seen(detection.marker_id, corners, sigma)
                for detection, corners, sigma in zip(found, refined.corners, refined.sigma)]

    def solve_marker(self, camera: CameraModel, found: Seen, length: float) -> Estimate | None:
        """Return the pose of one marker."""
        return _estimate(solve_marker(camera, found.corners, length, sigma=found.sigma))

    def solve_board(self, camera: CameraModel, found: Sequence[Seen], board: Board
                    ) -> Estimate | None:
        """Return the pose of a board."""
        matched = _on_board(board, found)
        if not matched:
            return None
        return _estimate(solve_board(
            camera, np.concatenate([board.marker_corners(seen.marker_id) for seen in matched]),
            np.concatenate([seen.corners for seen in matched]),
            sigma=np.concatenate([seen.sigma for seen in matched])))


class Following:
    """The bridge's vision on one picture after another, of markers of one length (metres)."""

    def __init__(self, camera: CameraModel, length: float, track: bool = True) -> None:
        """With ``track`` False every picture is searched as if it were the first."""
        self._camera, self._length = camera, length
        self._tracker = Tracker(MarkerDetector(DICTIONARY), MarkerDetector(DICTIONARY),
                                TrackingOptions(enabled=track))
        self._previous: dict[int, FloatArray] = {}

    def detect(self, image: Array) -> Sequence[Detection]:
        """Return the markers of the next picture."""
        return self._tracker.detect(image)

    def poses(self, image: Array) -> Sequence[Solution | None]:
        """Find, refine and solve all markers of the next picture."""
        found = self._tracker.detect(image)
        refined = refine_corners(
            image, np.array([seen.corners for seen in found]).reshape(-1, 4, 2), self._camera)
        solved = solve_markers(
            self._camera, refined.corners, np.full(len(found), self._length),
            [self._previous.get(seen.marker_id) for seen in found], refined.sigma)
        self._previous = {seen.marker_id: solution.camera_from_object
                          for seen, solution in zip(found, solved) if solution}
        return solved


def packages() -> str:
    """Return the folder of what the benchmark needs beyond .venv; raises PeerError."""
    return str(peer_folder(REQUIREMENTS))


def all_methods() -> list[Method]:
    """Return fresh ones; raises PeerError where AprilTag cannot be had."""
    return [Ours(), *(PlainOpenCv(name) for name in ('NONE', SUBPIX, 'CONTOUR')), AprilTag()]


def _on_board(board: Board, found: Sequence[Seen]) -> list[Seen]:
    return [seen for seen in found if seen.marker_id in board.marker_ids]


def _estimate(solution: Solution | None) -> Estimate | None:
    if solution is None:
        return None
    return Estimate(solution.camera_from_object, solution.ambiguous, solution.covariance)


@cache
def _tag_finder() -> TagFinder:
    finder = TagFinder(packages())
    atexit.register(finder.close)
    return finder


def _from_upper_left(corners: FloatArray) -> FloatArray:
    """Return a tag's corners as OpenCV orders those of its twin of this tag."""
    # AprilTag goes against the clock from the lower left, and OpenCV's tags are turned by 180
    # degrees.
    return corners[[1, 0, 3, 2]]


def _solve_pnp(camera: CameraModel, points: FloatArray, pixels: FloatArray, method: int
               ) -> Estimate | None:
    distortion = camera.d if len(camera.d) else np.zeros(4)
    solved, rvec, tvec = cv2.solvePnP(points, pixels, camera.k, distortion, flags=method)
    if not solved or not all(map(math.isfinite, chain(np.ravel(rvec), np.ravel(tvec)))):
        return None
    return Estimate(from_rvec_tvec(rvec, tvec))
