"""
RFC 6455 as Autobahn's fuzzing client tests it, the cases that matter, in our own words.

Against an echo endpoint with the server's protocol, and a stream where no echo is needed. The
whole suite is run by ``benchmarks/conformance``, where there is a Python 2.7 for it.
"""
from __future__ import annotations

from collections.abc import Iterator
import socket
import struct
import sys
import time

from faults.crowded_bridge import TEST
import pytest

from benchmarks.harness.processes import Child
from benchmarks.soak import frames
from benchmarks.soak.frames import BINARY, CLOSE, CONTINUATION, Frame, frame, PING, PONG, TEXT


@pytest.fixture(scope='module')
def port() -> Iterator[int]:
    with Child([sys.executable, '-m', 'faults.echo_process'],
               {'PYTHONPATH': f'{TEST}:{TEST.parent}'}) as child:
        yield int(child.wait_for(r'^listening on http://.*:(\d+)$')[1])


def talk(port: int, *sent: bytes, path: str = '/echo', pause: float = 0.0) -> list[Frame]:
    """Send and say goodbye; return what comes back, a close frame at the end if there was one."""
    with socket.create_connection(('127.0.0.1', port), timeout=10) as client:
        client.sendall(frames.upgrade(path))
        head = b''
        while not head.endswith(b'\r\n\r\n'):
            head += client.recv(1)
        assert head.startswith(b'HTTP/1.1 101 ')
        try:
            for data in sent:
                client.sendall(data)
                time.sleep(pause)
            client.sendall(frames.close(1000))
        except ConnectionError:
            pass        # the bridge did not wait for the end
        received = bytearray()
        try:
            while chunk := client.recv(1 << 16):
                received += chunk
        except ConnectionError:
            pass
    found = []
    while True:
        one, length = frames.parse(received)
        if one is None:
            return found
        del received[:length]
        found.append(one)


GOODBYE = Frame(CLOSE, struct.pack('!H', 1000))


@pytest.mark.parametrize('length', [0, 125, 126, 127, 128, 65535, 65536, 1 << 20])
def test_messages_of_every_kind_of_length_come_back(port, length):
    text, data = b'*' * length, b'\xfe' * length
    assert talk(port, frame(text), frame(data, BINARY)) == [
        Frame(TEXT, text), Frame(BINARY, data), GOODBYE]


@pytest.mark.parametrize('payload', [b'', b'Hello', b'\x00\xff\xfe\xfd', b'\xfe' * 125])
def test_pings_are_answered_with_their_payload(port, payload):
    assert talk(port, frame(payload, PING)) == [Frame(PONG, payload), GOODBYE]
    # Also byte by byte.
    assert talk(port, *(bytes([byte]) for byte in frame(payload, PING))) == [
        Frame(PONG, payload), GOODBYE]


def test_pongs_that_nobody_asked_for_mean_nothing(port):
    assert talk(port, frame(b'', PONG), frame(b'x', PONG), frame('a')) == [
        Frame(TEXT, b'a'), GOODBYE]


def test_fragments_are_put_together_with_pings_between(port):
    sent = [frame('one ', fin=False), frame('p1', PING), frame('', CONTINUATION, fin=False),
            frame('two', CONTINUATION, fin=False), frame('p2', PING), frame('', CONTINUATION)]
    found = talk(port, *sent, pause=0.02)
    assert [one for one in found if one.opcode == PONG] == [Frame(PONG, b'p1'), Frame(PONG, b'p2')]
    assert found[-2:] == [Frame(TEXT, b'one two'), GOODBYE]
    # The same in one piece.
    assert talk(port, b''.join(sent))[-2:] == [Frame(TEXT, b'one two'), GOODBYE]


def test_text_may_be_cut_within_a_letter(port):
    text = 'κόσμε 🎥'.encode()
    sent = [frame(text[:3], fin=False)] + [
        frame(text[at:at + 1], CONTINUATION, fin=at == len(text) - 1)
        for at in range(3, len(text))]
    assert talk(port, *sent) == [Frame(TEXT, text), GOODBYE]


WRONG = {
    'continuation first': frame('x', CONTINUATION),
    'continuation after the end': frame('x', CONTINUATION, fin=False),
    'a message within another': frame('a', fin=False) + frame('b'),
    'unmasked': frame('x', masked=False),
    'unmasked ping': frame('x', PING, masked=False),
    'fragmented ping': frame('x', PING, fin=False),
    'ping of 126 bytes': frame(b'x' * 126, PING),
    'close of 126 bytes': frame(struct.pack('!H', 1000) + b'x' * 124, CLOSE),
    'close of one byte': frame(b'\x03', CLOSE),
    **{f'reserved bits {bits}': frame('x', reserved=bits) for bits in range(1, 8)},
    **{f'opcode {code}': frame('x', code) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    **{f'close code {code}': frames.close(code)
       for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535)}}


@pytest.mark.parametrize('kind', WRONG)
@pytest.mark.parametrize('path', ['/echo', '/ws/color'])
def test_what_is_against_the_protocol_is_closed_with_1002(port, kind, path):
    found = talk(port, WRONG[kind], path=path)
    assert [one.close_code for one in found] == [1002], found


@pytest.mark.parametrize('text', [
    b'\xff', b'\xc0\x80', b'\xed\xa0\x80', b'\xf4\x90\x80\x80', 'κό'.encode()[:-1], b'ok\x80'])
def test_text_that_is_no_utf_8_is_closed_with_1007(port, text):
    for path in ('/echo', '/ws/color'):
        assert [one.close_code for one in talk(port, frame(text), path=path)] == [1007]
    assert [one.close_code for one in talk(
        port, frame(text[:1], fin=False), frame(text[1:], CONTINUATION))] == [1007]
    assert [one.close_code for one in talk(port, frames.close(1000, text))] == [1007]


@pytest.mark.parametrize('code', [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999])
def test_close_codes_come_back(port, code):
    for path in ('/echo', '/ws/color'):
        assert talk(port, frames.close(code, 'bye …'.encode()), path=path)[-1].close_code == code


def test_a_close_without_a_code_comes_back_and_nothing_after_it(port):
    assert talk(port, frame('a') + frame(b'', CLOSE) + frame('b') + frame('c', PING)) == [
        Frame(TEXT, b'a'), Frame(CLOSE, b'')]
