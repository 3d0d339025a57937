import pytest

from camws_bridge import json_text


def test_it_is_compact_utf_8_and_comes_back():
    value = {'a': [1, 2.5, None, True], 'ä': 'ö'}
    assert json_text.dumps(value) == '{"a":[1,2.5,null,true],"ä":"ö"}'.encode()
    assert json_text.loads(memoryview(json_text.dumps(value))) == value


@pytest.mark.parametrize('number', [float('nan'), float('inf'), float('-inf')])
def test_numbers_that_are_not_finite_are_never_written(number):
    with pytest.raises(ValueError):
        json_text.dumps({'x': [number]})


@pytest.mark.parametrize('text', [
    'NaN', '[Infinity]', '1e999', '-1e999', '[' * 60000, '{', b'\xff', ''])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        json_text.loads(text)
