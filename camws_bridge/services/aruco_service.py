"""Frame to poses: finds the markers of a frame and solves the board and every single marker."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from camws_bridge.models import (
    BoardPose, CameraModel, Detection, FloatArray, MarkerPose, SeenMarker, TransformsSnapshot)
from camws_bridge.parameter import SettingsError
from camws_bridge.services.frame_context import FrameContext
from camws_bridge.settings import (
    DetectorSettings, parse_marker_lengths, RobotSettings, Settings)
from camws_bridge.share import share_path
from camws_bridge.vision import boards, pose
from camws_bridge.vision.boards import Board
from camws_bridge.vision.detection import get_dictionary, MarkerDetector
from camws_bridge.vision.geometry import from_xyz_rpy
from camws_bridge.vision.projection import by_homography, by_pose, Projection

# Under which key a frame's context keeps what ``ArucoService.analyse`` found.
SNAPSHOT = 'snapshot'


class ArucoService:
    """
    Knows the board, the markers' sizes and the robot; used by the processing thread only.

    The detector follows live settings. The last frame's single marker poses are kept, since an
    ambiguous marker keeps its branch.
    """

    def __init__(self, settings: Settings, board: Board | None) -> None:
        """Make the detector; raises SettingsError for a dictionary that does not exist."""
        self.board = board
        self.check_settings(settings)
        self.board_from_robot = robot_pose(settings.robot)
        self._detector_of: tuple[str, DetectorSettings] | None = None
        self._detector: MarkerDetector | None = None
        self._previous: dict[int, FloatArray] = {}
        self._previous_board: FloatArray | None = None

    def check_settings(self, settings: Settings) -> None:
        """Raise SettingsError for settings this service cannot use."""
        try:
            get_dictionary(settings.markers.dictionary)
        except ValueError as error:
            raise SettingsError(f'parameter markers.dictionary: {error}') from None
        if self.board is not None and self.board.dictionary != settings.markers.dictionary:
            raise SettingsError(
                f'parameter markers.dictionary: {settings.markers.dictionary!r} is not allowed; '
                f'allowed: {self.board.dictionary}, the dictionary of the board in board.file')

    def analyse(self, context: FrameContext) -> TransformsSnapshot:
        """Return all poses of the frame; computed once per frame."""
        return context.once(SNAPSHOT, lambda: self._analyse(context))

    def is_on_board(self, marker_id: int) -> bool:
        """Tell whether a marker is part of the board."""
        return self.board is not None and marker_id in self.board.marker_ids

    def board_projection(self, context: FrameContext) -> Projection | None:
        """Return where the frame shows points of the board; None when it is not visible."""
        return context.once('board_projection', lambda: self._board_projection(context))

    def _analyse(self, context: FrameContext) -> TransformsSnapshot:
        frame = context.frame
        detections = self._detect(context)
        board_pose: BoardPose | None = None
        markers: tuple[MarkerPose, ...] = ()
        absent = 'no_calibration'
        if frame.camera is not None:
            board_pose = self._solve_board(context, frame.camera, detections)
            markers = self._solve_markers(frame.camera, context.settings, detections)
            absent = '' if board_pose else 'not_detected'
        return TransformsSnapshot(
            seq=frame.seq, stamp=frame.stamp, camera_frame_id=frame.frame_id, width=frame.width,
            height=frame.height, calibrated=frame.camera is not None,
            seen=self._describe(context, detections, board_pose, markers), markers=markers,
            board=board_pose, board_absent=absent if self.board else 'not_configured')

    def _detect(self, context: FrameContext) -> tuple[Detection, ...]:
        markers, detector = context.settings.markers, context.settings.detector
        if self._detector is None or self._detector_of != (markers.dictionary, detector):
            self._detector = _make_detector(markers.dictionary, detector)
            self._detector_of = (markers.dictionary, detector)
        return self._detector.detect(context.gray)

    def _correspondences(self, context: FrameContext, detections: Sequence[Detection]
                         ) -> tuple[FloatArray, FloatArray]:
        assert self.board is not None
        matched = self.board.match(detections)
        return self.board.correspondences(context.gray, matched)

    def _solve_board(self, context: FrameContext, camera: CameraModel,
                     detections: Sequence[Detection]) -> BoardPose | None:
        if self.board is None:
            return None
        points, pixels = self._correspondences(context, detections)
        solved = pose.solve_board(camera, points, pixels, self._previous_board)
        if solved is None:
            self._previous_board = None
            return None
        solution, ambiguous = solved
        self._previous_board = solution.camera_from_object
        return BoardPose(solution.camera_from_object, len(self.board.match(detections)),
                         solution.error_px, ambiguous)

    def _solve_markers(self, camera: CameraModel, settings: Settings,
                       detections: Sequence[Detection]) -> tuple[MarkerPose, ...]:
        lengths = _lengths(settings)
        seen = Counter(found.marker_id for found in detections)
        poses = []
        for found in detections:
            # Which of two equal ids is the right one cannot be known: neither gets a pose.
            if self.is_on_board(found.marker_id) or seen[found.marker_id] > 1:
                continue
            length = lengths.get(found.marker_id, settings.markers.length_m)
            solved = pose.solve_marker(
                camera, found.corners, length, self._previous.get(found.marker_id))
            if solved is not None:
                solution, ambiguous = solved
                poses.append(MarkerPose(found.marker_id, length, solution.camera_from_object,
                                        solution.error_px, ambiguous))
        self._previous = {solved.marker_id: solved.camera_from_marker for solved in poses}
        return tuple(poses)

    def _describe(self, context: FrameContext, detections: Sequence[Detection],
                  board_pose: BoardPose | None, markers: Sequence[MarkerPose]
                  ) -> tuple[SeenMarker, ...]:
        errors = {solved.marker_id: solved.reprojection_error_px for solved in markers}
        lengths = _lengths(context.settings)
        seen = []
        for found in detections:
            marker_id, on_board = found.marker_id, self.is_on_board(found.marker_id)
            length = lengths.get(marker_id, context.settings.markers.length_m)
            error = errors.get(marker_id)
            if self.board is not None and on_board:
                corners = self.board.marker_corners(marker_id)
                length = float(np.linalg.norm(corners[1] - corners[0]))
                if board_pose is not None and context.frame.camera is not None:
                    error = pose.reprojection_error(
                        context.frame.camera, board_pose.camera_from_board, corners, found.corners)
            seen.append(SeenMarker(marker_id, found.corners, on_board, length, error))
        return tuple(seen)

    def _board_projection(self, context: FrameContext) -> Projection | None:
        snapshot = self.analyse(context)
        camera = context.frame.camera
        if camera is not None:
            return by_pose(camera, snapshot.board.camera_from_board) if snapshot.board else None
        seen = [Detection(marker.marker_id, marker.corners) for marker in snapshot.seen]
        if self.board is None or not self.board.match(seen):
            return None
        return by_homography(*self._correspondences(context, seen))


def load_board(settings: Settings) -> Board | None:
    """Read the board that board.file names; raises SettingsError for one that cannot be used."""
    if not settings.board.file:
        return None
    try:
        return boards.read_board(_resolve(settings.board.file), settings.markers.dictionary)
    except (boards.BoardError, FileNotFoundError) as error:
        raise SettingsError(f'parameter board.file: {error}') from None


def _resolve(path: str) -> str:
    of_package = path.removeprefix('package://camws_bridge/')
    return path if of_package == path else str(share_path(of_package))


def robot_pose(settings: RobotSettings) -> FloatArray | None:
    """Return board_from_robot (4x4), or None when no robot is configured."""
    return from_xyz_rpy(settings.pose_in_board) if settings.pose_in_board else None


def _lengths(settings: Settings) -> dict[int, float]:
    return parse_marker_lengths(settings.markers.lengths)


def _make_detector(dictionary: str, settings: DetectorSettings) -> MarkerDetector:
    return MarkerDetector(dictionary, settings.refinement, settings.min_perimeter_px, {
        'adaptiveThreshWinSizeMin': settings.window_min,
        'adaptiveThreshWinSizeMax': settings.window_max,
        'adaptiveThreshWinSizeStep': settings.window_step,
        'adaptiveThreshConstant': settings.threshold_constant,
        'errorCorrectionRate': settings.error_correction_rate,
        'detectInvertedMarker': settings.inverted,
        'perspectiveRemovePixelPerCell': 8,
        'perspectiveRemoveIgnoredMarginPerCell': 0.25,
    })
