from camws_bridge.models import Variant
from camws_bridge.websockets.options import ClientOptions
from camws_bridge.websockets.variants import choose_variant

ALL = ClientOptions(fps=3.0, width=100, quality=50, marker_id=7, window=9, embed=('markers',))


def test_only_what_changes_the_bytes_distinguishes_variants():
    assert choose_variant('color', ALL) == Variant('color', 100, 50)
    assert choose_variant('color', ALL, framed=True) == Variant(
        'color', 100, 50, framed=True, embed=('markers',))
    assert choose_variant('marker_mask', ALL) == Variant('marker_mask', 100, marker_id=7)
    assert choose_variant('depth_raw', ALL) == Variant('depth_raw', 100)


def test_json_streams_have_one_variant():
    assert choose_variant('markers', ALL, framed=True) == Variant('markers')


def test_a_streams_own_content_type_is_no_other_variant():
    plain = ClientOptions()
    assert choose_variant('color', plain, content_type='image/jpeg') == Variant('color')
    assert choose_variant('color', ALL, content_type='image/png') == Variant(
        'color', 100, content_type='image/png')
    assert choose_variant('board_mask', ALL, content_type='image/jpeg').quality == 50
