"""What is compared: the bridge's own vision, plain OpenCV with each refinement, AprilTag."""
from __future__ import annotations

import atexit
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from camws_bridge.models import (
    Array, CameraModel, Detection, FloatArray, Frame, Stamp, TransformsSnapshot)
from camws_bridge.services.aruco_service import ArucoService, make_finder
from camws_bridge.services.frame_context import FrameContext
from camws_bridge.settings import Settings
from camws_bridge.vision.boards import Board, marker_square
from camws_bridge.vision.geometry import from_rvec_tvec
from camws_bridge.vision.pose import Solution, solve_board, solve_marker

REQUIREMENTS = Path(__file__).resolve().parents[1] / 'requirements-pose.txt'
APRILTAG_DICTIONARY = 'DICT_APRILTAG_36H11'
OURS, SUBPIX, APRILTAG = 'ours', 'SUBPIX', 'AprilTag'


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

    def detect(self, image: Array, camera: CameraModel) -> Sequence[Detection]:
        """Return the markers in a picture (h x w, uint8) that nothing before it tells about."""

    def solve_marker(self, camera: CameraModel, found: Detection, length: float
                     ) -> Estimate | None:
        """Return the pose of one marker of ``length`` metres."""

    def solve_board(self, camera: CameraModel, found: Sequence[Detection], board: Board
                    ) -> Estimate | None:
        """Return the pose of a board."""


class _PlainPoses:
    """Poses as OpenCV's tutorials and aruco_opencv solve them."""

    def solve_marker(self, camera: CameraModel, found: Detection, length: float
                     ) -> Estimate | None:
        return _solve_pnp(camera, marker_square(length), found.corners,
                          cv2.SOLVEPNP_IPPE_SQUARE)

    def solve_board(self, camera: CameraModel, found: Sequence[Detection], board: Board
                    ) -> Estimate | None:
        matched = board.match(found)
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

    def detect(self, image: Array, camera: CameraModel) -> Sequence[Detection]:
        """Return the markers in a picture."""
        corners, ids, _ = self._detector.detectMarkers(image)
        return [Detection(int(marker_id), np.asarray(quad, np.float64).reshape(4, 2))
                for marker_id, quad in zip(() if ids is None else np.ravel(ids), corners)]


class AprilTag(_PlainPoses):
    """The AprilTag library (pupil-apriltags) on the same scenes, printed with its tag36h11."""

    name, dictionary = APRILTAG, APRILTAG_DICTIONARY

    def __init__(self) -> None:
        """Fetch the library if need be; raises benchmarks.harness.peer.PeerError."""
        self._tags = _tag_finder()

    def detect(self, image: Array, camera: CameraModel) -> Sequence[Detection]:
        """Return the tags in a picture."""
        # AprilTag's pixel centres stand at halves, OpenCV's at integers.
        return [Detection(tag_id, _from_upper_left(corners - 0.5))
                for tag_id, corners in self._tags.find(image)]


class Ours:
    """
    The bridge's own vision as it is configured by default, on pictures of one camera.

    Every picture is searched as if it were the first, but what the camera does to edges is
    learned.
    """

    name = OURS

    def __init__(self, dictionary: str = DICTIONARY, learn: bool = True) -> None:
        """``learn`` False leaves the edge shift at zero."""
        self.dictionary = dictionary
        self._finder = make_finder(_settings(dictionary, learn))

    def detect(self, image: Array, camera: CameraModel) -> Sequence[Detection]:
        """Return the markers in a picture, refined by their edges."""
        return self._finder.find(image, camera)

    def solve_marker(self, camera: CameraModel, found: Detection, length: float
                     ) -> Estimate | None:
        """Return the pose of one marker."""
        return _estimate(solve_marker(camera, found.corners, length, covariance=found.covariance))

    def solve_board(self, camera: CameraModel, found: Sequence[Detection], board: Board
                    ) -> Estimate | None:
        """Return the pose of a board."""
        # Boards of markers alone: these do not look at the picture again.
        nothing = np.zeros((0, 0), np.uint8)
        points, pixels, spread, _ = board.weighted_correspondences(nothing, board.match(found))
        return _estimate(solve_board(camera, points, pixels, covariance=spread))


class Following:
    """The bridge's service on one picture after another, of markers of one length (metres)."""

    def __init__(self, camera: CameraModel, length: float, track: bool = True) -> None:
        """With ``track`` False every picture is searched as if it were the first."""
        self._camera = camera
        settings = Settings()
        self._settings = replace(
            settings, markers=replace(settings.markers, dictionary=DICTIONARY, length_m=length),
            tracking=replace(settings.tracking, enabled=track))
        self._service = ArucoService(self._settings, None)

    def analyse(self, image: Array) -> TransformsSnapshot:
        """Return what the next picture (h x w, uint8) says: markers and their poses."""
        height, width = image.shape
        frame = Frame(0, Stamp(0, 0), '', width, height, 'mono8', image, camera=self._camera)
        return self._service.analyse(FrameContext(frame, self._settings))


def packages() -> str:
    """Return the folder of what the benchmark needs beyond .venv; raises PeerError."""
    return str(peer_folder(REQUIREMENTS))


def all_methods() -> list[Method]:
    """Return fresh ones; raises PeerError where AprilTag cannot be had."""
    return [Ours(), *(PlainOpenCv(name) for name in ('NONE', SUBPIX, 'CONTOUR')), AprilTag()]


def _settings(dictionary: str, learn: bool) -> Settings:
    settings = Settings()
    return replace(
        settings, markers=replace(settings.markers, dictionary=dictionary),
        detector=replace(settings.detector, learn_edge_shift=learn),
        tracking=replace(settings.tracking, enabled=False))


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
