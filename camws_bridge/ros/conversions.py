"""
ROS messages to models and back; the only user of cv_bridge.

Every encoding that vision.pixel_formats knows is a view of the message. 16-bit colour and Bayer
are reduced to 8 bits here, since PyPI's cv_bridge knows their names but converts none of them.
The rest goes through cv_bridge, if there is one.
"""
from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, TransformStamped, Vector3
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from camws_bridge.models import Array, CameraModel, EncodedImage, FloatArray, Stamp
from camws_bridge.vision.camera import cut_and_binned, make_camera_model
from camws_bridge.vision.encoding import inspect
from camws_bridge.vision.geometry import to_quaternion
from camws_bridge.vision.pixel_formats import FORMATS, ImageError, view_pixels

_DEPTH_ENCODINGS = ('16UC1', 'mono16', '32FC1')
# 16-bit samples, and the encoding that their more significant bytes are.
_REDUCED = {f'{name}16': f'{name}8' for name in (
    'bgr', 'rgb', 'bgra', 'rgba', 'bayer_rggb', 'bayer_bggr', 'bayer_gbrg', 'bayer_grbg')}


def to_stamp(time: Time) -> Stamp:
    """Return a message's time as a Stamp."""
    return Stamp(time.sec, time.nanosec)


def to_pixels(message: Image) -> tuple[Array, str]:
    """Return an image's pixels and their encoding; raises ImageError."""
    if message.encoding in FORMATS:
        return _view(message), message.encoding
    if message.encoding in _REDUCED:
        return _reduce(message), _REDUCED[message.encoding]
    return _convert(message), 'bgr8'


def to_depth(message: Image) -> Array:
    """Return depth as uint16 mm or float32 m (h, w); raises ImageError."""
    if message.encoding not in _DEPTH_ENCODINGS:
        raise ImageError('depth_encoding', f"depth with encoding '{message.encoding}'; known: "
                         f'{", ".join(_DEPTH_ENCODINGS)}')
    return _view(message)


def to_encoded(message: CompressedImage) -> tuple[EncodedImage, int, int]:
    """Return the image file of a message, its width and height; raises ImageError."""
    data = bytes(message.data)
    content_type, width, height = inspect(data)
    return EncodedImage(data, content_type), width, height


def to_camera_model(message: CameraInfo) -> CameraModel:
    """Return the intrinsics of the image that is sent; raises CalibrationError."""
    sensor = make_camera_model(
        message.width, message.height, message.distortion_model, np.array(message.d, float),
        np.array(message.k, float), np.array(message.r, float), np.array(message.p, float),
        message.header.frame_id)
    roi = message.roi
    return cut_and_binned(
        sensor, (roi.x_offset, roi.y_offset), (roi.width or message.width,
                                               roi.height or message.height),
        (max(1, message.binning_x), max(1, message.binning_y)))


def to_image_message(image: Array, header: Header) -> Image:
    """Return a BGR image (h, w, 3, uint8) as a message."""
    height, width = image.shape[:2]
    message = Image(header=header, height=height, width=width, encoding='bgr8', step=width * 3)
    # Only an array is taken over as it is: anything else is checked element by element.
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(image).data)
    message.data = data
    return message


def to_header(stamp: Stamp, frame_id: str) -> Header:
    """Return the header of a message about an image."""
    return Header(stamp=Time(sec=stamp.sec, nanosec=stamp.nanosec), frame_id=frame_id)


def to_transform(header: Header, child_frame_id: str, parent_from_child: FloatArray
                 ) -> TransformStamped:
    """Return a pose (4x4) as a stamped transform."""
    x, y, z = parent_from_child[:3, 3].tolist()
    return TransformStamped(
        header=header, child_frame_id=child_frame_id, transform=Transform(
            translation=Vector3(x=x, y=y, z=z), rotation=_quaternion(parent_from_child)))


def to_pose(matrix: FloatArray) -> Pose:
    """Return a pose (4x4) as a message."""
    x, y, z = matrix[:3, 3].tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=_quaternion(matrix))


def _quaternion(matrix: FloatArray) -> Quaternion:
    x, y, z, w = to_quaternion(matrix).tolist()
    return Quaternion(x=x, y=y, z=z, w=w)


def _view(message: Image) -> Array:
    return view_pixels(memoryview(message.data), message.width, message.height, message.encoding,
                       message.step, bool(message.is_bigendian))


def _reduce(message: Image) -> Array:
    """Return 16-bit samples as 8-bit ones; raises ImageError."""
    encoding = _REDUCED[message.encoding]
    row = message.width * FORMATS[encoding].channels
    samples = view_pixels(memoryview(message.data), row, message.height, 'mono16', message.step,
                          bool(message.is_bigendian))
    high = (samples >> 8).astype(np.uint8)
    return view_pixels(high.reshape(-1).data, message.width, message.height, encoding, row)


def _convert(message: Image) -> Array:
    """Return an image of an encoding only cv_bridge knows as BGR, uint8; raises ImageError."""
    if message.width == 0 or message.height == 0:
        raise ImageError('zero_size', f'an image of {message.width}x{message.height} pixels')
    if len(message.data) < message.step * message.height:
        raise ImageError('short_data', f'{len(message.data)} bytes of data; step {message.step} x '
                         f'height {message.height} needs more')
    try:
        image: Array = np.asarray(_cv_bridge()(message, 'bgr8'))
    except Exception as error:  # cv_bridge raises all kinds of errors for what it does not know
        raise _unknown(message) from error
    if image.dtype != np.uint8 or image.shape != (message.height, message.width, 3):
        raise _unknown(message)
    return image


def _unknown(message: Image) -> ImageError:
    # Without cv_bridge's own words: they speak of buffers and dictionary keys.
    return ImageError('unknown_encoding', f"encoding '{message.encoding}' is not known; known: "
                      f'{", ".join((*FORMATS, *_REDUCED))}')


def _cv_bridge() -> Callable[[Image, str], Array]:
    from cv_bridge import CvBridge
    convert: Callable[[Image, str], Any] = CvBridge().imgmsg_to_cv2
    return convert
