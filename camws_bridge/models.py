"""
The values that walk through the bridge: frozen, free of frameworks, cheap to share.

Units are metres, radians and pixels. A pose is a 4x4 homogeneous matrix ``T_a_b`` (float64)
that takes points of frame b into frame a: ``p_a = T_a_b @ p_b``.
"""
from __future__ import annotations

from dataclasses import dataclass, field
import enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """The capture time of an image, on the clock of the ROS stamps."""

    sec: int
    nanosec: int

    @property
    def seconds(self) -> float:
        """Seconds as one float (about 0.2 µs resolution today)."""
        return self.sec + self.nanosec * 1e-9

    def as_dict(self) -> dict[str, int]:
        """Return the shape the wire contract uses."""
        return {'sec': self.sec, 'nanosec': self.nanosec}


class DistortionModel(enum.Enum):
    """The lens models of sensor_msgs/CameraInfo (sensor_msgs/distortion_models.hpp)."""

    PLUMB_BOB = 'plumb_bob'
    RATIONAL_POLYNOMIAL = 'rational_polynomial'
    EQUIDISTANT = 'equidistant'


@dataclass(frozen=True, slots=True, eq=False)
class CameraModel:
    """
    Intrinsics of the image as it arrives.

    ``k`` is 3x3, ``d`` holds the coefficients of ``model`` in OpenCV's order (empty: none),
    ``r`` is 3x3 and ``p`` 3x4, as in sensor_msgs/CameraInfo.
    """

    width: int
    height: int
    model: DistortionModel
    k: FloatArray
    d: FloatArray
    r: FloatArray
    p: FloatArray
    frame_id: str = ''

    @property
    def is_distorted(self) -> bool:
        """Tell whether any distortion coefficient differs from zero."""
        return bool(np.any(self.d))


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image file in memory, as a compressed transport delivers it."""

    data: bytes
    content_type: str


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """
    One image of the camera and what belongs to it: the value of IMAGE_RECEIVED.

    ``pixels`` is the image in the layout that ``encoding`` names (ROS names), often a view of the
    received message: read it, never write it. It is ``None`` when only ``encoded`` came.
    ``depth`` is registered to the image: uint16 millimetres or float32 metres, 0 or NaN = none.
    ``camera`` is ``None`` while the intrinsics are not known; ``camera_problem`` then says why.
    """

    seq: int
    stamp: Stamp
    frame_id: str
    width: int
    height: int
    encoding: str = 'bgr8'
    pixels: Array | None = None
    encoded: EncodedImage | None = None
    camera: CameraModel | None = None
    camera_problem: str = ''
    depth: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """
    One marker as seen: id and corners (4x2 float64, px), clockwise from its own top left.

    Of refined corners, ``covariance`` (4x2x2, px squared) is that of each corner's coordinates,
    ``edge_residual_px`` how far the points of the marker's edges are off their straight lines
    (rms; None without any edge), and ``by_edges`` how many corners are where edges meet.
    """

    marker_id: int
    corners: FloatArray
    covariance: FloatArray | None = None
    edge_residual_px: float | None = None
    by_edges: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class SeenMarker:
    """
    A detection and what is known of it.

    ``length`` is its side in metres; ``reprojection_error_px`` is None where no pose was solved.
    ``duplicate`` tells that its id stands in the image more than once, ``used`` that the board's
    pose or a single marker's was made of it. ``edge_residual_px`` and ``by_edges`` are those of
    its Detection.
    """

    marker_id: int
    corners: FloatArray
    on_board: bool
    length: float
    reprojection_error_px: float | None
    duplicate: bool = False
    used: bool = True
    edge_residual_px: float | None = None
    by_edges: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class MarkerPose:
    """
    A single marker in the camera's optical frame.

    The marker's frame stands in its centre: x right, y up, z out of the printed side.
    ``covariance`` (6x6) is that of x, y, z (metres) and of turns about the optical frame's fixed
    axes (radians). ``ambiguous`` tells that another pose explains the image about as well, and
    ``error_ratio`` its misfit by this one's (None where there is no other).
    """

    marker_id: int
    length: float
    camera_from_marker: FloatArray
    reprojection_error_px: float
    ambiguous: bool
    covariance: FloatArray | None = None
    error_ratio: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class BoardPose:
    """
    The board in the camera's optical frame, solved from all its accepted corners.

    ``corners_used`` and ``corners_rejected`` count them; the rest is as in MarkerPose.
    """

    camera_from_board: FloatArray
    markers_used: int
    reprojection_error_px: float
    ambiguous: bool = False
    covariance: FloatArray | None = None
    error_ratio: float | None = None
    corners_used: int = 0
    corners_rejected: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class TransformsSnapshot:
    """
    All that one image says about poses: the value of TRANSFORMS_COMPUTED.

    ``board_absent`` says why ``board`` is ``None`` (``not_configured``, ``no_calibration``,
    ``not_detected``). ``seen`` is everything detected; ``markers`` the poses of the single markers
    that are no part of the board.
    """

    seq: int
    stamp: Stamp
    camera_frame_id: str
    width: int
    height: int
    calibrated: bool
    seen: tuple[SeenMarker, ...]
    markers: tuple[MarkerPose, ...] = ()
    board: BoardPose | None = None
    board_absent: str = 'not_configured'


@dataclass(frozen=True, slots=True)
class Variant:
    """
    What is made for one kind of client: a stream and all that changes its bytes.

    Clients with equal variants share every byte. ``width`` (px) and ``quality`` (JPEG, 1-100) of
    ``None`` mean the stream's own; ``framed`` adds the camws.v1 header, which carries ``embed``.
    """

    stream_id: str
    width: int | None = None
    quality: int | None = None
    marker_id: int | None = None
    content_type: str | None = None
    framed: bool = False
    embed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """
    One stream message, encoded once for all its clients.

    ``frame`` is the complete WebSocket frame; ``body`` (a view into it) what it carries, without
    the camws.v1 header. ``encoding`` and ``step`` (bytes) describe raw pixels.
    """

    variant: Variant
    seq: int
    stamp: Stamp
    frame_id: str
    content_type: str
    width: int
    height: int
    frame: bytes
    body: memoryview = field(repr=False)
    encoding: str = ''
    step: int = 0
