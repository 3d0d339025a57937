"""The JSON streams, and the same objects embedded in image headers."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from camws_bridge import json_text
from camws_bridge.services.aruco_service import ArucoService
from camws_bridge.services.frame_context import FrameContext
from camws_bridge.services.pose_messages import (
    board_object, calibration_object, FRAMES, markers_object, transforms_object)

JSON = 'application/json'
# The one object that needs no detection.
CAMERA_INFO = 'camera_info'


@dataclass(frozen=True, slots=True)
class JsonStream:
    """One JSON stream; ``needs`` as in ImageProduct, and ``robot``."""

    stream_id: str
    description: str
    needs: frozenset[str] = frozenset()
    content_type: str = JSON


CATALOGUE = {stream.stream_id: stream for stream in (
    JsonStream('markers', 'everything detected: ids, corners in pixels, errors'),
    JsonStream('transforms_camera', "all poses in the camera's optical frame",
               frozenset({'calibration'})),
    JsonStream('transforms_board', 'all poses in the frame of the board',
               frozenset({'calibration', 'board'})),
    JsonStream('transforms_robot', 'all poses in the frame of the robot base',
               frozenset({'calibration', 'board', 'robot'})),
)}
# What ?embed= may name, and every object there is: ``aruco`` is that of GET /api/v1/aruco.
EMBEDDABLE = (CAMERA_INFO, *CATALOGUE)
OBJECTS = (*EMBEDDABLE, 'aruco')


class JsonService:
    """Makes JSON objects of a frame, each once; used by the processing thread only."""

    def __init__(self, aruco: ArucoService) -> None:
        """``aruco`` knows the poses."""
        self._aruco = aruco

    def produce(self, context: FrameContext, name: str) -> bytes:
        """Return the object ``name`` (one of OBJECTS) as UTF-8 JSON without NaN."""
        return context.once(('json', name), lambda: json_text.dumps(self._object(context, name)))

    def _object(self, context: FrameContext, name: str) -> dict[str, Any] | None:
        if name == CAMERA_INFO:
            camera = context.frame.camera
            return calibration_object(camera) if camera else None
        snapshot = self._aruco.analyse(context)
        if name == 'markers':
            return markers_object(snapshot)
        if name == 'aruco':
            return {**markers_object(snapshot), 'board': board_object(snapshot)}
        frame = name.removeprefix('transforms_')
        assert frame in FRAMES, name
        return transforms_object(
            snapshot, frame, context.settings.tf, self._aruco.board_from_robot)
