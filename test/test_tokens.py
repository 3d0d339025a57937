"""Tokens and the file of them."""
import builders  # noqa: F401  (the profile of hypothesis)
from hypothesis import given, strategies as st
import pytest

from camws_bridge.parameter import SettingsError
from camws_bridge.tokens import (
    digest_of, line_of, make_token, parse_line, parse_tokens, read_file, Token, TokenStore,
    UNGUESSABLE)

HEX = digest_of('s3cret').hex()


def test_a_line_is_name_digest_and_streams():
    assert parse_line(f'alice:{HEX}') == Token('alice', digest_of('s3cret'))
    assert parse_line(f' bob:{HEX.upper()}:color, transforms_* \n') == Token(
        'bob', digest_of('s3cret'), ('color', 'transforms_*'))


def test_comments_and_empty_lines_mean_nothing():
    text = f'# who\n\n  # more\nalice:{HEX}\n   \nbob:{HEX}:color'
    assert [token.name for token in parse_tokens(text)] == ['alice', 'bob']


@pytest.mark.parametrize('line,reason', [
    ('alice', 'no SHA-256 digest'), ('alice:123', 'no SHA-256 digest'), (f':{HEX}', 'the name'),
    (f'al ice:{HEX}', 'the name'), (f'alice:{HEX}:', "streams ''"),
    (f'alice:{HEX}:color,,depth', "streams ''"), (f'alice:{HEX}:a b', "streams 'a b'"),
    (f'alice:{HEX}:color:more', "streams 'color:more'"), (f'alice:{HEX}0', 'no SHA-256 digest'),
    (f'{"a" * 65}:{HEX}', 'the name'), (f'carol:{HEX}', 'has a line already')])
def test_a_wrong_line_is_named(tmp_path, line, reason):
    path = tmp_path / 'tokens'
    path.write_text(f'carol:{HEX}\n\n{line}\n')
    with pytest.raises(SettingsError) as caught:
        read_file(str(path))
    message = str(caught.value)
    assert message.startswith(f"parameter auth.tokens_file: '{path}': line 3: ")
    assert reason in message and '\n' not in message


def test_a_token_written_into_the_file_by_mistake_is_not_repeated(tmp_path):
    path, token = tmp_path / 'tokens', make_token()
    path.write_text(f'alice:{token}\n')
    with pytest.raises(SettingsError) as caught:
        read_file(str(path))
    assert token not in str(caught.value)


def test_what_cannot_be_read_is_named_with_the_reason(tmp_path):
    binary = tmp_path / 'binary'
    binary.write_bytes(b'\xff\xfe\x00')
    large = tmp_path / 'large'
    large.write_bytes(b'#' * (1 << 20) + b'\n')
    for path, reason in ((tmp_path / 'none', 'No such file'), (tmp_path, 'Is a directory'),
                         (binary, 'no UTF-8'), (large, 'longer than 1 MB')):
        with pytest.raises(SettingsError, match=f"auth.tokens_file: '{path}': .*{reason}"):
            read_file(str(path))


def test_the_store_knows_tokens_by_their_digests(tmp_path):
    path, token = tmp_path / 'tokens', make_token()
    path.write_text(line_of(Token('alice', digest_of(token), ('color',))))
    store = TokenStore('s3cret', str(path))
    assert store.find(digest_of(token)).name == 'alice'
    assert store.find(digest_of('s3cret')).name == 'auth.token'
    assert store.find(digest_of(digest_of(token).hex())) is None
    assert store.find(digest_of('')) is None


def test_a_file_without_tokens_opens_no_door(tmp_path):
    path = tmp_path / 'tokens'
    path.write_text('# nobody\n')
    with pytest.raises(SettingsError, match='holds no token'):
        TokenStore('', str(path))
    path.write_text(f'alice:{HEX}\n')
    store = TokenStore('', str(path))
    path.write_text('# nobody any more\n')
    store.reload()
    assert store.is_needed and not store.tokens


def test_a_broken_file_keeps_the_tokens_there_were(tmp_path):
    path = tmp_path / 'tokens'
    path.write_text(f'alice:{HEX}\n')
    store = TokenStore('', str(path))
    path.write_text('broken\n')
    with pytest.raises(SettingsError, match='line 1'):
        store.reload()
    assert [token.name for token in store.tokens] == ['alice']


def test_no_token_is_needed_where_none_is_configured():
    assert not TokenStore('', '').is_needed
    assert TokenStore('x', '').is_needed


@pytest.mark.parametrize('patterns,allowed,refused', [
    ((), ('color', 'metrics'), ()),
    (('color',), ('color',), ('rectified', 'colors', 'metrics')),
    (('transforms_*', 'depth?raw'), ('transforms_board', 'depth_raw'), ('depth', 'markers')),
    (('front/*',), ('front/color',), ('back/color', 'color')),
    (('[!d]*',), ('color',), ('depth',))])
def test_patterns_are_globs(patterns, allowed, refused):
    token = Token('x', b'', patterns)
    assert all(map(token.allows, allowed)) and not any(map(token.allows, refused))


def test_made_tokens_differ_and_cannot_be_guessed():
    tokens = {make_token() for _ in range(100)}
    assert len(tokens) == 100 and min(map(len, tokens)) >= UNGUESSABLE


@given(st.text(max_size=200))
def test_any_text_is_tokens_or_an_error_that_names_its_line(text):
    try:
        tokens = parse_tokens(text)
    except ValueError as error:
        assert str(error).startswith('line ')
    else:
        again = parse_tokens('\n'.join(map(line_of, tokens)))
        assert again == tokens


LINES = st.one_of(
    st.builds('{}:{}:{}'.format, st.text('ab.:# ', max_size=4),
              st.sampled_from([HEX, HEX[:-1], '']), st.text('col*?[]!,: #', max_size=6)),
    st.text(max_size=20))


@given(st.lists(LINES, max_size=6).map('\n'.join))
def test_lines_that_are_almost_right_are_read_or_refused(text):
    try:
        tokens = parse_tokens(text)
    except ValueError as error:
        assert str(error).startswith('line ') and HEX not in str(error)
    else:
        assert parse_tokens('\n'.join(map(line_of, tokens))) == tokens


@given(st.binary(max_size=100))
def test_any_bytes_are_a_file_or_one_clear_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / 'any'
    path.write_bytes(data)
    try:
        read_file(str(path))
    except SettingsError as error:
        assert str(error).startswith(f"parameter auth.tokens_file: '{path}': ")
        assert len(str(error).splitlines()) == 1
