"""``/api/v1/transforms``, ``/api/v1/aruco`` and ``/api/v1/calibration``."""
from __future__ import annotations

from typing import Any

from camws_bridge import json_text
from camws_bridge.api.bridge import Bridge, Route
from camws_bridge.api.handlers import ApiError, ApiHandler
from camws_bridge.api.v1.endpoints.images import fetch
from camws_bridge.models import Variant
from camws_bridge.services.pose_messages import FRAMES

_KINDS = {'board': 'board', 'robot': 'robot', 'camera': 'camera', 'external_markers': 'marker'}


class PoseRequestHandler(ApiHandler):
    """What the handlers of poses share."""

    async def fetch_object(self, name: str) -> Any:
        """Return the newest of the JSON objects of json_service; raises ApiError."""
        self.need('markers' if name == 'aruco' else name)
        message = await fetch(self.bridge, Variant(name))
        return json_text.loads(message.body)

    async def fetch_transforms(self) -> dict[str, Any]:
        """Return the ``transforms_*`` object of ``?frame=`` (default: camera)."""
        frame = self.get_query_argument('frame', 'camera')
        if frame not in FRAMES:
            raise ApiError(400, 'bad_option', f'frame: {frame!r} is not allowed; allowed: '
                           f'{", ".join(FRAMES)}')
        stream_id = f'transforms_{frame}'
        if stream_id not in self.bridge.status.stream_ids():
            problem = self.bridge.status.problem(stream_id)
            raise ApiError(404, 'not_configured', problem.message if problem else stream_id)
        value: dict[str, Any] = await self.fetch_object(stream_id)
        return value


class TransformsHandler(PoseRequestHandler):
    """All poses in one frame."""

    async def get(self) -> None:
        """Answer with the newest object."""
        self.write_json(await self.fetch_transforms())


class TransformsOfKindHandler(PoseRequestHandler):
    """The poses of one kind in one frame."""

    async def get(self, name: str) -> None:
        """Answer with the newest object, the other kinds left out."""
        value = await self.fetch_transforms()
        value['transforms'] = [entry for entry in value['transforms']
                               if entry['kind'] == _KINDS[name]]
        self.write_json(value)


class ArucoHandler(PoseRequestHandler):
    """Everything detected, and the state of the board."""

    async def get(self) -> None:
        """Answer with the newest ``markers`` object and ``board``, both of one image."""
        self.write_json(await self.fetch_object('aruco'))


class CalibrationHandler(PoseRequestHandler):
    """The intrinsics of the camera."""

    async def get(self) -> None:
        """Answer with the intrinsics of the newest image; 503 until they are known."""
        calibration = await self.fetch_object('camera_info')
        if calibration is None:
            frame = self.bridge.streaming.newest_frame
            raise ApiError(503, 'no_calibration', frame.camera_problem if frame else 'no image')
        self.write_json(calibration)


def routes(bridge: Bridge) -> list[Route]:
    """Return the routes of this module."""
    services = {'bridge': bridge}
    return [
        (r'/api/v1/transforms', TransformsHandler, services),
        (rf'/api/v1/transforms/({"|".join(_KINDS)})', TransformsOfKindHandler, services),
        (r'/api/v1/aruco', ArucoHandler, services),
        (r'/api/v1/calibration', CalibrationHandler, services),
    ]
