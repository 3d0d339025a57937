import base64
import resource
import struct
import zlib

import builders  # noqa: F401  (the profile of hypothesis)
import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from camws_bridge.vision.encoding import (
    decode, encode, encode_bilevel_png, inspect, JPEG, PNG)
from camws_bridge.vision.pixel_formats import ImageError

PICTURE = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8), (64, 48),
                     interpolation=cv2.INTER_CUBIC)
FILES = {
    'jpeg': encode(PICTURE, JPEG, 90),
    'gray jpeg': encode(PICTURE[:, :, 0], JPEG, 90),
    'progressive jpeg': cv2.imencode(
        '.jpg', PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes(),
    'jpeg with restarts': cv2.imencode(
        '.jpg', PICTURE, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1].tobytes(),
    'png': encode(PICTURE, PNG, 90),
    '16-bit png': encode(np.full((300, 64), 5000, np.uint16), PNG, 90),
}
# An EXIF segment that says: turn the picture by 90 degrees.
EXIF = (b'\xff\xe1\x00\x22Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01'
        b'\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00')


@pytest.mark.parametrize('image', [
    PICTURE, PICTURE[:, :, 1], PICTURE[::2, ::2], PICTURE[:1, :1]])
def test_png_is_lossless(image):
    assert np.array_equal(decode(encode(image, PNG, 1), gray=image.ndim == 2), image)


def test_png_keeps_16_bits():
    depth = np.array([[0, 1, 255], [256, 40000, 65535]], np.uint16)
    file = np.frombuffer(encode(depth, PNG, 50), np.uint8)
    assert np.array_equal(cv2.imdecode(file, cv2.IMREAD_UNCHANGED), depth)


def test_jpeg_is_near_and_quality_counts():
    difference = np.abs(decode(encode(PICTURE, JPEG, 95)).astype(int) - PICTURE)
    assert difference.mean() < 4
    sizes = [len(encode(PICTURE, JPEG, quality)) for quality in (1, 50, 100)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize('name', FILES)
def test_inspect_tells_type_and_size_without_decoding(name):
    height = 300 if name == '16-bit png' else 48
    assert inspect(FILES[name]) == (JPEG if 'jpeg' in name else PNG, 64, height)


def test_exif_turns_nothing():
    turned = FILES['jpeg'][:2] + EXIF + FILES['jpeg'][2:]
    assert inspect(turned) == (JPEG, 64, 48)
    assert decode(turned).shape == (48, 64, 3)
    assert decode(turned, gray=True).shape == (48, 64)


def only_image_errors(data):
    try:
        content_type, width, height = inspect(data)
    except ImageError as error:
        assert error.kind == 'not_an_image_file'
        return None
    assert content_type in (JPEG, PNG)
    assert width > 0
    assert height > 0
    return content_type, width, height


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=60), st.builds(
    bytes.__add__, st.sampled_from([b'\xff\xd8', b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n']),
    st.binary(max_size=60))))
def test_garbage_is_an_image_error(data):
    only_image_errors(data)


@pytest.mark.parametrize('name', FILES)
def test_a_truncated_file_has_the_true_size_or_none(name):
    for length in range(min(len(FILES[name]), 700)):
        assert only_image_errors(FILES[name][:length]) in (None, inspect(FILES[name]))


@given(st.sampled_from(sorted(FILES)), st.integers(0, 800), st.integers(0, 255))
def test_a_changed_byte_is_an_image_error_at_worst(name, position, value):
    data = bytearray(FILES[name])
    data[position % len(data)] = value
    only_image_errors(bytes(data))


@pytest.mark.parametrize('data', [
    b'', b'\xff\xd8', b'no image', FILES['png'][:20],
    # A PNG that claims 60000 x 60000 pixels: OpenCV refuses to make room for it.
    FILES['png'][:16] + (60000).to_bytes(4, 'big') * 2 + FILES['png'][24:]])
def test_what_does_not_decode_is_an_image_error(data):
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.kind == 'not_decoded'


def test_what_does_not_encode_is_an_image_error():
    for image in (np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(ImageError) as caught:
            encode(image, JPEG, 80)
        assert caught.value.kind == 'not_encoded'


def test_a_bilevel_png_keeps_its_pixels_and_tells_its_scale():
    image = np.where(np.random.default_rng(0).random((30, 41)) < 0.5, 0, 255).astype(np.uint8)
    data = encode_bilevel_png(image, 23622)
    np.testing.assert_array_equal(decode(data, gray=True), image)
    at = data.index(b'pHYs')
    assert data[at + 4:at + 13] == (23622).to_bytes(4, 'big') * 2 + bytes([1])
    assert zlib.crc32(data[at:at + 13]).to_bytes(4, 'big') == data[at + 13:at + 17]
    assert data[24] == 1        # bits of a pixel
    assert inspect(data) == (PNG, 41, 30)
    with pytest.raises(ImageError):
        encode_bilevel_png(np.zeros((4, 4, 2), np.uint8), 100)


def test_a_png_that_claims_a_chunk_of_gigabytes_is_refused_without_taking_them():
    # Found by fuzzing: OpenCV took 2 GB for these 74 bytes.
    data = base64.b64decode('iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWgy1QAAPklEQVQoFWNkYmRgJg'
                            'WwGBgYkHAWwcHTzDgAAAAASUVORK5CYII=')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (inspect, decode):
        with pytest.raises(ImageError):
            read(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_png_that_was_cut_off_is_no_image():
    whole = encode(np.zeros((8, 8, 3), np.uint8), PNG, 80)
    assert inspect(whole)[0] == PNG
    # What drivers append for alignment does no harm.
    assert decode(whole + b'\0\0').shape == (8, 8, 3)
    for length in range(8, len(whole)):
        for read in (inspect, decode):
            with pytest.raises(ImageError):
                read(whole[:length])


def test_a_file_that_claims_more_pixels_than_anybody_has_is_refused():
    whole = encode(np.zeros((8, 8, 3), np.uint8), PNG, 80)
    for width, height in ((32000, 32000), (65535, 1025)):
        with pytest.raises(ImageError, match=f'{width}x{height}'):
            inspect(whole[:16] + struct.pack('>II', width, height) + whole[24:])
    assert inspect(whole[:16] + struct.pack('>II', 7680, 4320) + whole[24:]) == (PNG, 7680, 4320)
