import os

from hypothesis import given, strategies as st
import pytest

from camws_bridge.vision.text_files import FileError, load_yaml, read_text


def test_text_is_read_with_or_without_a_byte_order_mark(tmp_path):
    path = tmp_path / 'file'
    for data in (b'a: \xc3\xa4', b'\xef\xbb\xbfa: \xc3\xa4'):
        path.write_bytes(data)
        assert read_text(str(path)) == 'a: ä'


@pytest.mark.parametrize(('name', 'said'), [
    ('none', 'No such file'), ('.', 'directory'), ('a\0b', 'null'), ('/dev/zero', 'too large')])
def test_what_cannot_be_read_is_told(tmp_path, name, said):
    with pytest.raises(FileError, match=said):
        read_text(os.path.join(tmp_path, name))


def test_the_line_that_is_not_text_is_named(tmp_path):
    (tmp_path / 'file').write_bytes(b'a\nb\n\xff')
    with pytest.raises(FileError, match='line 3: it is not text'):
        read_text(str(tmp_path / 'file'))


def test_only_the_first_document_counts():
    assert load_yaml('a: 1\n---\nb: 2') == {'a': 1}
    assert load_yaml('') is None


@pytest.mark.parametrize(('text', 'said'), [
    ('a: 1\nb: [', 'line 2: it is not YAML'), ('a: 1\nb: 2\na: 3', 'line 3: .*a stands twice'),
    ('[' * 3000, 'nested too deeply|not YAML'), ('a: 2001-99-99', 'a value that is none'),
    ('? [1, 2]\n: {? {a: b} : c}', 'unhashable'), ('!!python/object:os.system {}', 'not YAML'),
    ('a: ' + '9' * 5000, 'a value that is none'), ('\x07', 'not YAML'), ('a: *b', 'line 1.*b')])
def test_what_is_not_yaml_is_told_with_its_line(text, said):
    with pytest.raises(FileError, match=said) as caught:
        load_yaml(text)
    assert '\n' not in str(caught.value)


@given(st.text(alphabet='ab:-[]{}&*!|>\'"%@#,?<0123456789.~ \n\t', max_size=60))
def test_any_text_is_yaml_or_a_file_error(text):
    try:
        load_yaml(text)
    except FileError as error:
        assert str(error)
