"""Which bytes a client gets: the variant of a stream that its options ask for."""
from __future__ import annotations

from camws_bridge.models import Variant
from camws_bridge.services import image_service
from camws_bridge.vision.encoding import JPEG
from camws_bridge.websockets.options import ClientOptions

# Different variants of one stream that are made at the same time; each costs an encoding.
MAX_VARIANTS = 32


def choose_variant(stream_id: str, options: ClientOptions, framed: bool = False,
                   content_type: str | None = None) -> Variant:
    """
    Return the variant that serves some options: only what changes the bytes distinguishes.

    ``content_type`` is another than the stream's own, ``framed`` adds the camws.v1 header.
    """
    product = image_service.CATALOGUE.get(stream_id)
    if product is None:
        return Variant(stream_id)
    if content_type == product.content_type:
        content_type = None
    is_jpeg = (content_type or product.content_type) == JPEG
    return Variant(
        stream_id, options.width, options.quality if is_jpeg else None,
        options.marker_id if product.takes_id else None, content_type, framed,
        options.embed if framed else ())
