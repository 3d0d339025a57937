"""The other way round: BGR pictures in the encodings of sensor_msgs that real cameras publish."""
from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from camws_bridge.models import Array

# Blue, green and red by their place in a 2 x 2 cell: row, column.
_RGGB = {2: ((0, 0),), 1: ((0, 1), (1, 0)), 0: ((1, 1),)}


def _gray(image: Array) -> Array:
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)


def _mono16(image: Array) -> Array:
    return _gray(image).astype('<u2') * np.uint16(257)


def _nv12(image: Array) -> Array:
    planes = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
    height, width = image.shape[:2]
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    planes[height:] = np.stack([chroma[0], chroma[1]], axis=2).reshape(height // 2, width)
    return planes


def _bayer_rggb(image: Array) -> Array:
    mosaic = np.empty(image.shape[:2], np.uint8)
    for channel, places in _RGGB.items():
        for row, column in places:
            mosaic[row::2, column::2] = image[row::2, column::2, channel]
    return mosaic


def _by_code(code: int) -> Callable[[Array], Array]:
    return lambda image: cv2.cvtColor(image, code)


# By name: how many bytes a row has for each pixel, and how it is made.
ENCODERS: dict[str, tuple[int, Callable[[Array], Array]]] = {
    'bgr8': (3, lambda image: image),
    'rgb8': (3, _by_code(cv2.COLOR_BGR2RGB)),
    'bgra8': (4, _by_code(cv2.COLOR_BGR2BGRA)),
    'rgba8': (4, _by_code(cv2.COLOR_BGR2RGBA)),
    'mono8': (1, _gray),
    'mono16': (2, _mono16),
    'nv12': (1, _nv12),
    'bayer_rggb8': (1, _bayer_rggb),
}
# Older OpenCV reads these layouts but cannot write them.
if hasattr(cv2, 'COLOR_BGR2YUV_UYVY'):
    ENCODERS['uyvy'] = (2, _by_code(cv2.COLOR_BGR2YUV_UYVY))
    ENCODERS['yuyv'] = (2, _by_code(cv2.COLOR_BGR2YUV_YUY2))

# These share colour among neighbours: width and height must be even.
NEED_EVEN_SIZE = frozenset({'nv12', 'bayer_rggb8', 'uyvy', 'yuyv'})
