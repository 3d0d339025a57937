"""The wall behind the demo's objects: a picture that holds still, and its depth."""
from __future__ import annotations

import cv2
import numpy as np

from camws_bridge.models import Array

# The wall's slant: 1 / z changes by this share for each unit of a ray's x.
_SLANT = 0.2
# The window (share of the picture: left, top, right, bottom) has no depth, as glass has none.
_WINDOW = (0.04, 0.06, 0.17, 0.3)


def draw_wall(rays: Array, distance: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """
    Return the wall's picture (h x w x 3, uint8, BGR) and depth (h x w, uint16, mm).

    ``rays`` (h x w x 2) are the pixels' rays; the wall is ``distance`` metres away in the middle.
    """
    height, width = rays.shape[:2]
    image = _plaster(rng, width, height)
    _draw_clutter(image, rng)
    depth = np.rint(1000 * distance / (1 + _SLANT * rays[:, :, 0]))
    depth = np.clip(depth, 0, 65535).astype(np.uint16)
    left, top, right, bottom = np.rint(
        np.multiply(_WINDOW, (width, height, width, height))).astype(int).tolist()
    cv2.rectangle(image, (left, top), (right, bottom), (92, 84, 70), cv2.FILLED)
    cv2.rectangle(image, (left, top), (right, bottom), (150, 160, 170), max(1, width // 160))
    depth[top:bottom, left:right] = 0
    return image, depth


def _plaster(rng: np.random.Generator, width: int, height: int) -> Array:
    """Return smooth random patches of several sizes in grayish colours."""
    image = np.full((height, width, 3), (112, 118, 122), np.float32)
    for cells, strength in ((3, 22.0), (12, 12.0), (48, 7.0), (160, 5.0)):
        coarse = rng.standard_normal((cells, cells * 4 // 3, 3)).astype(np.float32)
        # Mostly gray, with a hint of colour.
        coarse = 0.75 * coarse[:, :, :1] + 0.25 * coarse
        image += strength * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 30, 200).astype(np.uint8)


def _draw_clutter(image: Array, rng: np.random.Generator) -> None:
    """Draw soft discs and bars: something for detectors to look at and to leave alone."""
    height, width = image.shape[:2]
    for _ in range(14):
        x, y = (int(value) for value in rng.integers(0, (width, height)))
        size = int(rng.integers(width // 40, width // 12))
        level = rng.integers(60, 180, 3)
        colour = tuple(int(value) for value in 0.8 * level.mean() + 0.2 * level)
        if rng.random() < 0.5:
            cv2.circle(image, (x, y), size // 2, colour, cv2.FILLED, cv2.LINE_AA)
        else:
            end = (x + int(rng.integers(-3 * size, 3 * size)), y + int(rng.integers(-size, size)))
            cv2.line(image, (x, y), end, colour, max(1, size // 6), cv2.LINE_AA)
    cv2.GaussianBlur(image, (0, 0), width / 640, dst=image)
