"""Frame to poses: finds the markers of a frame and solves the board and every single marker."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from camws_bridge.models import (
    BoardPose, CameraModel, Detection, FloatArray, MarkerPose, SeenMarker, TransformsSnapshot)
from camws_bridge.parameter import SettingsError
from camws_bridge.services.frame_context import FrameContext
from camws_bridge.settings import (
    DetectorSettings, parse_assignments, parse_marker_lengths, RobotSettings, Settings,
    TrackingSettings)
from camws_bridge.share import share_path
from camws_bridge.vision import boards, pose
from camws_bridge.vision.boards import Board
from camws_bridge.vision.detection import check_parameters, get_dictionary
from camws_bridge.vision.finding import MarkerFinder
from camws_bridge.vision.geometry import from_xyz_rpy
from camws_bridge.vision.pose import Solution
from camws_bridge.vision.projection import by_homography, by_pose, Projection
from camws_bridge.vision.tracking import TrackingOptions

# The covariance (px squared) of corners that were not refined by edges.
_UNKNOWN = np.tile(0.3 ** 2 * np.eye(2), (4, 1, 1))
# A marker not seen for so many images is forgotten.
_REMEMBERED_IMAGES = 30


class ArucoService:
    """
    Knows the board, the markers' sizes and the robot; used by the processing thread only.

    The finder follows live settings. Where markers and their poses were is kept: markers are
    followed, an ambiguous one keeps its branch, and of two with one id the right one is known.
    """

    def __init__(self, settings: Settings, board: Board | None) -> None:
        """Make the finder; raises SettingsError for a dictionary that does not exist."""
        self.board = board
        self.check_settings(settings)
        self.board_from_robot = robot_pose(settings.robot)
        self._finder_of: tuple[str, DetectorSettings, TrackingSettings] | None = None
        self._finder: MarkerFinder | None = None
        self._memory = _Memory()
        self._previous_board: FloatArray | None = None

    def check_settings(self, settings: Settings) -> None:
        """Raise SettingsError for settings this service cannot use."""
        try:
            get_dictionary(settings.markers.dictionary)
        except ValueError as error:
            raise SettingsError(f'parameter markers.dictionary: {error}') from None
        try:
            check_parameters(parse_assignments(settings.detector.parameters))
        except ValueError as error:
            raise SettingsError(f'parameter detector.parameters: {error}') from None
        if self.board is not None and self.board.dictionary != settings.markers.dictionary:
            raise SettingsError(
                f'parameter markers.dictionary: {settings.markers.dictionary!r} is not allowed; '
                f'allowed: {self.board.dictionary}, the dictionary of the board in board.file')

    def analyse(self, context: FrameContext) -> TransformsSnapshot:
        """Return all poses of the frame; computed once per frame."""
        return context.once('snapshot', lambda: self._analyse(context))

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
        of_board: list[Detection] = []
        singles: list[Detection] = []
        absent = 'no_calibration'
        if frame.camera is not None:
            board_pose, of_board = self._solve_board(context, frame.camera, detections)
            markers, singles = self._solve_markers(frame.camera, context.settings, detections)
            absent = '' if board_pose else 'not_detected'
        return TransformsSnapshot(
            seq=frame.seq, stamp=frame.stamp, camera_frame_id=frame.frame_id, width=frame.width,
            height=frame.height, calibrated=frame.camera is not None,
            seen=self._describe(context, detections, board_pose, markers, [*of_board, *singles]),
            markers=markers, board=board_pose,
            board_absent=absent if self.board else 'not_configured')

    def _detect(self, context: FrameContext) -> tuple[Detection, ...]:
        settings = context.settings
        wanted = (settings.markers.dictionary, settings.detector, settings.tracking)
        if self._finder is None or self._finder_of != wanted:
            self._finder = make_finder(settings)
            self._finder_of = wanted
        return self._finder.find(context.gray, context.frame.camera)

    def _solve_board(self, context: FrameContext, camera: CameraModel,
                     detections: Sequence[Detection]
                     ) -> tuple[BoardPose | None, list[Detection]]:
        """Return the board's pose and the detections it was made of."""
        if self.board is None:
            return None, []
        matched = list(self.board.match(detections))
        solved, used = self._solve_board_from(context, camera, matched)
        # Of markers that stand in the image twice, one may be where this pose has it.
        pose_known = solved.camera_from_object if solved else self._previous_board
        more = self._plausible_on_board(camera, pose_known, detections)
        if more:
            solved, used = self._solve_board_from(context, camera, [*matched, *more])
        self._previous_board = solved.camera_from_object if solved else None
        if solved is None:
            return None, []
        corners = solved.used if solved.used is not None else np.zeros(0, bool)
        return BoardPose(
            solved.camera_from_object, len(used), solved.error_px, solved.ambiguous,
            solved.covariance, solved.error_ratio, int(corners.sum()),
            int((~corners).sum())), used

    def _solve_board_from(self, context: FrameContext, camera: CameraModel,
                          matched: list[Detection]) -> tuple[Solution | None, list[Detection]]:
        assert self.board is not None
        points, pixels, spread, of_markers = self.board.weighted_correspondences(
            context.gray, matched)
        solved = pose.solve_board(camera, points, pixels, self._previous_board, spread)
        if solved is None:
            return solved, matched
        if not of_markers:
            more = self._agreeing_edges(camera, solved, matched)
            if more is not None:
                points, pixels, spread = (
                    np.concatenate(pair)
                    for pair in zip((points, pixels, spread), more, strict=True))
                solved = pose.solve_board(
                    camera, points, pixels, self._previous_board, spread) or solved
            return solved, matched
        # A marker counts when most of its corners do.
        assert solved.used is not None
        counts = solved.used.reshape(-1, 4).sum(axis=1)
        return solved, [found for found, count in zip(matched, counts) if count > 2]

    def _agreeing_edges(self, camera: CameraModel, solved: Solution, matched: list[Detection]
                        ) -> tuple[FloatArray, FloatArray, FloatArray] | None:
        """
        Return the corners of a ChArUco board's markers that edges refined, if they are true.

        They are sharper than the chessboard's, but on boards printed dot by dot the markers may be
        off by half a dot: they must agree with the chessboard.
        """
        assert self.board is not None
        refined = [found for found in matched if found.by_edges == 4]
        if not refined:
            return None
        more = self.board.marker_correspondences(refined)
        error = pose.reprojection_error(camera, solved.camera_from_object, *more[:2])
        return more if error < 1.2 * solved.error_px + 0.02 else None

    def _plausible_on_board(self, camera: CameraModel, camera_from_board: FloatArray | None,
                            detections: Sequence[Detection]) -> list[Detection]:
        if self.board is None or camera_from_board is None:
            return []
        plausible = []
        for marker_id, candidates in _duplicates(detections).items():
            if not self.is_on_board(marker_id):
                continue
            corners = self.board.marker_corners(marker_id)
            near = [found for found in candidates if pose.reprojection_error(
                camera, camera_from_board, corners, found.corners) < _near(found)]
            if len(near) == 1:
                plausible += near
        return plausible

    def _solve_markers(self, camera: CameraModel, settings: Settings,
                       detections: Sequence[Detection]
                       ) -> tuple[tuple[MarkerPose, ...], list[Detection]]:
        """Return the poses of single markers and the detections they were made of."""
        lengths = _lengths(settings)
        singles = [found for found in self._memory.plausible(detections)
                   if not self.is_on_board(found.marker_id)]
        sides = [lengths.get(found.marker_id, settings.markers.length_m) for found in singles]
        solved = pose.solve_markers(
            camera, np.array([found.corners for found in singles]), np.array(sides),
            [self._memory.pose(found.marker_id) for found in singles],
            np.array([_UNKNOWN if found.covariance is None else found.covariance
                      for found in singles]))
        poses, used = [], []
        for found, length, solution in zip(singles, sides, solved):
            if solution is not None:
                used.append(found)
                poses.append(MarkerPose(
                    found.marker_id, length, solution.camera_from_object, solution.error_px,
                    solution.ambiguous, solution.covariance, solution.error_ratio))
        self._memory.take(used, poses)
        return tuple(poses), used

    def _describe(self, context: FrameContext, detections: Sequence[Detection],
                  board_pose: BoardPose | None, markers: Sequence[MarkerPose],
                  used: Sequence[Detection]) -> tuple[SeenMarker, ...]:
        errors = {solved.marker_id: solved.reprojection_error_px for solved in markers}
        lengths = _lengths(context.settings)
        twice = _duplicates(detections)
        seen = []
        for found in detections:
            marker_id, on_board = found.marker_id, self.is_on_board(found.marker_id)
            is_used = any(found is other for other in used)
            length = lengths.get(marker_id, context.settings.markers.length_m)
            error = errors.get(marker_id) if is_used else None
            if self.board is not None and on_board:
                corners = self.board.marker_corners(marker_id)
                length = float(np.linalg.norm(corners[1] - corners[0]))
                if board_pose is not None and context.frame.camera is not None:
                    error = pose.reprojection_error(
                        context.frame.camera, board_pose.camera_from_board, corners, found.corners)
            seen.append(SeenMarker(
                marker_id, found.corners, on_board, length, error, marker_id in twice, is_used,
                found.edge_residual_px, found.by_edges))
        return tuple(seen)

    def _board_projection(self, context: FrameContext) -> Projection | None:
        snapshot = self.analyse(context)
        camera = context.frame.camera
        if camera is not None:
            return by_pose(camera, snapshot.board.camera_from_board) if snapshot.board else None
        seen = [Detection(marker.marker_id, marker.corners) for marker in snapshot.seen]
        if self.board is None or not self.board.match(seen):
            return None
        return by_homography(*self.board.correspondences(context.gray, self.board.match(seen)))


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


def make_finder(settings: Settings) -> MarkerFinder:
    """Make what finds markers, as the parameters say."""
    detector, tracking = settings.detector, settings.tracking
    parameters = {
        'adaptiveThreshWinSizeMin': detector.window_min,
        'adaptiveThreshWinSizeMax': detector.window_max,
        'adaptiveThreshWinSizeStep': detector.window_step,
        'adaptiveThreshConstant': detector.threshold_constant,
        'errorCorrectionRate': detector.error_correction_rate,
        'detectInvertedMarker': detector.inverted,
        **parse_assignments(detector.parameters),
    }
    return MarkerFinder(
        settings.markers.dictionary, detector.refinement, detector.min_perimeter_px, parameters,
        TrackingOptions(tracking.enabled, tracking.search_every, tracking.search_after_loss,
                        tracking.error_correction_rate), detector.learn_edge_shift)


class _Memory:
    """Where single markers and their poses were; forgets what is not seen for a while."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, FloatArray, FloatArray]] = {}     # age, corners, pose

    def pose(self, marker_id: int) -> FloatArray | None:
        return self._seen[marker_id][2] if marker_id in self._seen else None

    def plausible(self, detections: Sequence[Detection]) -> list[Detection]:
        """Return markers seen once, and of those seen twice the one that stands where it was."""
        twice = _duplicates(detections)
        chosen = [found for found in detections if found.marker_id not in twice]
        for marker_id, candidates in twice.items():
            if marker_id in self._seen:
                corners = self._seen[marker_id][1]
                near = [found for found in candidates
                        if np.abs(found.corners - corners).max() < _near(found)]
                chosen += near if len(near) == 1 else []
        return sorted(chosen, key=lambda found: found.marker_id)

    def take(self, detections: Sequence[Detection], poses: Sequence[MarkerPose]) -> None:
        aged = {marker_id: (age + 1, corners, pose_then)
                for marker_id, (age, corners, pose_then) in self._seen.items()
                if age < _REMEMBERED_IMAGES}
        now = {found.marker_id: (0, found.corners, solved.camera_from_marker)
               for found, solved in zip(detections, poses, strict=True)}
        self._seen = {**aged, **now}


def _duplicates(detections: Sequence[Detection]) -> dict[int, list[Detection]]:
    """Return the detections of each id that stands in the image more than once."""
    by_id: dict[int, list[Detection]] = {}
    for found in detections:
        by_id.setdefault(found.marker_id, []).append(found)
    return {marker_id: found for marker_id, found in by_id.items() if len(found) > 1}


def _near(found: Detection) -> float:
    """Return how far (px) a marker may be from where it should be: a third of its side."""
    sides = np.linalg.norm(found.corners - np.roll(found.corners, 1, axis=0), axis=1)
    return float(sides.mean()) / 3
