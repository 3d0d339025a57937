from hypothesis import given, strategies as st
import pytest

from camws_bridge.websockets.options import apply, ClientOptions, OptionError, parse_query

EMBEDDABLE = ('camera_info', 'markers')


def test_a_query_is_read():
    query = {'fps': '7.5', 'width': '320', 'quality': '50', 'id': '7', 'token': 'x',
             'embed': 'markers,camera_info,markers'}
    assert parse_query(query, EMBEDDABLE) == ClientOptions(
        7.5, 320, 50, 7, embed=('camera_info', 'markers'))


@pytest.mark.parametrize('name,text', [
    ('fps', '0'), ('fps', '-1'), ('fps', 'nan'), ('fps', 'inf'),
    ('fps', '1e400'), ('fps', ''), ('width', '0'),
    ('width', '3.5'), ('width', 'x'), ('width', '1000001'),
    ('width', '3_20'), ('quality', '0'), ('quality', '101'),
    ('id', '-1'), ('id', 'seven'), ('embed', 'color')])
def test_a_bad_value_says_which_and_what_is_allowed(name, text):
    with pytest.raises(OptionError, match=f'^{name}: .*allowed: '):
        parse_query({name: text}, EMBEDDABLE)


@pytest.mark.parametrize('values', [
    {'fps': True}, {'fps': '5'}, {'fps': 10 ** 400}, {'fps': 1001},
    {'fps': float('nan')}, {'width': 3.5}, {'width': False},
    {'quality': [50]}, {'window': 0}, {'window': None, 'quality': {}}, {'embed': 'markers'},
    {'embed': [7]}, {'embed': [['markers']]}])
def test_configure_refuses_values_of_a_wrong_type(values):
    with pytest.raises(OptionError, match='allowed: '):
        apply(ClientOptions(), values, EMBEDDABLE)


def test_configure_changes_what_is_named_and_null_goes_back():
    options = apply(ClientOptions(fps=5.0, quality=30), {'fps': None, 'width': 100, 'op': 'x'}, ())
    assert options == ClientOptions(width=100, quality=30)
    assert options.as_dict() == {
        'fps': None, 'width': 100, 'quality': 30, 'window': 2, 'embed': [], 'adaptive': False}


@given(st.dictionaries(st.sampled_from(['fps', 'width', 'quality', 'id', 'embed', 'window']),
                       st.text()))
def test_any_query_is_read_or_refused(query):
    try:
        parse_query(query, EMBEDDABLE)
    except OptionError:
        pass
