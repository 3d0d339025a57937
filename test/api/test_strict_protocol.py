"""How far one message may be cut up; the rest is in faults/test_conformance.py."""
import asyncio

import pytest
from tornado.iostream import StreamClosedError
from tornado.websocket import _WebSocketParams

from camws_bridge.api.strict_protocol import MOST_FRAGMENTS, StrictProtocol

FIRST, NEXT = (0x01, 0x80), (0x00, 0x80)


class Protocol(StrictProtocol):
    """Without a socket: it notes the close frame."""

    def __init__(self, most_bytes):
        self.refused, self.closed = [], []
        super().__init__(None, _WebSocketParams(max_message_size=most_bytes), self.refused.append)

    def close(self, code=None, reason=None):
        self.closed.append((code, reason))

    def receive(self, header):
        self._check_header(*header)
        self._fragmented_message_buffer = bytearray()


@pytest.mark.parametrize('most_bytes, most', [(1024, MOST_FRAGMENTS), (65536, 4096)])
def test_a_message_has_as_many_fragments_as_its_length_is_worth(most_bytes, most):
    protocol = Protocol(most_bytes)
    protocol.receive(FIRST)
    for _ in range(most):
        protocol.receive(NEXT)
    with pytest.raises(StreamClosedError):
        protocol.receive(NEXT)
    assert protocol.closed == [(1008, f'a message has at most {most} fragments')]
    assert protocol.refused == ['websocket_fragments']


def test_every_message_is_counted_anew():
    protocol = Protocol(1024)
    for _ in range(3):
        protocol._fragmented_message_buffer = None
        protocol.receive(FIRST)
        for _ in range(MOST_FRAGMENTS):
            protocol.receive(NEXT)
    assert protocol.refused == []


def test_only_the_header_of_a_frame_is_looked_at_as_one():
    protocol = Protocol(1024)

    class Stream:
        data = [bytes((0x81, 0x82)), b'\0\0\0\0', b'{}']

        async def read_bytes(self, count):
            return self.data.pop(0)

    received = []
    protocol.stream = Stream()
    protocol._handle_message = lambda opcode, data: received.append((opcode, data))
    asyncio.run(protocol._receive_frame())
    assert received == [(1, b'{}')] and protocol.refused == []
