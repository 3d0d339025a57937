from dataclasses import replace

from builders import make_context, make_frame, make_view
import numpy as np
import pytest

from camws_bridge.models import EncodedImage
from camws_bridge.vision.encoding import encode, JPEG, PNG
from camws_bridge.vision.pixel_formats import ImageError

COLOUR = np.dstack([make_view().gray, make_view().gray // 2, 255 - make_view().gray])


def test_each_thing_is_made_once_also_when_it_is_none():
    context, calls = make_context(make_frame(COLOUR)), []
    for key, value in (('a', 1), ('b', None)):
        for _ in range(3):
            assert context.once(key, lambda: calls.append(key) or value) == value  # noqa: B023
    assert calls == ['a', 'b']
    assert context.made('a') == 1
    assert context.made('b') is None
    assert context.made('c') is None


def test_what_fails_is_not_remembered():
    context = make_context(make_frame(COLOUR))
    with pytest.raises(ZeroDivisionError):
        context.once('a', lambda: 1 / 0)
    assert context.once('a', lambda: 2) == 2


def test_depth_may_come_later_and_what_was_made_stays():
    frame = make_frame(COLOUR)
    context = make_context(frame)
    made = context.once('picture', object)
    context.once('missing', lambda: None)
    context.add_depth(replace(frame, depth=np.ones((360, 480), np.uint16)))
    assert context.frame.depth is not None
    assert context.once('picture', object) is made
    assert context.once('missing', lambda: 'now') == 'now'


def test_plain_pixels_are_shared_not_copied():
    frame = make_frame(COLOUR)
    context = make_context(frame)
    assert np.shares_memory(context.viewable, frame.pixels)
    assert context.gray is context.gray
    gray = make_context(make_frame(make_view().gray))
    assert np.shares_memory(gray.gray, gray.viewable)


@pytest.mark.parametrize('content_type', [JPEG, PNG])
def test_an_encoded_frame_is_decoded_when_asked(content_type):
    encoded = EncodedImage(encode(COLOUR, content_type, 95), content_type)
    context = make_context(make_frame(None, encoded=encoded))
    assert np.abs(context.viewable.astype(int) - COLOUR).mean() < 6
    luma = COLOUR @ np.array([0.114, 0.587, 0.299])
    assert np.abs(context.gray - luma).mean() < 2


def test_a_broken_file_is_an_image_error():
    context = make_context(make_frame(None, encoded=EncodedImage(b'\xff\xd8broken', JPEG)))
    for name in ('viewable', 'gray'):
        with pytest.raises(ImageError):
            getattr(context, name)
