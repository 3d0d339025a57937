"""Whatever clients send: an answer or a close with a reason, and the others are served on."""
from contextlib import contextmanager
import json
import logging
from urllib.parse import quote, urlencode

import builders  # noqa: F401  (the profile of hypothesis)
from hypothesis import example, given, strategies as st
from processes import http_get
import pytest
from web_bridge import DEMO_BOARD, running_bridge
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from camws_bridge.websockets.options import OptionError, parse_query

OPERATIONS = ('ack', 'configure', 'time')
FIELDS = ('op', 'seq', 'fps', 'width', 'quality', 'window', 'embed', 'id', 't0', 'token')
EMBEDDABLE = ('camera_info', 'markers', 'transforms_board')
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-2, 200), st.floats(),
    st.text(max_size=8), st.sampled_from([10 ** 400, -0.0, 1e308, 2 ** 63, '1', 'ack', *FIELDS]))
VALUES = st.recursive(SCALARS, lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3)),
    max_leaves=6)
REQUESTS = st.builds(lambda op, rest: {**rest, 'op': op}, st.sampled_from(OPERATIONS),
                     st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
# What is wrong in one place only gets furthest.
ALMOST = st.one_of(
    st.fixed_dictionaries({'op': st.just('ack'), 'seq': st.integers(-5, 2 ** 70)}),
    st.fixed_dictionaries({'op': st.just('time'), 't0': st.floats() | st.integers()}),
    st.fixed_dictionaries({'op': st.just('configure')}, optional={
        'fps': st.floats(-1, 2000) | st.none(), 'width': st.integers(-1, 2 ** 40),
        'quality': st.integers(0, 101), 'window': st.integers(0, 101),
        'id': st.integers(-1, 70000),
        'embed': st.lists(st.sampled_from([*EMBEDDABLE, 'color']), max_size=3)}))
MESSAGES = st.one_of(
    REQUESTS.map(json.dumps), ALMOST.map(json.dumps), VALUES.map(json.dumps),
    st.text(max_size=60), st.binary(max_size=60),
    st.tuples(ALMOST.map(json.dumps), st.integers(0, 60)).map(lambda it: it[0][:it[1]]))


@pytest.fixture(scope='module')
def bridge():
    with running_bridge(board__file=DEMO_BOARD) as it:
        it.publish()
        yield it


@contextmanager
def nothing_failed(bridge):
    """Check that a healthy client is served on, and that nothing was logged as a failure."""
    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    loggers = [logging.getLogger(name) for name in ('camws_bridge', 'tornado', 'asyncio')]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with connect(bridge.ws + '/ws/markers') as healthy:
            yield
            frame = bridge.publish()
            while json.loads(healthy.recv(timeout=10))['seq'] != frame.seq:
                pass
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    assert [record.getMessage() for record in records] == []


def send_all(bridge, messages):
    """Send messages; return the answers as objects, and the close (code, reason) or None."""
    answers = []
    with connect(bridge.ws + '/ws/color', subprotocols=['camws.v1'], max_size=None) as client:
        try:
            for message in messages:
                client.send(message)
            client.send('{"op":"time","t0":4711}')
            while not answers or answers[-1].get('t0') != 4711:
                received = client.recv(timeout=10)
                if isinstance(received, str):
                    answers.append(json.loads(received))
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, 'it was closed without a reason'
            return answers, (closed.rcvd.code, closed.rcvd.reason)
    return answers, None


@given(st.lists(MESSAGES, min_size=1, max_size=4))
@example([json.dumps({'op': 'configure', 'width': 10 ** 6})])
@example(['{"op":"time","t0":4711}'])
def test_any_message_is_answered_or_closed_with_4400(bridge, messages):
    with nothing_failed(bridge):
        answers, closed = send_all(bridge, messages)
    assert {answer['op'] for answer in answers} <= {
        'server_info', 'status', 'configured', 'time'}
    if closed is not None:
        code, reason = closed
        assert code == 4400 and reason
        # Nothing of the program gets out.
        assert 'Traceback' not in reason and 'Error' not in reason.replace("'Error", '')


TEXTS = st.one_of(
    st.text(max_size=8), st.integers(-2, 2000).map(str), st.floats().map(str),
    st.sampled_from(['', '1e999', '-1', '1_0', '٣', '0x1', ' 1', '1 ', 'markers', 'markers,',
                     ',,', 'camera_info,markers', '1;2', '%', '+', '\x00', '\ud7ff', '1' * 1500]))
QUERIES = st.lists(st.tuples(st.sampled_from([*FIELDS, 'x']), TEXTS), max_size=4)


@given(QUERIES)
def test_any_query_is_options_or_an_error_that_names_one(query):
    try:
        options = parse_query(dict(query), EMBEDDABLE)
    except OptionError as error:
        assert str(error).partition(':')[0] in FIELDS and 'allowed' in str(error)
    else:
        assert options.width is None or 1 <= options.width
        assert options.quality is None or 1 <= options.quality <= 100
        assert set(options.embed) <= set(EMBEDDABLE)


@given(QUERIES)
def test_any_query_is_served_or_refused_in_words(bridge, query):
    text = urlencode(query)
    with nothing_failed(bridge):
        with connect(f'{bridge.ws}/ws/color?{text}', max_size=None) as client:
            try:
                assert client.recv(timeout=10).startswith(b'\xff\xd8')
            except ConnectionClosed as closed:
                assert closed.rcvd.code == 4400 and 'allowed' in closed.rcvd.reason or (
                    closed.rcvd.reason.endswith('…'))
        for path in ('/api/v1/images/color.jpg', '/api/v1/transforms', '/api/v1/streams'):
            status, headers, body = http_get(f'{bridge.http}{path}?{text}')
            assert status in (200, 400, 503)
            if status != 200:
                assert set(json.loads(body)['error']) == {'code', 'message'}


@given(st.binary(max_size=30))
def test_any_bytes_of_a_query_or_path_are_answered(bridge, data):
    raw = quote(data, safe='')
    with nothing_failed(bridge):
        for path in (f'/api/v1/images/color.jpg?fps={raw}', f'/api/v1/images/{raw}.jpg',
                     f'/api/v1/transforms/{raw}', f'/static/{raw}', f'/{raw}', f'/ws/{raw}',
                     f'/api/v1/streams?token={raw}&{raw}'):
            status, _, body = http_get(bridge.http + path)
            assert status in (200, 400, 404), path
            assert b'ornado' not in body and b'camws_bridge/' not in body
