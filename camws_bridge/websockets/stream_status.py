"""What there is to stream, and what keeps a stream from coming: in words and codes."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from camws_bridge.services import image_service, json_service
from camws_bridge.services.aruco_service import ArucoService
from camws_bridge.services.health_service import HealthService
from camws_bridge.services.image_service import ImageProduct
from camws_bridge.services.json_service import JSON, JsonStream
from camws_bridge.websockets.connection_manager import ConnectionManager
from camws_bridge.websockets.streaming_service import StreamingService

CATALOGUE: dict[str, ImageProduct | JsonStream] = {
    **image_service.CATALOGUE, **json_service.CATALOGUE}


@dataclass(frozen=True, slots=True)
class Status:
    """A state worth telling; ``level`` is info, warning or error."""

    level: str
    code: str
    message: str


WELL = Status('info', 'ok', 'messages arrive')


class StreamStatusService:
    """Answers for each stream: does it exist, does it come, and if not, why. Loop's thread."""

    def __init__(self, health: HealthService, aruco: ArucoService, streaming: StreamingService,
                 connections: ConnectionManager) -> None:
        """Take what knows the parts of the answer."""
        self._health, self._aruco = health, aruco
        self._streaming, self._connections = streaming, connections

    def stream_ids(self) -> list[str]:
        """Return the streams that can be connected to."""
        # Without a board transforms_board says so itself; without a robot there is no frame.
        return [stream_id for stream_id, stream in CATALOGUE.items()
                if 'robot' not in stream.needs or self._aruco.board_from_robot is not None]

    def embeddable(self) -> list[str]:
        """Return the names that ?embed= may hold."""
        return [name for name in json_service.EMBEDDABLE
                if name == 'camera_info' or name in self.stream_ids()]

    def catalogue(self) -> list[dict[str, Any]]:
        """Return the objects of ``GET /api/v1/streams``."""
        entries = []
        for stream_id, stream in CATALOGUE.items():
            problem = self.problem(stream_id)
            if (problem and problem.level == 'warning' and problem.code != 'inactive'
                    and stream.content_type == JSON):
                problem = None      # its messages come, and say so themselves
            entries.append({
                'id': stream_id, 'content_type': stream.content_type,
                'description': stream.description, 'available': problem is None,
                'reason': problem.message if problem else None,
                'subscribers': self._connections.count(stream_id),
                'rate_hz': round(self._streaming.rate(stream_id), 2)})
        return entries

    def problem(self, stream_id: str) -> Status | None:
        """Return what keeps a stream from coming now; None when nothing does."""
        needs = CATALOGUE[stream_id].needs if stream_id in CATALOGUE else frozenset()
        return (self._not_configured(needs) or self._no_images() or self._no_calibration(needs)
                or self._no_depth(needs) or self._no_board(needs))

    def _not_configured(self, needs: frozenset[str]) -> Status | None:
        if 'robot' in needs and self._aruco.board_from_robot is None:
            return Status('error', 'not_configured',
                          'no robot is configured: set parameter robot.pose_in_board')
        if 'board' in needs and self._aruco.board is None:
            return Status('error', 'not_configured',
                          'no board is configured: set parameter board.file')
        return None

    def _no_images(self) -> Status | None:
        health = self._health.check()
        if health.code == 'inactive':
            return Status('warning', health.code, health.message)
        if health.is_ok:
            return None
        level = 'info' if health.code == 'starting' else 'error'
        return Status(level, health.code, health.message)

    def _no_calibration(self, needs: frozenset[str]) -> Status | None:
        frame = self._streaming.newest_frame
        if 'calibration' not in needs or frame is None or frame.camera:
            return None
        return Status('warning', 'no_calibration', frame.camera_problem)

    def _no_depth(self, needs: frozenset[str]) -> Status | None:
        if 'depth' not in needs:
            return None
        if not self._health.has_depth:
            return Status('warning', 'no_depth', 'the depth topic has no publisher')
        if self._streaming.waits_for_depth:
            return Status('warning', 'no_depth', 'no depth image with the stamp of an image '
                          'arrives (see depth.max_stamp_difference)')
        return None

    def _no_board(self, needs: frozenset[str]) -> Status | None:
        # An old snapshot says nothing: poses are computed only while somebody wants them.
        snapshot = self._streaming.newest_snapshot
        if 'board' not in needs or snapshot is None or snapshot.board:
            return None
        if not snapshot.calibrated and any(marker.on_board for marker in snapshot.seen):
            return None
        return Status('warning', 'board_lost', 'the board is not visible')
