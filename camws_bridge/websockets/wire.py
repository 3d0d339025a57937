"""The bytes on the wire: WebSocket frames (RFC 6455) and camws.v1 image messages."""
from __future__ import annotations

import struct

from camws_bridge import json_text
from camws_bridge.models import Frame, Message, Variant
from camws_bridge.services.image_service import EncodedProduct

SUBPROTOCOL = 'camws.v1'
# Plain messages, for browsers that show a token: they want one of what they offer chosen.
PLAIN = 'camws.plain'

_FIN_TEXT, _FIN_BINARY = 0x81, 0x82
_VERSION, _KIND_IMAGE = 1, 1
_ALIGNMENT = 8


def text_message(variant: Variant, frame: Frame, content_type: str, text: bytes) -> Message:
    """Return the message of a JSON stream; ``text`` is UTF-8."""
    data = websocket_frame(_FIN_TEXT, text)
    return Message(variant, frame.seq, frame.stamp, frame.frame_id, content_type, 0, 0, data,
                   _tail(data, text))


def image_message(variant: Variant, frame: Frame, product: EncodedProduct,
                  embed: dict[str, bytes]) -> Message:
    """
    Return the message of an image stream, with the camws.v1 header if the variant is framed.

    ``embed`` holds the JSON objects of the header by name.
    """
    header = _image_header(variant, frame, product, embed) if variant.framed else b''
    data = websocket_frame(_FIN_BINARY, header, product.data)
    return Message(variant, frame.seq, frame.stamp, frame.frame_id, product.content_type,
                   product.width, product.height, data, _tail(data, product.data),
                   product.encoding, product.step)


def _image_header(variant: Variant, frame: Frame, product: EncodedProduct,
                  embed: dict[str, bytes]) -> bytes:
    fields = {'stream': variant.stream_id, 'seq': frame.seq, 'stamp': frame.stamp.as_dict(),
              'frame_id': frame.frame_id, 'width': product.width, 'height': product.height,
              'content_type': product.content_type}
    text = json_text.dumps(fields)
    if variant.embed:
        # The objects are text already; they are made once for all variants that embed them.
        objects = b','.join(b'"%s":%s' % (name.encode(), value) for name, value in embed.items())
        text = text[:-1] + b',"embed":{' + objects + b'}}'
    # The prefix is 8 bytes long itself, so a padded header keeps the image aligned.
    text += b' ' * (-len(text) % _ALIGNMENT)
    return struct.pack('<BBHI', _VERSION, _KIND_IMAGE, 0, len(text)) + text


def _tail(data: bytes, part: bytes) -> memoryview:
    return memoryview(data)[len(data) - len(part):]


def websocket_frame(opcode: int, *parts: bytes) -> bytes:
    """Return one unmasked, final frame (RFC 6455 section 5.2) that holds ``parts``."""
    length = sum(map(len, parts))
    if length < 126:
        start = struct.pack('!BB', opcode, length)
    elif length < 1 << 16:
        start = struct.pack('!BBH', opcode, 126, length)
    else:
        start = struct.pack('!BBQ', opcode, 127, length)
    return b''.join((start, *parts))
