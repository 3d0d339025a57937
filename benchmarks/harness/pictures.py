"""What the publisher publishes: rendered before it starts, so that publishing is cheap."""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from camws_bridge.demo.options import Options
from camws_bridge.demo.sources import Picture, SceneSource
from camws_bridge.models import Array, CameraModel

QUALITY = 80
_RING = 6
# Pixels that the texture moves from one picture of the ring to the next.
_STEP = 8


@dataclass(frozen=True)
class PictureSize:
    """Width and height (px) and the size of the JPEG at quality 80 (bytes; 0: the scene's own)."""

    width: int
    height: int
    jpeg_bytes: int

    def __str__(self) -> str:
        return f'{self.width}x{self.height}'


def textures(size: PictureSize) -> list[Array]:
    """Return a ring of BGR pictures whose JPEGs have about the wanted size."""
    rng = np.random.default_rng(7)
    smooth = _clouds(rng, size.width, size.height, 64)
    rough = _clouds(rng, size.width, size.height, 3)
    low, high = 0.0, 4.0
    for _ in range(12):
        amount = (low + high) / 2
        picture = _mixed(smooth, rough, amount)
        if len(cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]) \
                < size.jpeg_bytes:
            low = amount
        else:
            high = amount
    return [np.ascontiguousarray(np.roll(picture, i * _STEP, axis=1)) for i in range(_RING)]


def _clouds(rng: np.random.Generator, width: int, height: int, scale: int) -> Array:
    """Return noise of about one standard deviation 1, with details of ``scale`` pixels."""
    small = rng.normal(size=(height // scale + 2, width // scale + 2, 3)).astype(np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _mixed(smooth: Array, rough: Array, amount: float) -> Array:
    return np.clip(128 + 30 * smooth + 12 * amount * rough, 0, 255).astype(np.uint8)


def scenes(size: PictureSize) -> tuple[list[Picture], CameraModel]:
    """Return a ring of pictures of the demo's scene (board, markers, depth) and its camera."""
    source = SceneSource(Options(
        width=size.width, height=size.height, rate=30.0, frame_id='camera', board_file='',
        noise=3.0, encoding='bgr8', reliability='best_effort', source='', seed=1))
    assert source.camera is not None
    return [source.picture(i / 30) for i in range(_RING)], source.camera
