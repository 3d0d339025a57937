"""
The image encodings of sensor_msgs/Image that need nothing but numpy views and one cv2.cvtColor.

Names are those of sensor_msgs/image_encodings.hpp, and the short ones that drivers also use.
"""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from camws_bridge.models import Array


class ImageError(ValueError):
    """An image that cannot be used; ``kind`` groups reports, the text names the value."""

    def __init__(self, kind: str, message: str) -> None:
        """``kind`` is a short constant such as ``short_data``."""
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """
    Where the samples of an encoding lie and how OpenCV turns them into BGR and gray.

    ``rows`` is the number of stored rows by image row (1.5 for 4:2:0), ``even`` the divisor that
    width (and, for 4:2:0, height) must have. A code of ``None``: it is that already.
    """

    dtype: type
    channels: int = 1
    to_bgr: int | None = None
    to_gray: int | None = None
    rows: float = 1.0
    even: int = 1
    stretch: bool = False


_YUY2 = PixelFormat(np.uint8, 2, cv2.COLOR_YUV2BGR_YUY2, cv2.COLOR_YUV2GRAY_YUY2, even=2)
_UYVY = PixelFormat(np.uint8, 2, cv2.COLOR_YUV2BGR_UYVY, cv2.COLOR_YUV2GRAY_UYVY, even=2)
_BGR = PixelFormat(np.uint8, 3, None, cv2.COLOR_BGR2GRAY)
_BGRA = PixelFormat(np.uint8, 4, cv2.COLOR_BGRA2BGR, cv2.COLOR_BGRA2GRAY)
_GRAY = PixelFormat(np.uint8)

FORMATS: dict[str, PixelFormat] = {
    'bgr8': _BGR, '8UC3': _BGR,
    'rgb8': PixelFormat(np.uint8, 3, cv2.COLOR_RGB2BGR, cv2.COLOR_RGB2GRAY),
    'bgra8': _BGRA, '8UC4': _BGRA,
    'rgba8': PixelFormat(np.uint8, 4, cv2.COLOR_RGBA2BGR, cv2.COLOR_RGBA2GRAY),
    'mono8': _GRAY, '8UC1': _GRAY,
    'mono16': PixelFormat(np.uint16),
    # Nobody knows the range of these: what is shown is stretched from its least to its most.
    '16UC1': PixelFormat(np.uint16, stretch=True),
    '32FC1': PixelFormat(np.float32, stretch=True),
    'yuv422': _UYVY, 'uyvy': _UYVY, 'yuv422_uyvy': _UYVY,
    'yuyv': _YUY2, 'yuy2': _YUY2, 'yuv422_yuy2': _YUY2, 'yuv422_yuyv': _YUY2,
    'nv12': PixelFormat(
        np.uint8, 1, cv2.COLOR_YUV2BGR_NV12, cv2.COLOR_YUV2GRAY_NV12, rows=1.5, even=2),
    'nv21': PixelFormat(
        np.uint8, 1, cv2.COLOR_YUV2BGR_NV21, cv2.COLOR_YUV2GRAY_NV21, rows=1.5, even=2),
    'bayer_rggb8': PixelFormat(
        np.uint8, 1, cv2.COLOR_BayerRGGB2BGR, cv2.COLOR_BayerRGGB2GRAY, even=2),
    'bayer_bggr8': PixelFormat(
        np.uint8, 1, cv2.COLOR_BayerBGGR2BGR, cv2.COLOR_BayerBGGR2GRAY, even=2),
    'bayer_gbrg8': PixelFormat(
        np.uint8, 1, cv2.COLOR_BayerGBRG2BGR, cv2.COLOR_BayerGBRG2GRAY, even=2),
    'bayer_grbg8': PixelFormat(
        np.uint8, 1, cv2.COLOR_BayerGRBG2BGR, cv2.COLOR_BayerGRBG2GRAY, even=2),
}


def view_pixels(
        data: memoryview, width: int, height: int, encoding: str, step: int,
        is_bigendian: bool = False) -> Array:
    """
    Return the samples as an array without copying them: (rows, width[, channels]).

    ``step`` is the length of a stored row in bytes; padding is left out of the view. The array
    is read-only and in native byte order (only foreign and unaligned 16- and 32-bit samples
    are copied).
    Raises ImageError for an encoding that is not in FORMATS, for sizes that cannot be, and for
    data shorter than step x rows.
    """
    pixel_format = FORMATS.get(encoding)
    if pixel_format is None:
        raise ImageError('unknown_encoding',
                         f"encoding '{encoding}' is not known; known: {', '.join(FORMATS)}")
    if width <= 0 or height <= 0:
        raise ImageError('zero_size', f'an image of {width}x{height} pixels')
    if width % pixel_format.even or (pixel_format.rows != 1 and height % pixel_format.even):
        raise ImageError('odd_size', f'{encoding} needs an even size, not {width}x{height}')
    dtype = np.dtype(pixel_format.dtype)
    pixel_bytes = dtype.itemsize * pixel_format.channels
    rows = int(height * pixel_format.rows)
    if step < width * pixel_bytes:
        raise ImageError(
            'short_step', f'step {step} is less than the {width * pixel_bytes} bytes of a row')
    # The last row needs no padding after it: some drivers leave it out.
    needed = step * (rows - 1) + width * pixel_bytes
    if len(data) < needed:
        raise ImageError(
            'short_data', f'{len(data)} bytes of data; {encoding} {width}x{height} with step '
            f'{step} needs {needed}')
    stored = dtype.newbyteorder('>' if is_bigendian else '<')
    shape, strides = [rows, width], [step, pixel_bytes]
    if pixel_format.channels > 1:
        shape.append(pixel_format.channels)
        strides.append(dtype.itemsize)
    view: Array = np.ndarray(tuple(shape), stored, data, 0, tuple(strides))
    view = view.astype(dtype, copy=False)
    if not view.flags.aligned:
        view = view.copy()      # a step of half samples: OpenCV refuses it
    view.flags.writeable = False
    return view


def to_viewable(pixels: Array, encoding: str) -> Array:
    """Return what a person looks at: BGR (h, w, 3) or gray (h, w), uint8."""
    pixel_format = FORMATS[encoding]
    if pixel_format.to_bgr is not None:
        return cv2.cvtColor(_packed(pixels, pixel_format), pixel_format.to_bgr)
    return pixels if pixels.dtype == np.uint8 else _to_8_bit(pixels, pixel_format)


def to_gray(pixels: Array, encoding: str) -> Array:
    """Return the brightness (h, w), uint8."""
    pixel_format = FORMATS[encoding]
    if pixel_format.to_gray is not None:
        return cv2.cvtColor(_packed(pixels, pixel_format), pixel_format.to_gray)
    return pixels if pixels.dtype == np.uint8 else _to_8_bit(pixels, pixel_format)


def to_bgr(pixels: Array, encoding: str) -> Array:
    """Return the picture as BGR (h, w, 3), uint8."""
    viewable = to_viewable(pixels, encoding)
    return viewable if viewable.ndim == 3 else cv2.cvtColor(viewable, cv2.COLOR_GRAY2BGR)


def _packed(pixels: Array, pixel_format: PixelFormat) -> Array:
    # Sub-sampled planes are read by OpenCV as one block; other views may keep their padding.
    return pixels if pixel_format.rows == 1 else np.ascontiguousarray(pixels)


def _to_8_bit(pixels: Array, pixel_format: PixelFormat) -> Array:
    if not pixel_format.stretch:
        return (pixels >> 8).astype(np.uint8)
    valid = np.isfinite(pixels)
    if not np.any(valid):
        return np.zeros(pixels.shape, np.uint8)
    low, high = float(pixels[valid].min()), float(pixels[valid].max())
    scaled = (np.where(valid, pixels, low) - low) * (255.0 / max(high - low, 1e-12))
    return scaled.astype(np.uint8)
