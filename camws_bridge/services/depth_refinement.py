"""Poses of a frame, refined by the depth image that belongs to it."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from camws_bridge.models import (
    Array, BoardPose, CameraModel, Detection, FloatArray, MarkerPose, TransformsSnapshot)
from camws_bridge.services.frame_context import FrameContext
from camws_bridge.vision.boards import Board, marker_square
from camws_bridge.vision.depth_pose import (
    corner_sigma, DepthPose, fit_plane, fuse_with_depth, refine_by_depth)
from camws_bridge.vision.pose import reprojection_error

# Where no covariance tells more, corners are trusted no better than this (px): what the lens model
# leaves is in no residual.
_LEAST_SIGMA_PX = 0.15
# Eight coordinates of a marker less the six of its pose say how far corners are off: by axis,
# sqrt(8 / 2 / 2) of the rms distance that is left.
_SIGMA_BY_ERROR = 1.41
# Markers of a board this much worse than the whole are left out.
_WORST_BY_ERROR = 3.0


def refine_poses(context: FrameContext, board: Board | None, snapshot: TransformsSnapshot
                 ) -> TransformsSnapshot:
    """
    Return the snapshot with its poses refined by the frame's depth, where depth helps.

    Without depth.refine_poses, calibration or depth it is returned as it is.
    """
    frame, settings = context.frame, context.settings.depth
    if (not settings.refine_poses or frame.camera is None or frame.depth is None
            or frame.depth.shape != (frame.height, frame.width)):
        return snapshot
    view = _View(frame.camera, frame.depth, settings.noise_at_1m)
    used = [marker for marker in snapshot.seen if marker.used]
    corners = {marker.marker_id: marker.corners for marker in used}
    markers = tuple(view.marker(marker, corners[marker.marker_id])
                    if marker.marker_id in corners else marker for marker in snapshot.markers)
    solved = snapshot.board
    if solved is not None and board is not None:
        solved = view.board(board, solved, board.match(
            [Detection(marker.marker_id, marker.corners) for marker in used]))
    return replace(snapshot, markers=markers, board=solved)


class _View:
    """What is the same for all poses of a frame."""

    def __init__(self, camera: CameraModel, depth: Array, noise: float) -> None:
        self._camera, self._depth, self._noise = camera, depth, noise

    def marker(self, marker: MarkerPose, corners: FloatArray) -> MarkerPose:
        points = marker_square(marker.length)
        found = self._refine(points, corners, [corners], marker, marker.camera_from_marker,
                             _SIGMA_BY_ERROR)
        if found is None:
            return marker
        pose = found.camera_from_object
        return replace(
            marker, camera_from_marker=pose, ambiguous=marker.ambiguous and not found.decided,
            covariance=found.covariance,
            error_ratio=None if found.decided else marker.error_ratio,
            reprojection_error_px=reprojection_error(self._camera, pose, points, corners))

    def board(self, board: Board, solved: BoardPose, matched: Sequence[Detection]) -> BoardPose:
        # A ChArUco board is solved from better corners than those known here.
        if board.charuco is not None or np.any(np.abs(board.corners[..., 2]) > 1e-9):
            return solved
        pose, limit = solved.camera_from_board, _WORST_BY_ERROR * max(
            solved.reprojection_error_px, _LEAST_SIGMA_PX)
        good = [found for found in matched if reprojection_error(
            self._camera, pose, board.marker_corners(found.marker_id), found.corners) <= limit]
        if not good:
            return solved
        points = np.concatenate([board.marker_corners(found.marker_id) for found in good])
        pixels = np.concatenate([found.corners for found in good])
        found = self._refine(points, pixels, [found.corners for found in good], solved, pose, 1.0)
        if found is None:
            return solved
        return replace(solved, camera_from_board=found.camera_from_object,
                       ambiguous=solved.ambiguous and not found.decided,
                       covariance=found.covariance,
                       error_ratio=None if found.decided else solved.error_ratio,
                       reprojection_error_px=reprojection_error(
                           self._camera, found.camera_from_object, points, pixels))

    def _refine(self, points: FloatArray, pixels: FloatArray, outlines: Sequence[FloatArray],
                solved: MarkerPose | BoardPose, pose: FloatArray, sigma_by_error: float
                ) -> DepthPose | None:
        plane = fit_plane(self._camera, self._depth, outlines, self._noise)
        if plane is None:
            return None
        covariance = solved.covariance
        if covariance is None:
            sigma = max(sigma_by_error * solved.reprojection_error_px, _LEAST_SIGMA_PX)
        elif not solved.ambiguous:
            return fuse_with_depth(pose, covariance, plane)
        else:
            sigma = corner_sigma(self._camera, points, pose, covariance)
        return refine_by_depth(self._camera, points, pixels, pose, plane, sigma)
