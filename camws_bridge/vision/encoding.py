"""Image files in memory: JPEG and PNG, both ways."""
from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np

from camws_bridge.models import Array
from camws_bridge.vision.pixel_formats import ImageError

JPEG = 'image/jpeg'
PNG = 'image/png'
# Twice those of an 8K image: a few bytes can claim to be gigabytes.
_MOST_PIXELS = 1 << 26

# Level 1 of zlib: masks and depth shrink nearly as well, in a fraction of the time.
_PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1]
# Drivers may pad the end with zeros.
_JPEG_START, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
_PNG_START = b'\x89PNG\r\n\x1a\n'
_IHDR_END = 33
# SOF0 ... SOF15 but DHT (C4), JPG (C8) and DAC (CC), ITU-T T.81 table B.1
_START_OF_FRAME = frozenset(range(0xc0, 0xd0)) - {0xc4, 0xc8, 0xcc}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xd0, 0xd8)})


def encode(image: Array, content_type: str, quality: int) -> bytes:
    """Return the file of a gray or BGR image; ``quality`` (1-100) counts for JPEG only."""
    try:
        if content_type == JPEG:
            ok, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        else:
            ok, data = cv2.imencode('.png', image, _PNG_OPTIONS)
    except cv2.error:
        ok = False
    if not ok:
        raise ImageError('not_encoded', f'{image.shape} {image.dtype} does not go into a '
                         f'{content_type}')
    return data.tobytes()


def encode_bilevel_png(image: Array, per_metre: int) -> bytes:
    """Return the PNG file, one bit a pixel, of an image of 0 and 255; it tells its scale."""
    if image.ndim != 2 or not image.size:
        raise ImageError('not_encoded', f'{image.shape} does not go into a bilevel PNG')
    _, data = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_BILEVEL, 1,
                                           cv2.IMWRITE_PNG_COMPRESSION, 9])
    file = data.tobytes()
    # OpenCV writes no pHYs chunk (PNG 11.3.4.3), which belongs before the pixels: after IHDR.
    chunk = b'pHYs' + struct.pack('>IIB', per_metre, per_metre, 1)
    phys = struct.pack('>I', len(chunk) - 4) + chunk + struct.pack('>I', zlib.crc32(chunk))
    return file[:_IHDR_END] + phys + file[_IHDR_END:]


def decode(data: bytes, gray: bool = False) -> Array:
    """Return the 8-bit BGR (or gray) image of a JPEG or PNG file; raises ImageError."""
    flag = cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR
    # The camera's calibration describes the sensor's rows and columns, whatever EXIF says.
    flag |= cv2.IMREAD_IGNORE_ORIENTATION
    if data.startswith(_PNG_START) and not _is_whole_png(data):
        raise ImageError('not_decoded', f'a PNG of {len(data)} bytes is not whole')
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:       # no data at all, or a size beyond OpenCV's limits
        image = None
    if image is None:
        raise ImageError('not_decoded', f'a compressed image of {len(data)} bytes does not decode')
    return image


def inspect(data: bytes) -> tuple[str, int, int]:
    """
    Return content type, width and height of a JPEG or PNG file without decoding it.

    Raises ImageError, also for a size that would take too much memory to decode.
    """
    content_type, width, height = _kind_and_size(data)
    if width * height > _MOST_PIXELS:
        raise ImageError('too_large', f'a compressed image of {width}x{height} pixels; at most '
                         f'{_MOST_PIXELS} pixels are decoded')
    return content_type, width, height


def _kind_and_size(data: bytes) -> tuple[str, int, int]:
    try:
        if data.startswith(_JPEG_START) and data.rstrip(b'\0').endswith(_JPEG_END):
            return (JPEG, *_jpeg_size(data))
        if data.startswith(_PNG_START) and _is_whole_png(data):
            width = int.from_bytes(data[16:20], 'big')
            height = int.from_bytes(data[20:24], 'big')
            if width and height:
                return PNG, width, height
    except IndexError:
        pass
    raise ImageError('not_an_image_file',
                     f'compressed data of {len(data)} bytes is neither a whole JPEG nor a PNG')


def _is_whole_png(data: bytes) -> bool:
    """
    Tell whether all chunks up to the end are there.

    OpenCV takes memory for a chunk of the length it claims to have, up to 2 GB.
    """
    position = len(_PNG_START)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from('>I4s', data, position)
        position += 12 + length
        if kind == b'IEND':
            return bool(position <= len(data))
    return False


def _jpeg_size(data: bytes) -> tuple[int, int]:
    position = 2
    while True:
        if data[position] != 0xff:
            raise IndexError(position)
        marker = data[position + 1]
        if marker == 0xff:
            position += 1
        elif marker in _WITHOUT_LENGTH:
            position += 2
        elif marker in _START_OF_FRAME:
            height = data[position + 5] << 8 | data[position + 6]
            width = data[position + 7] << 8 | data[position + 8]
            if not width or not height:
                raise IndexError(position)
            return width, height
        else:
            position += 2 + (data[position + 2] << 8 | data[position + 3])
