"""Whatever a driver sends is a frame or an ImageError, a calibration or a CalibrationError."""
from __future__ import annotations

import array
from typing import Any

import builders         # noqa: F401  (its profile of hypothesis)
from hypothesis import example, given, settings, strategies as st
import numpy as np
import pytest

pytest.importorskip('rclpy')

from builders import make_aruco, make_context
from ros_side import header
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest

from camws_bridge.models import Frame
from camws_bridge.ros import conversions
from camws_bridge.services.image_service import CATALOGUE, ImageService
from camws_bridge.services.json_service import JsonService
from camws_bridge.models import Variant
from camws_bridge.vision.camera import CalibrationError, rectification_maps
from camws_bridge.vision.pixel_formats import FORMATS, ImageError

# Every name of sensor_msgs/image_encodings.hpp, ours among them, and some that are none.
CV_TYPES = [f'{bits}{kind}C{channels}' for bits, kinds in (
    (8, 'US'), (16, 'US'), (32, 'SF'), (64, 'F')) for kind in kinds for channels in range(1, 5)]
ENCODINGS = sorted({*FORMATS, *conversions._REDUCED, *CV_TYPES, 'yuv422', 'yuv422_yuy2', 'nv21',
                    'nv24', 'uyvy', 'yuyv', '', 'jpeg', 'BGR8', 'bgr8\0', '8UC', '8UC999'})
# Black, white, and as 32-bit floats: infinity, NaN, the largest, something of everything.
CONTENTS = (b'\0', b'\xff', b'\0\0\x80\x7f', b'\0\0\xc0\x7f', b'\xff\xff\x7f\x7f',
            bytes(range(256)))
SIZES = st.one_of(st.integers(0, 20), st.sampled_from((2 ** 16, 2 ** 31, 2 ** 32 - 1)))


@st.composite
def images(draw: Any) -> Image:
    """Return images whose length, step and size fit, nearly fit or have nothing in common."""
    encoding = draw(st.sampled_from(ENCODINGS))
    width, height = 2 * draw(st.integers(1, 9)), 2 * draw(st.integers(1, 9))
    form = FORMATS.get(conversions._REDUCED.get(encoding, encoding))
    depth = 2 if encoding in conversions._REDUCED else np.dtype(form.dtype).itemsize if form else 8
    step = width * depth * (form.channels if form else 4)
    size = int(step * height * (form.rows if form else 2))
    wrong = draw(st.sampled_from(('nothing', 'nothing', 'size', 'step', 'length')))
    if wrong == 'size':
        width, height = draw(st.tuples(SIZES, SIZES))
    if wrong == 'step':
        step = draw(st.one_of(st.integers(max(0, step - 3), step + 9), SIZES))
    if wrong == 'length':
        size = draw(st.one_of(st.integers(max(0, size - 3), size + 9), st.integers(0, 64)))
    content = draw(st.sampled_from(CONTENTS))
    return Image(header=header(), width=width, height=height, encoding=encoding, step=step,
                 is_bigendian=draw(st.sampled_from((0, 1, 255))),
                 data=array.array('B', (content * (size // len(content) + 1))[:size]))


def frame_of(message: Image) -> Frame:
    pixels, encoding = conversions.to_pixels(message)
    return Frame(1, conversions.to_stamp(message.header.stamp), 'optical', message.width,
                 message.height, encoding, pixels)


@settings(max_examples=600)
@given(images())
def test_an_image_of_any_kind_is_a_frame_or_an_error(message: Image) -> None:
    try:
        frame = frame_of(message)
    except ImageError as error:
        assert error.kind and str(error)
        return
    # What is a frame can be shown, looked at and sent.
    context = make_context(frame)
    assert context.viewable.shape[:2] == context.gray.shape == (message.height, message.width)
    aruco = make_aruco()
    images, json = ImageService(aruco), JsonService(aruco)
    for stream_id in ('color', 'aruco_debug', 'marker_mask'):
        assert stream_id in CATALOGUE
        images.produce(context, Variant(stream_id, width=3))
    assert b'NaN' not in json.produce(context, 'markers')


@settings(max_examples=300)
@given(images())
def test_depth_of_any_kind_is_depth_or_an_error(message: Image) -> None:
    try:
        depth = conversions.to_depth(message)
    except ImageError as error:
        assert error.kind and str(error)
        return
    assert depth.shape == (message.height, message.width)
    frame = Frame(1, conversions.to_stamp(message.header.stamp), '', 8, 6,
                  pixels=np.zeros((6, 8, 3), np.uint8), depth=depth)
    images = ImageService(make_aruco())
    for stream_id in ('depth', 'depth_raw'):
        assert images.produce(make_context(frame), Variant(stream_id)) is not None


JPEG = bytes.fromhex('ffd8ffe000104a46494600010100000100010000')


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=64), st.builds(
    lambda head, rest: head + rest,
    st.sampled_from((JPEG, b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff\xc0\x00\x11\x08')),
    st.binary(max_size=40))))
@example(b'')
@example(b'\xff\xd8\xff\xc0\x00\x02')
@example(b'\xff\xd8\xff\xff\xff\xff\xff')
def test_a_file_of_any_kind_is_an_image_or_an_error(data: bytes) -> None:
    try:
        encoded, width, height = conversions.to_encoded(
            CompressedImage(data=array.array('B', data)))
    except ImageError as error:
        assert error.kind and str(error)
        return
    assert width > 0 and height > 0
    frame = Frame(1, conversions.to_stamp(header().stamp), '', width, height, encoded=encoded)
    try:
        assert make_context(frame).viewable.size
    except ImageError as error:
        assert error.kind and str(error)


NUMBERS = st.one_of(st.floats(width=64), st.sampled_from((0.0, 1.0, 300.0, -1.0, 1e300)))


@st.composite
def calibrations(draw: Any) -> CameraInfo:
    sizes = st.one_of(st.integers(0, 4000), st.sampled_from((2 ** 31, 2 ** 32 - 1)))
    good_k = [300.0, 0.0, 160.0, 0.0, 300.0, 120.0, 0.0, 0.0, 1.0]
    good_p = [300.0, 0.0, 160.0, 0.0, 0.0, 300.0, 120.0, 0.0, 0.0, 0.0, 1.0, 0.0]

    def nearly(good: list[float]) -> list[float]:
        values = list(good)
        for _ in range(draw(st.integers(0, 2))):
            values[draw(st.integers(0, len(good) - 1))] = draw(NUMBERS)
        return values

    return CameraInfo(
        header=header(), width=draw(sizes), height=draw(sizes),
        distortion_model=draw(st.sampled_from((
            '', 'plumb_bob', 'rational_polynomial', 'equidistant', 'fisheye', 'Plumb_Bob'))),
        d=draw(st.lists(NUMBERS, max_size=15)), k=nearly(good_k),
        r=nearly([1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0]), p=nearly(good_p),
        binning_x=draw(st.integers(0, 3)), binning_y=draw(st.sampled_from((0, 1, 2 ** 31))),
        roi=RegionOfInterest(x_offset=draw(sizes), y_offset=draw(sizes), width=draw(sizes),
                             height=draw(sizes)))


@settings(max_examples=400)
@given(calibrations())
def test_a_camera_info_of_any_kind_is_a_calibration_or_an_error(message: CameraInfo) -> None:
    try:
        camera = conversions.to_camera_model(message)
    except CalibrationError as error:
        assert str(error)
        return
    assert np.isfinite(camera.k).all() and np.isfinite(camera.p).all()
    assert camera.k[0, 0] > 0 and camera.k[1, 1] > 0
    if 0 < camera.width * camera.height < 10 ** 6:
        rectification_maps(camera)
