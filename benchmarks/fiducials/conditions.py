"""What makes a camera's picture of linear light: lens, motion, light, sensor, encoding."""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from camws_bridge.models import Array, FloatArray

_FULL = 235.0


@dataclass(frozen=True)
class Condition:
    """
    How a picture is taken.

    ``lens`` and ``noise`` are standard deviations (px; gray values), ``motion`` the length (px) of
    a straight smear in a random direction, ``light`` the range that the exposure is drawn from
    (1: white paper just below saturation), ``shadow`` what a hard shadow leaves of the light,
    ``gamma`` the encoding's, ``sharpen`` the amount of an unsharp mask, ``jpeg`` a quality (0:
    none), ``occluded`` the range (in sides) of the size of what covers a corner of each marker.
    With ``bayer`` every pixel sees one colour of a gray scene and the others are interpolated.
    """

    name: str
    lens: float = 0.5
    noise: float = 3.0
    motion: float = 0.0
    light: tuple[float, float] = (0.65, 1.0)
    shadow: float = 1.0
    gamma: float = 1.0
    sharpen: float = 0.0
    jpeg: int = 0
    occluded: tuple[float, float] | None = None
    bayer: bool = False


CLEAN = Condition('clean', noise=0.0)
# What the targets mean by ordinary: an indoor camera in focus.
ORDINARY = Condition('ordinary')
CONDITIONS = (
    CLEAN,
    ORDINARY,
    Condition('noise', noise=8.0),
    Condition('blur', lens=1.5),
    Condition('motion', motion=4.0),
    Condition('dark', light=(0.12, 0.25)),
    Condition('shadow', shadow=0.35),
    Condition('gamma', gamma=2.2),
    Condition('jpeg', jpeg=80),
    Condition('occluded', occluded=(0.1, 0.35)),
    Condition('everything', lens=0.8, noise=5.0, motion=2.0, light=(0.4, 0.8), shadow=0.5,
              gamma=2.2, jpeg=80),
)
PHONE = Condition('phone', gamma=2.2, sharpen=1.0, jpeg=90, noise=2.0)
CHEAP = Condition('cheap', bayer=True, jpeg=40)


def by_name(name: str) -> Condition:
    """Return the condition of that name."""
    return next(condition for condition in CONDITIONS if condition.name == name)


def develop(light: Array, condition: Condition, rng: np.random.Generator) -> Array:
    """Return the picture (h x w, uint8) of linear light (h x w, 1: white paper in full light)."""
    height, width = light.shape
    exposure = np.float32(rng.uniform(*condition.light))
    exposed: Array = exposure * light * _falloff(rng, width, height)
    if condition.shadow < 1.0:
        exposed *= _shadow(rng, width, height, condition.shadow)
    exposed = cv2.GaussianBlur(exposed, (0, 0), condition.lens)
    if condition.motion:
        exposed = cv2.filter2D(exposed, -1, _smear(condition.motion, rng.uniform(0, np.pi)))
    values: Array = _FULL * np.clip(exposed, 0, 1.05) ** (1.0 / condition.gamma)
    values += condition.noise * rng.standard_normal(values.shape, np.float32)
    if condition.sharpen:
        values += condition.sharpen * (values - cv2.GaussianBlur(values, (0, 0), 1.0))
    image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    if condition.bayer:
        image = np.asarray(cv2.cvtColor(_mosaic(image), cv2.COLOR_BayerBG2GRAY), np.uint8)
    if condition.jpeg:
        encoded = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, condition.jpeg])[1]
        return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))
    return image


def _mosaic(image: Array) -> Array:
    """Return what a sensor with a Bayer pattern sees of gray in light that is not quite white."""
    gains = np.array([[0.9, 1.0], [1.0, 0.95]])
    height, width = image.shape
    tiled = np.tile(gains, (height // 2 + 1, width // 2 + 1))[:height, :width]
    return np.asarray(np.rint(image * tiled), np.uint8)


def _plane(rng: np.random.Generator, width: int, height: int) -> FloatArray:
    """Return the distance (px) of each pixel from a random line through the picture."""
    angle = rng.uniform(0, 2 * np.pi)
    x, y = rng.uniform(0.25, 0.75, 2) * (width, height)
    distance: FloatArray = (np.cos(angle) * (np.arange(width) - x)
                            + np.sin(angle) * (np.arange(height)[:, None] - y))
    return distance


def _falloff(rng: np.random.Generator, width: int, height: int) -> Array:
    """Return light that falls by up to a third from one side of the picture to the other."""
    across = 0.5 - _plane(rng, width, height) / np.hypot(width, height)
    return np.asarray(1.0 - rng.uniform(0, 0.35) * np.clip(across, 0, 1), np.float32)


def _shadow(rng: np.random.Generator, width: int, height: int, left: float) -> Array:
    """Return a shadow's light; bars of shadow, so that many markers have an edge on them."""
    period = rng.uniform(120, 320) * width / 640
    distance = _plane(rng, width, height)
    # A penumbra of about three pixels.
    lit = np.clip(0.5 + (np.abs((distance % period) - period / 2) - period / 4) / 3.0, 0, 1)
    return np.asarray(left + (1 - left) * lit, np.float32)


def _smear(length: float, angle: float) -> Array:
    """Return the kernel of a straight movement, symmetric: the corner's truth is its middle."""
    radius = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float64)
    for t in np.linspace(-length / 2, length / 2, 65):
        x, y = radius + t * np.cos(angle), radius + t * np.sin(angle)
        i, j = int(np.floor(x)), int(np.floor(y))
        u, v = x - i, y - j
        kernel[j:j + 2, i:i + 2] += np.outer([1 - v, v], [1 - u, u])
    return np.asarray(kernel / kernel.sum(), np.float32)
