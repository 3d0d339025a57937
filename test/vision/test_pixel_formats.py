import itertools

import builders  # noqa: F401  (the profile of hypothesis)
import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from camws_bridge.vision.pixel_formats import (
    FORMATS, ImageError, to_bgr, to_gray, to_viewable, view_pixels)

# ---- messages made without OpenCV: each function returns the samples of a picture (h, w, 3 BGR)


def brightness(bgr):
    return bgr @ np.array([0.114, 0.587, 0.299])


def to_yuv(bgr):
    """BT.601, studio range, as cameras send it."""
    b, g, r = np.moveaxis(bgr.astype(float), 2, 0)
    y = 16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255
    u = 128 + (-37.797 * r - 74.203 * g + 112.0 * b) / 255
    v = 128 + (112.0 * r - 93.786 * g - 18.214 * b) / 255
    return (np.rint(plane).astype(np.uint8) for plane in (y, u, v))


def packed_yuv(order):
    def store(bgr):
        y, u, v = to_yuv(bgr)
        planes = {'Y': y[:, 0::2], 'y': y[:, 1::2], 'U': u[:, 0::2], 'V': v[:, 0::2]}
        rows = np.stack([planes[sample] for sample in order], axis=2)
        return rows.reshape(len(y), -1, 2)
    return store


def planar_yuv(first, second):
    def store(bgr):
        y, *planes = to_yuv(bgr)
        chroma = np.stack([planes[first][::2, ::2], planes[second][::2, ::2]], axis=2)
        return np.vstack([y, chroma.reshape(-1, y.shape[1])])
    return store


def bayer(pattern):
    def store(bgr):
        mosaic = np.empty(bgr.shape[:2], np.uint8)
        for (row, column), colour in zip(itertools.product((0, 1), (0, 1)), pattern):
            mosaic[row::2, column::2] = bgr[row::2, column::2, 'bgr'.index(colour)]
        return mosaic
    return store


def channels(*order):
    def store(bgr):
        opaque = np.dstack([bgr, np.full(bgr.shape[:2], 255, np.uint8)])
        return opaque[:, :, order]
    return store


STORE = {
    'bgr8': channels(0, 1, 2), '8UC3': channels(0, 1, 2), 'rgb8': channels(2, 1, 0),
    'bgra8': channels(0, 1, 2, 3), '8UC4': channels(0, 1, 2, 3), 'rgba8': channels(2, 1, 0, 3),
    'mono8': lambda bgr: bgr[:, :, 0], '8UC1': lambda bgr: bgr[:, :, 0],
    'mono16': lambda bgr: bgr[:, :, 0].astype(np.uint16) * 256 + 77,
    '16UC1': lambda bgr: bgr[:, :, 0].astype(np.uint16) * 100 + 900,
    '32FC1': lambda bgr: (bgr[:, :, 0] / 50 + 0.3).astype(np.float32),
    **dict.fromkeys(('yuv422', 'uyvy', 'yuv422_uyvy'), packed_yuv('UYVy')),
    **dict.fromkeys(('yuyv', 'yuy2', 'yuv422_yuy2', 'yuv422_yuyv'), packed_yuv('YUyV')),
    'nv12': planar_yuv(0, 1), 'nv21': planar_yuv(1, 0),
    **{f'bayer_{pattern}8': bayer(pattern) for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')},
}
GRAY = ('mono8', '8UC1', 'mono16', '16UC1', '32FC1')


def make_picture(encoding, seed):
    """Return what an encoding can carry exactly: see the comments."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (3, 4, 3), np.uint8)
    if encoding in GRAY:
        colours[:, :, :] = colours[:, :, :1]
        colours[0, :2] = [[0] * 3, [255] * 3]           # the whole range, for what is stretched
    if encoding.startswith('bayer'):
        colours[:] = colours[0, 0]                      # one colour: nothing to interpolate
    return colours.repeat(2, axis=0).repeat(2, axis=1)  # 2x2 blocks: nothing lost to 4:2:0


def make_data(samples, padding=0, big=False, cut=False):
    """Return a message's data and step: rows padded with garbage."""
    stored = samples.astype(samples.dtype.newbyteorder('>' if big else '<'))
    rows = [row.tobytes() for row in stored]
    data = b''.join(row + b'\xa5' * padding for row in rows)
    return bytearray(data[:len(data) - padding] if cut else data), len(rows[0]) + padding


def view(encoding, data, step, big=False, size=(8, 6)):
    return view_pixels(memoryview(data), *size, encoding, step, big)


def test_every_format_is_tested():
    assert set(STORE) == set(FORMATS)


@pytest.mark.parametrize('encoding', FORMATS)
@settings(max_examples=12)
@given(seed=st.integers(0, 999), padding=st.integers(0, 19), big=st.booleans(), cut=st.booleans())
def test_every_encoding_round_trips(encoding, seed, padding, big, cut):
    picture = make_picture(encoding, seed)
    data, step = make_data(STORE[encoding](picture), padding, big, cut)
    pixels = view(encoding, data, step, big)
    assert pixels.dtype == FORMATS[encoding].dtype
    assert pixels.dtype.isnative
    # YUV in 8 bits holds a colour to about 2; everything else is exact (stretching rounds down).
    is_yuv = 'yuv' in encoding or encoding in ('uyvy', 'yuyv', 'yuy2', 'nv12', 'nv21')
    bound = 4 if is_yuv else 1 if encoding in ('16UC1', '32FC1') else 0
    shown = to_bgr(pixels, encoding)
    assert shown.shape == (6, 8, 3)
    assert np.max(np.abs(shown.astype(int) - picture)) <= bound
    gray = to_gray(pixels, encoding)
    assert gray.shape == (6, 8)
    expected = next(to_yuv(picture)) if is_yuv else brightness(picture)
    assert np.max(np.abs(gray - expected)) <= max(bound, 2)
    assert to_viewable(pixels, encoding).ndim == (2 if encoding in GRAY else 3)


@pytest.mark.parametrize('encoding', FORMATS)
def test_views_copy_nothing(encoding):
    data, step = make_data(STORE[encoding](make_picture(encoding, 3)), padding=8)
    pixels = view(encoding, data, step)
    assert np.shares_memory(pixels, np.frombuffer(data, np.uint8))
    with pytest.raises(ValueError, match='read-only'):
        pixels[0] = 0
    if encoding in ('bgr8', '8UC3', 'mono8', '8UC1'):
        assert np.shares_memory(to_viewable(pixels, encoding), pixels)


@pytest.mark.parametrize('encoding', ['mono16', '16UC1', '32FC1'])
def test_samples_of_any_alignment_can_be_used_by_opencv(encoding):
    data, step = make_data(STORE[encoding](make_picture(encoding, 3)), padding=3)
    resized = cv2.resize(view(encoding, data, step), (4, 3), interpolation=cv2.INTER_NEAREST)
    assert resized.shape == (3, 4)


@pytest.mark.parametrize(('kind', 'encoding', 'size', 'step', 'length'), [
    ('unknown_encoding', 'bgr9', (8, 6), 24, 144),
    ('unknown_encoding', '', (8, 6), 24, 144),
    ('zero_size', 'bgr8', (0, 6), 24, 144),
    ('zero_size', 'bgr8', (8, 0), 24, 144),
    ('odd_size', 'nv12', (8, 5), 8, 144),
    ('odd_size', 'yuyv', (7, 6), 14, 144),
    ('short_step', 'bgr8', (8, 6), 23, 144),
    ('short_step', 'bgr8', (8, 6), 0, 144),
    ('short_data', 'bgr8', (8, 6), 24, 143),
    ('short_data', 'nv12', (8, 6), 8, 71),
    ('short_data', 'bgr8', (2 ** 31, 2 ** 31), 3 * 2 ** 31, 144),
    ('short_data', 'mono8', (8, 6), 8, 0),
])
def test_images_that_cannot_be_used_say_why(kind, encoding, size, step, length):
    with pytest.raises(ImageError) as caught:
        view(encoding, bytearray(length), step, size=size)
    assert caught.value.kind == kind
    assert str(caught.value)


@settings(max_examples=150)
@given(st.sampled_from([*FORMATS, 'x']), st.integers(0, 12), st.integers(0, 12),
       st.one_of(st.integers(0, 70), st.integers(0, 2 ** 32 - 1)), st.integers(0, 900),
       st.booleans())
def test_any_sizes_make_an_image_or_an_image_error(encoding, width, height, step, length, big):
    data = np.random.default_rng(length).integers(0, 255, length, np.uint8)
    try:
        pixels = view(encoding, bytearray(data), step, big, (width, height))
    except ImageError:
        return
    for convert in (to_viewable, to_gray, to_bgr):
        assert convert(pixels, encoding).shape[:2] == (height, width)


@pytest.mark.parametrize('values', [[np.nan] * 4, [np.inf] * 4, [1.5] * 4, [3.4e38, 3, 0, 1]])
def test_floats_without_a_range_can_be_shown(values):
    pixels = np.array(values, np.float32).reshape(2, 2)
    assert to_viewable(pixels, '32FC1').dtype == np.uint8


def test_holes_do_not_spoil_the_stretching():
    pixels = np.array([[1.0, np.nan], [np.inf, 3.0]], np.float32)
    assert to_viewable(pixels, '32FC1').tolist() == [[0, 0], [0, 255]]
