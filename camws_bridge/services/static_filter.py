"""What is declared static: its pose from a window of images, until it has clearly moved."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from camws_bridge.models import (
    CameraModel, Detection, FloatArray, Stamp, StaticPose, TransformsSnapshot)
from camws_bridge.services.frame_context import FrameContext
from camws_bridge.settings import parse_marker_ids, StaticSettings
from camws_bridge.vision.boards import Board, marker_square
from camws_bridge.vision.camera import undistort_points
from camws_bridge.vision.static_pose import (
    error_px, mean_pose, Observation, solve_marker_jointly)

CAMERA, BOARD = 'camera', 'board'
COLLECTING, SETTLED, MOVED = 'collecting', 'settled', 'moved'
# A pose settles when this share of the window agrees with it, and has moved when this share of
# the latest images does not.
_AGREEING, _DISAGREEING = 0.7, 0.8
_FEWEST_LATEST = 5
_MOST_TRACKED = 256
_BOARD = -1         # the board's place among the ids

Solver = Callable[[Sequence[Observation]], FloatArray]


class StaticFilter:
    """
    Replaces the poses of what is static by those of many images; processing thread only.

    The board is static in the camera's frame; single markers are in the board's when there is a
    board (images that show both count, and the camera may move), else in the camera's.
    """

    def __init__(self, board: Board | None) -> None:
        """Start with nothing known."""
        self._board = board
        self._settings = StaticSettings()
        self._still: dict[int, Still] = {}

    def apply(self, context: FrameContext, snapshot: TransformsSnapshot) -> TransformsSnapshot:
        """Return what an image says, its static poses replaced, and the state of all static."""
        settings, camera = context.settings.static, context.frame.camera
        if settings != self._settings:
            self._settings, self._still = settings, {}
        if not (settings.board or settings.markers):
            return snapshot
        if camera is not None:
            snapshot = self._apply_to_board(camera, snapshot)
            snapshot = self._apply_to_markers(camera, snapshot)
        return replace(snapshot, statics=tuple(self._states()))

    def _apply_to_board(self, camera: CameraModel, snapshot: TransformsSnapshot
                        ) -> TransformsSnapshot:
        board, seen = self._board, snapshot.board
        if not self._settings.board or board is None or seen is None:
            return snapshot
        matched = board.match([Detection(marker.marker_id, marker.corners)
                               for marker in snapshot.seen if marker.used])
        if not matched:
            return snapshot
        points = np.concatenate([board.marker_corners(found.marker_id) for found in matched])
        pixels = np.concatenate([found.corners for found in matched])
        pose = self._still_of(_BOARD).add(snapshot.stamp, _observation(
            camera, np.eye(4), points, pixels, seen.camera_from_board, seen.covariance))
        return snapshot if pose is None else replace(
            snapshot, board=replace(seen, camera_from_board=pose, ambiguous=False))

    def _apply_to_markers(self, camera: CameraModel, snapshot: TransformsSnapshot
                          ) -> TransformsSnapshot:
        parent = self._camera_from_parent(snapshot)
        if not self._settings.markers or parent is None:
            return snapshot
        ids = parse_marker_ids(self._settings.markers)
        corners = {marker.marker_id: marker.corners for marker in snapshot.seen if marker.used}
        markers = []
        for seen in snapshot.markers:
            if ids is None or seen.marker_id in ids:
                pose = self._still_of(seen.marker_id).add(snapshot.stamp, _observation(
                    camera, parent, marker_square(seen.length), corners[seen.marker_id],
                    seen.camera_from_marker, seen.covariance))
                if pose is not None:
                    seen = replace(seen, camera_from_marker=parent @ pose, ambiguous=False)
            markers.append(seen)
        return replace(snapshot, markers=tuple(markers))

    def _camera_from_parent(self, snapshot: TransformsSnapshot) -> FloatArray | None:
        """Return where the frame is in which markers stand still; None if it cannot be told."""
        if self._board is None:
            return np.eye(4)
        board = snapshot.board
        return None if board is None or board.ambiguous else board.camera_from_board

    def _still_of(self, marker_id: int) -> Still:
        if marker_id not in self._still:
            if len(self._still) >= _MOST_TRACKED:
                del self._still[next(iter(self._still))]
            solve = mean_pose if marker_id == _BOARD else solve_marker_jointly
            self._still[marker_id] = Still(self._settings, solve)
        return self._still[marker_id]

    def _states(self) -> Iterable[StaticPose]:
        """Yield the state of everything declared, also of what was never seen."""
        ids = set(parse_marker_ids(self._settings.markers) or ())
        if self._settings.board and self._board is not None:
            ids.add(_BOARD)
        parent = CAMERA if self._board is None else BOARD
        for marker_id in sorted({*self._still, *ids}):
            still = self._still.get(marker_id)
            found = still.state() if still else StaticPose(None, CAMERA, COLLECTING)
            yield found if marker_id == _BOARD else replace(
                found, marker_id=marker_id, parent=parent)


class Still:
    """One thing that does not move: collects images, settles, and notices when it has moved."""

    def __init__(self, settings: StaticSettings, solve: Solver) -> None:
        """``solve`` makes one pose of many observations."""
        self._settings, self._solve = settings, solve
        self._window: deque[tuple[Stamp, Observation]] = deque(maxlen=settings.window)
        latest = max(_FEWEST_LATEST, settings.window // 3)
        self._agreed: deque[bool] = deque(maxlen=latest)
        self._pose: FloatArray | None = None
        self._has_moved = False
        self._images = self._since_solved = 0
        self._since: Stamp | None = None
        self._newest: Stamp | None = None

    def add(self, stamp: Stamp, observation: Observation) -> FloatArray | None:
        """Take what an image shows; return the static pose, None while there is none."""
        if self._pose is not None and not self._has_moved:
            self._compare(stamp, observation)
        if self._pose is None or self._has_moved:
            self._collect(stamp, observation)
        return None if self._has_moved else self._pose

    def state(self) -> StaticPose:
        """Return what is known, as of the camera's child."""
        is_settled = self._pose is not None and not self._has_moved
        seconds = (self._newest.seconds - self._since.seconds
                   if is_settled and self._newest and self._since else 0.0)
        return StaticPose(
            None, CAMERA, SETTLED if is_settled else MOVED if self._has_moved else COLLECTING,
            self._pose, self._images if is_settled else len(self._window),
            self._since if is_settled else None, max(0.0, seconds))

    def _compare(self, stamp: Stamp, observation: Observation) -> None:
        assert self._pose is not None
        agrees = error_px(observation, self._pose) <= self._settings.tolerance_px
        self._agreed.append(agrees)
        if agrees:
            self._images, self._newest = self._images + 1, stamp
        elif (len(self._agreed) == self._agreed.maxlen
                and self._agreed.count(False) >= _DISAGREEING * len(self._agreed)):
            self._has_moved = True
            self._window.clear()

    def _collect(self, stamp: Stamp, observation: Observation) -> None:
        self._window.append((stamp, observation))
        self._since_solved += 1
        is_full = len(self._window) == self._window.maxlen
        # Once full, it is not solved anew for each image.
        if is_full and self._since_solved >= self._settings.window // 4:
            self._since_solved = 0
            self._settle()

    def _settle(self) -> None:
        observations = [observation for _, observation in self._window]
        candidates = [self._solve(observations)]
        if self._pose is not None:
            # Was it only hidden, or the camera shaken? What is published changes only for cause.
            candidates.insert(0, self._pose)
        for pose in candidates:
            agrees = [error_px(observation, pose) <= self._settings.tolerance_px
                      for observation in observations]
            if sum(agrees) >= _AGREEING * len(agrees):
                stamps = [stamp for (stamp, _), agreed in zip(self._window, agrees) if agreed]
                self._pose, self._has_moved = pose, False
                self._images, self._since, self._newest = len(stamps), stamps[0], stamps[-1]
                self._agreed.clear()
                self._window.clear()
                return


def _observation(camera: CameraModel, parent: FloatArray, points: FloatArray, pixels: FloatArray,
                 pose: FloatArray, covariance: FloatArray | None) -> Observation:
    focal = float(camera.k[0, 0] + camera.k[1, 1]) / 2
    return Observation(parent, points, undistort_points(camera, pixels), focal, pose, covariance)
