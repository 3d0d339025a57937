"""Poses as the JSON objects of the wire contract: plain dicts of finite numbers."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import math
from typing import Any

import numpy as np

from camws_bridge.models import CameraModel, FloatArray, Stamp, TransformsSnapshot
from camws_bridge.settings import TfSettings
from camws_bridge.vision import covariance
from camws_bridge.vision.geometry import invert, to_quaternion

FRAMES = ('camera', 'board', 'robot')


@dataclass(frozen=True, slots=True, eq=False)
class NamedPose:
    """
    A pose in the camera's optical frame, under the names the wire uses.

    ``covariance`` (6x6, see ``vision/covariance.py``) is None where it is not known; that of
    ``follows_board`` comes from the board's pose alone.
    """

    kind: str
    marker_id: int | None
    frame_id: str
    camera_from_child: FloatArray
    reprojection_error_px: float | None
    ambiguous: bool = False
    covariance: FloatArray | None = None
    error_ratio: float | None = None
    follows_board: bool = False


def named_poses(snapshot: TransformsSnapshot, names: TfSettings,
                board_from_robot: FloatArray | None) -> Iterator[NamedPose]:
    """Yield all that is known of this image: camera, board, robot, then single markers."""
    board = snapshot.board
    error = board.reprojection_error_px if board else None
    ambiguous, ratio = (board.ambiguous, board.error_ratio) if board else (False, None)
    yield NamedPose('camera', None, snapshot.camera_frame_id, np.eye(4), error, ambiguous, None,
                    ratio)
    if board is not None:
        spread = board.covariance
        yield NamedPose('board', None, names.board_frame, board.camera_from_board, error,
                        ambiguous, spread, ratio, follows_board=True)
        if board_from_robot is not None:
            if spread is not None:
                spread = covariance.of_product(
                    board.camera_from_board, spread, board_from_robot, None)
            yield NamedPose('robot', None, names.robot_frame,
                            board.camera_from_board @ board_from_robot, error, ambiguous,
                            spread, ratio, follows_board=True)
    for marker in snapshot.markers:
        frame_id = f'{names.marker_frame_prefix}{marker.marker_id}'
        yield NamedPose('marker', marker.marker_id, frame_id, marker.camera_from_marker,
                        marker.reprojection_error_px, marker.ambiguous, marker.covariance,
                        marker.error_ratio)


def transforms_object(snapshot: TransformsSnapshot, frame: str, names: TfSettings,
                      board_from_robot: FloatArray | None) -> dict[str, Any]:
    """Return the ``transforms_<frame>`` object: every pose expressed in that frame."""
    poses = list(named_poses(snapshot, names, board_from_robot))
    frame_id = {'camera': snapshot.camera_frame_id, 'board': names.board_frame,
                'robot': names.robot_frame}[frame]
    origin = next((pose for pose in poses if pose.kind == frame), None)
    transforms = []
    if origin is not None:
        transforms = [_transform(pose, origin, snapshot.stamp, frame_id)
                      for pose in poses if pose is not origin]
    return {'stream': f'transforms_{frame}', 'seq': snapshot.seq,
            'header': _header(snapshot.stamp, frame_id),
            'camera_frame_id': snapshot.camera_frame_id,
            'board': board_object(snapshot), 'transforms': transforms}


def board_object(snapshot: TransformsSnapshot) -> dict[str, Any]:
    """Return the state of the board; ``reason`` says why it is not visible."""
    board = snapshot.board
    if board is None:
        return {'visible': False, 'markers_used': 0, 'reprojection_error_px': None,
                'reason': snapshot.board_absent}
    return {'visible': True, 'markers_used': board.markers_used,
            'reprojection_error_px': _known(board.reprojection_error_px),
            'corners_used': board.corners_used, 'corners_rejected': board.corners_rejected,
            'ambiguous': board.ambiguous, 'error_ratio': _known(board.error_ratio)}


def markers_object(snapshot: TransformsSnapshot) -> dict[str, Any]:
    """Return the ``markers`` object: everything detected, in pixels."""
    markers = [{'id': marker.marker_id, 'on_board': marker.on_board,
                'length_m': _known(marker.length),
                'corners_px': [[_known(x), _known(y)] for x, y in marker.corners.tolist()],
                'reprojection_error_px': _known(marker.reprojection_error_px),
                'duplicate': marker.duplicate, 'used': marker.used,
                'corners_by_edges': marker.by_edges,
                'edge_residual_px': _known(marker.edge_residual_px)}
               for marker in snapshot.seen]
    return {'stream': 'markers', 'seq': snapshot.seq,
            'header': _header(snapshot.stamp, snapshot.camera_frame_id),
            'width': snapshot.width, 'height': snapshot.height, 'markers': markers}


def calibration_object(camera: CameraModel) -> dict[str, Any]:
    """Return the intrinsics as the wire writes them (matrices row-major)."""
    return {'width': camera.width, 'height': camera.height,
            'distortion_model': camera.model.value, 'd': camera.d.tolist(),
            'k': camera.k.ravel().tolist(), 'r': camera.r.ravel().tolist(),
            'p': camera.p.ravel().tolist(), 'frame_id': camera.frame_id}


def _transform(pose: NamedPose, origin: NamedPose, stamp: Stamp, frame_id: str
               ) -> dict[str, Any]:
    matrix = invert(origin.camera_from_child) @ pose.camera_from_child
    x, y, z = matrix[:3, 3].tolist()
    qx, qy, qz, qw = to_quaternion(matrix).tolist()
    return {'header': _header(stamp, frame_id), 'child_frame_id': pose.frame_id,
            'kind': pose.kind, 'id': pose.marker_id,
            'transform': {'translation': {'x': x, 'y': y, 'z': z},
                          'rotation': {'x': qx, 'y': qy, 'z': qz, 'w': qw}},
            'reprojection_error_px': _known(pose.reprojection_error_px),
            'covariance': _numbers(relative_covariance(origin, pose)),
            'ambiguous': pose.ambiguous, 'error_ratio': _known(pose.error_ratio)}


def relative_covariance(origin: NamedPose, pose: NamedPose) -> FloatArray | None:
    """
    Return the covariance (6x6) of a pose as expressed in the frame of another.

    None where it is not measured: between board and robot, which are configured.
    """
    if origin.follows_board and pose.follows_board:
        return None
    if origin.kind == 'camera':
        return pose.covariance
    if origin.covariance is None or (pose.kind != 'camera' and pose.covariance is None):
        return None
    back = covariance.of_inverse(origin.camera_from_child, origin.covariance)
    return covariance.of_product(
        invert(origin.camera_from_child), back, pose.camera_from_child, pose.covariance)


def _numbers(matrix: FloatArray | None) -> list[float] | None:
    """Return a matrix row by row, or None for one that is not finite."""
    if matrix is None or not np.all(np.isfinite(matrix)):
        return None
    numbers: list[float] = matrix.ravel().tolist()
    return numbers


def _known(value: float | None) -> float | None:
    """Return a number, or None for one that is not finite: JSON has no others."""
    return value if value is not None and math.isfinite(value) else None


def _header(stamp: Stamp, frame_id: str) -> dict[str, Any]:
    return {'stamp': stamp.as_dict(), 'frame_id': frame_id}
