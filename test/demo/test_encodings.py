from __future__ import annotations

import cv2
import numpy as np
import pytest

from camws_bridge.demo.encodings import ENCODERS
from camws_bridge.vision.pixel_formats import to_bgr, to_gray, view_pixels

WIDTH, HEIGHT = 64, 48


def smooth_picture() -> np.ndarray:
    # Smooth: layouts that share colour among neighbours lose nothing of it.
    top, bottom = [[20, 60, 120], [200, 90, 60]], [[60, 160, 90], [120, 120, 210]]
    return cv2.resize(np.array([top, bottom], np.uint8), (WIDTH, HEIGHT))


@pytest.mark.parametrize('encoding', ENCODERS)
def test_what_is_encoded_is_decoded_by_the_vision_core(encoding: str) -> None:
    picture = smooth_picture()
    pixel_bytes, encoder = ENCODERS[encoding]
    data = np.ascontiguousarray(encoder(picture)).tobytes()
    pixels = view_pixels(memoryview(data), WIDTH, HEIGHT, encoding, WIDTH * pixel_bytes)
    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    assert np.abs(to_gray(pixels, encoding).astype(int) - gray)[2:-2, 2:-2].max() <= 6
    if not encoding.startswith('mono'):
        assert np.abs(to_bgr(pixels, encoding).astype(int) - picture)[2:-2, 2:-2].max() <= 12
