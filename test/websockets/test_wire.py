import json
import struct

import pytest

from camws_bridge.models import Frame, Stamp, Variant
from camws_bridge.services.image_service import EncodedProduct
from camws_bridge.websockets.wire import image_message, text_message, websocket_frame

FRAME = Frame(7, Stamp(11, 13), 'camera', 640, 480)
PRODUCT = EncodedProduct(b'\xff\xd8' + bytes(300) + b'\xff\xd9', 'image/jpeg', 320, 240)


@pytest.mark.parametrize('length', [0, 125, 126, 65535, 65536])
def test_a_frame_is_what_rfc_6455_says(length):
    payload = b'x' * length
    frame = websocket_frame(0x82, payload)
    start = frame[:len(frame) - length]
    if length < 126:
        assert start == bytes([0x82, length])
    elif length < 65536:
        assert start == b'\x82\x7e' + length.to_bytes(2, 'big')
    else:
        assert start == b'\x82\x7f' + length.to_bytes(8, 'big')
    assert frame.endswith(payload)


def test_a_plain_image_is_the_file_and_nothing_else():
    message = image_message(Variant('color'), FRAME, PRODUCT, {})
    assert bytes(message.body) == PRODUCT.data
    assert message.frame == websocket_frame(0x82, PRODUCT.data)


@pytest.mark.parametrize('stream_id', ['color', 'depth_raw', 'board_perspective', 'x' * 40])
def test_a_framed_image_has_its_header_and_starts_on_a_multiple_of_eight(stream_id):
    variant = Variant(stream_id, framed=True, embed=('markers',))
    message = image_message(variant, FRAME, PRODUCT, {'markers': b'{"markers":[]}'})
    payload = message.frame[4:]
    version, kind, reserved, length = struct.unpack('<BBHI', payload[:8])
    assert (version, kind, reserved) == (1, 1, 0)
    assert (8 + length) % 8 == 0
    assert json.loads(payload[8:8 + length]) == {
        'stream': stream_id, 'seq': 7, 'stamp': {'sec': 11, 'nanosec': 13}, 'frame_id': 'camera',
        'width': 320, 'height': 240, 'content_type': 'image/jpeg',
        'embed': {'markers': {'markers': []}}}
    assert payload[8 + length:] == PRODUCT.data == bytes(message.body)


def test_the_body_is_a_view_into_the_frame():
    message = image_message(Variant('color', framed=True), FRAME, PRODUCT, {})
    assert message.body.obj is message.frame


def test_text_goes_out_as_text():
    message = text_message(Variant('markers'), FRAME, 'application/json', b'{}')
    assert message.frame == b'\x81\x02{}' and bytes(message.body) == b'{}'
