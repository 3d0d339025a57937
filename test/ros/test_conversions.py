from __future__ import annotations

import array
import sys
from types import SimpleNamespace
import warnings

import builders
import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

pytest.importorskip('rclpy')

from rclpy.serialization import deserialize_message, serialize_message
from ros_side import camera_info, header, image_message
from sensor_msgs.msg import CompressedImage, Image
from vision.test_pixel_formats import bayer, channels, GRAY, make_picture, STORE

from camws_bridge.models import DistortionModel, Stamp
from camws_bridge.ros import conversions
from camws_bridge.ros.conversions import to_depth, to_encoded, to_pixels
from camws_bridge.vision.camera import CalibrationError
from camws_bridge.vision.geometry import difference, from_quaternion
from camws_bridge.vision.pixel_formats import FORMATS, ImageError, to_bgr

# The names in the issue, and what may be lost on the way: YUV in 8 bits holds a colour to 4.
NAMED = {
    **dict.fromkeys(('bgr8', 'rgb8', 'bgra8', 'rgba8', 'mono8', 'mono16'), 0),
    **dict.fromkeys(('yuv422', 'uyvy', 'yuyv', 'nv12'), 4),
    **dict.fromkeys(('bayer_rggb8', 'bayer_bggr8', 'bayer_gbrg8', 'bayer_grbg8'), 0),
    **dict.fromkeys(('16UC1', '32FC1'), 1)}
COLOUR_16 = {'bgr16': channels(0, 1, 2), 'rgb16': channels(2, 1, 0),
             'bgra16': channels(0, 1, 2, 3), 'rgba16': channels(2, 1, 0, 3)}
BAYER_16 = {f'bayer_{pattern}16': bayer(pattern) for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')}
# All other names of sensor_msgs/image_encodings.hpp.
REST = (*(f'{depth}C{count}' for depth in ('8S', '16U', '16S', '32S', '32F', '64F')
          for count in (1, 2, 3, 4) if f'{depth}C{count}' not in FORMATS), '8UC2', 'nv24')


def stored(encoding, picture, **options):
    size = picture.shape[:2]        # nv12 stores half as many rows again
    return image_message(STORE[encoding](picture), encoding, size=size, **options)


def kind_of(message, convert=to_pixels):
    with pytest.raises(ImageError) as caught:
        convert(message)
    assert str(caught.value)
    return caught.value.kind


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('padding', [0, 3, 8])
@pytest.mark.parametrize('encoding', NAMED)
def test_every_encoding_arrives_as_the_right_pixels(encoding, padding, big):
    picture = make_picture(encoding, 7)
    sent = stored(encoding, picture, padding=padding, big=big)
    message = deserialize_message(serialize_message(sent), Image)
    pixels, name = to_pixels(message)
    assert name == encoding
    assert np.abs(to_bgr(pixels, name).astype(int) - picture).max() <= NAMED[encoding]


@pytest.mark.parametrize('encoding', NAMED)
def test_plain_layouts_are_views_of_the_message(encoding):
    message = stored(encoding, make_picture(encoding, 3), padding=8)
    pixels, _ = to_pixels(message)
    assert np.shares_memory(pixels, np.frombuffer(message.data, np.uint8))
    assert not pixels.flags.writeable


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('padding', [0, 1, 10, 12])
@pytest.mark.parametrize('encoding', [*COLOUR_16, *BAYER_16])
def test_16_bit_colour_is_shown_by_its_more_significant_bytes(encoding, padding, big):
    picture = make_picture('bayer' if encoding in BAYER_16 else 'bgr8', 11)
    samples = {**COLOUR_16, **BAYER_16}[encoding](picture).astype(np.uint16) * 256 + 99
    pixels, name = to_pixels(image_message(samples, encoding, padding=padding, big=big))
    assert name == encoding.replace('16', '8')
    np.testing.assert_array_equal(to_bgr(pixels, name), picture)


@pytest.mark.parametrize('encoding', ['bgr8', 'nv12', '32FC1', 'rgb16', 'bayer_rggb16', '8UC2'])
def test_images_that_cannot_be_used_are_image_errors(encoding):
    whole = {'height': 6, 'width': 8, 'encoding': encoding, 'step': 64,
             'data': array.array('B', bytes(64 * 9))}
    assert kind_of(Image(**{**whole, 'width': 0})) == 'zero_size'
    assert kind_of(Image(**{**whole, 'height': 0})) == 'zero_size'
    assert kind_of(Image(**{**whole, 'data': array.array('B', bytes(64 * 5))})) == 'short_data'
    assert kind_of(Image(**{**whole, 'data': array.array('B')})) == 'short_data'
    huge = {'width': 2 ** 32 - 2, 'height': 2 ** 32 - 2, 'step': 2 ** 32 - 1}
    assert kind_of(Image(**{**whole, **huge})) in ('short_data', 'short_step')
    if encoding != '8UC2':
        assert kind_of(Image(**{**whole, 'step': 7})) == 'short_step'
        assert to_pixels(Image(**whole))[0].dtype == FORMATS[encoding.replace('16', '8')].dtype


def test_odd_bayer_is_refused_in_16_bits_as_in_8():
    samples = np.zeros((6, 7), np.uint16)
    assert kind_of(image_message(samples, 'bayer_rggb16')) == 'odd_size'


@pytest.mark.parametrize('encoding', ['bgr9', '', 'h264', 'bayer_rggb12', *REST])
def test_unknown_encodings_are_named_with_those_that_are_known(encoding):
    # cv_bridge knows some of these names, and as colour none: whichever is installed here.
    message = image_message(np.full((6, 64), 7, np.uint8), encoding, size=(6, 2))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with pytest.raises(ImageError) as caught:
            to_pixels(message)
    assert caught.value.kind == 'unknown_encoding'
    assert str(caught.value).startswith(f"encoding '{encoding}' is not known; known: bgr8, ")
    assert 'rgb16' in str(caught.value)


@settings(max_examples=80)
@given(st.sampled_from([*FORMATS, *COLOUR_16, *BAYER_16, *REST, 'x']), st.integers(0, 12),
       st.integers(0, 12), st.one_of(st.integers(0, 70), st.integers(0, 2 ** 32 - 1)),
       st.integers(0, 900), st.integers(0, 255))
def test_any_message_is_pixels_or_an_image_error(encoding, width, height, step, length, big):
    message = Image(width=width, height=height, encoding=encoding, step=step, is_bigendian=big,
                    data=array.array('B', bytes(length)))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            pixels, name = to_pixels(message)
        except ImageError:
            return
    assert to_bgr(pixels, name).shape == (height, width, 3)


def install_bridge(monkeypatch, convert):
    bridge = SimpleNamespace(imgmsg_to_cv2=convert)
    monkeypatch.setitem(sys.modules, 'cv_bridge', SimpleNamespace(CvBridge=lambda: bridge))


def test_cv_bridge_is_asked_for_what_is_left(monkeypatch):
    asked = []
    picture = make_picture('bgr8', 1)

    def convert(message, desired):
        asked.append((message.encoding, desired))
        return picture

    install_bridge(monkeypatch, convert)
    pixels, encoding = to_pixels(image_message(np.zeros((6, 16), np.uint8), 'nv99', size=(6, 8)))
    assert (asked, encoding) == ([('nv99', 'bgr8')], 'bgr8')
    np.testing.assert_array_equal(pixels, picture)
    to_pixels(stored('rgb8', picture))
    assert len(asked) == 1


@pytest.mark.parametrize('answer', [
    None, np.zeros((6, 8), np.uint8), np.zeros((8, 6, 3), np.uint8),
    np.zeros((6, 8, 3), np.uint16)])
def test_what_cv_bridge_makes_wrong_is_an_image_error(monkeypatch, answer):
    install_bridge(monkeypatch, lambda *_: answer)
    message = image_message(np.zeros((6, 16), np.uint8), 'nv99', size=(6, 8))
    assert kind_of(message) == 'unknown_encoding'


def test_without_cv_bridge_the_rest_is_an_image_error(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv_bridge', None)
    message = image_message(np.zeros((6, 16), np.uint8), 'nv99', size=(6, 8))
    assert kind_of(message) == 'unknown_encoding'
    assert to_pixels(stored('bgr8', make_picture('bgr8', 1)))[1] == 'bgr8'


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize(('encoding', 'dtype'), [
    ('16UC1', np.uint16), ('mono16', np.uint16), ('32FC1', np.float32)])
def test_depth_keeps_its_unit(encoding, dtype, big):
    depth = np.array([[0, 1, 1500, 65535], [2, 3, 4, 5]], dtype)
    found = to_depth(image_message(depth, encoding, padding=6, big=big))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, depth)


def test_depth_holes_survive():
    depth = np.array([[np.nan, 0.0, 1.25]], np.float32)
    np.testing.assert_array_equal(to_depth(image_message(depth, '32FC1')), depth)


def test_what_is_no_depth_is_an_image_error():
    picture = make_picture('bgr8', 1)
    assert kind_of(stored('bgr8', picture), to_depth) == 'depth_encoding'
    short = image_message(np.zeros((2, 4), np.uint16), '16UC1', size=(3, 4))
    assert kind_of(short, to_depth) == 'short_data'


@pytest.mark.parametrize(('suffix', 'content_type'), [
    ('.jpg', 'image/jpeg'), ('.png', 'image/png')])
def test_image_files_pass_byte_for_byte(suffix, content_type):
    data = cv2.imencode(suffix, make_picture('bgr8', 5))[1].tobytes()
    message = CompressedImage(format='whatever', data=array.array('B', data))
    encoded, width, height = to_encoded(message)
    assert (encoded.data, encoded.content_type, width, height) == (data, content_type, 8, 6)


@pytest.mark.parametrize('data', [b'', b'\xff\xd8', b'\x89PNG\r\n\x1a\n', b'GIF89a' * 9])
def test_what_is_no_image_file_is_an_image_error(data):
    assert kind_of(CompressedImage(data=array.array('B', data)), to_encoded) == \
        'not_an_image_file'


@pytest.mark.parametrize('view', [np.s_[:], np.s_[:, 2:6], np.s_[::-1]])
def test_a_published_image_is_what_a_subscriber_reads(view):
    picture = make_picture('bgr8', 2)[view]
    message = conversions.to_image_message(picture, header(3, 4, 'optical'))
    received = deserialize_message(serialize_message(message), Image)
    assert (received.header.stamp.sec, received.header.frame_id) == (3, 'optical')
    assert (received.encoding, received.step) == ('bgr8', picture.shape[1] * 3)
    np.testing.assert_array_equal(to_pixels(received)[0], picture)


def test_stamps_and_headers_go_both_ways():
    stamp = Stamp(1795389649, 351806352)
    made = conversions.to_header(stamp, 'board')
    assert made.frame_id == 'board'
    assert conversions.to_stamp(made.stamp) == stamp


def test_poses_become_messages():
    pose = builders.facing(0.1, -0.2, 0.7, tilt=0.4, turn=-0.3, spin=2.0)
    transform = conversions.to_transform(header(frame_id='camera'), 'board', pose)
    assert (transform.header.frame_id, transform.child_frame_id) == ('camera', 'board')
    found = conversions.to_pose(pose)
    for place, turn in ((transform.transform.translation, transform.transform.rotation),
                        (found.position, found.orientation)):
        read = from_quaternion([place.x, place.y, place.z], [turn.x, turn.y, turn.z, turn.w])
        assert max(difference(read, pose)) < 1e-6


def test_camera_info_becomes_a_camera_model():
    model = conversions.to_camera_model(camera_info(640, 480, focal=500.0, p_focal=450.0))
    assert (model.width, model.height, model.model) == (640, 480, DistortionModel.PLUMB_BOB)
    assert (model.k[0, 0], model.p[1, 1], model.k[0, 2]) == (500.0, 450.0, 320.0)
    assert (model.d[0], model.frame_id) == (0.1, 'camera_optical')
    with pytest.raises(CalibrationError, match="'fisheye7'"):
        conversions.to_camera_model(camera_info(model='fisheye7'))


def test_gray_encodings_stay_gray():
    for encoding in GRAY:
        assert to_pixels(stored(encoding, make_picture(encoding, 1)))[0].ndim == 2
