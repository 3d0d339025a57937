"""What a client gets over time; the service is real, its threads do not run."""
from dataclasses import replace

import pytest
from web_bridge import make_frame, WebBridge

from camws_bridge.models import Message
from camws_bridge.services.frame_context import FrameContext
from camws_bridge.websockets.options import ClientOptions, OptionError
from camws_bridge.websockets.subscription import Subscription, TooManyVariantsError
from camws_bridge.websockets.variants import MAX_VARIANTS


class StalledTransport:
    """A socket that never takes a whole message."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def peer(self) -> tuple[str, str]:
        return '192.0.2.1:5000', 'pad'

    def send_message(self, message: Message) -> bool:
        self.sent.append(message)
        return False

    def check(self, now: float) -> None:
        pass

    def close(self, code: int, reason: str) -> None:
        pass

    def abort(self) -> None:
        pass


@pytest.fixture
def bridge():
    it = WebBridge({})
    yield it
    it.server.loop.close()


def subscribe(bridge, stream='color', **options):
    it = Subscription(bridge.streaming, bridge.metrics, StalledTransport(), stream,
                      ClientOptions(**options))
    it.open()
    return it


def let_images_pass(bridge, subscription, seconds):
    """Let images arrive while the client is stalled, with a look twice a second."""
    changed, start = 0, subscription.client._clock()
    for step in range(2 * seconds):
        seq = 1000 + 15 * step
        bridge.streaming._newest_context = FrameContext(make_frame(seq), bridge.settings())
        changed += subscription.adapt(start + 0.5 * step)
    return changed


def stall(subscription):
    message = Message(subscription.variant, 1, make_frame(1).stamp, 'camera', 'image/jpeg', 320,
                      240, b'0123', memoryview(b'23'))
    subscription.client.offer(message)


def test_a_client_is_counted_from_open_to_close(bridge):
    it = subscribe(bridge)
    assert bridge.connections.count('color') == 1
    it.close()
    assert bridge.connections.count('color') == 0


def test_configure_moves_the_client_to_the_other_variant(bridge):
    it = subscribe(bridge)
    it.configure(replace(it.options, width=64))
    assert bridge.connections.variants == [it.variant] and it.variant.width == 64


def test_an_adaptive_client_that_is_stalled_goes_down_to_the_floor(bridge):
    bridge.streaming._images.widths['color'] = 1280
    it = subscribe(bridge, adaptive=True)
    stall(it)
    assert let_images_pass(bridge, it, 30) >= 3
    assert it.options == ClientOptions(adaptive=True), 'what was asked for stays'
    assert (it.in_force.quality, it.in_force.width, it.in_force.fps) == (40, 320, 2.5)
    assert bridge.connections.variants == [it.variant] and it.variant.width == 320


def test_a_client_that_is_not_adaptive_stays_where_it_is(bridge):
    it = subscribe(bridge)
    stall(it)
    assert let_images_pass(bridge, it, 30) == 0
    assert it.in_force == it.options


def test_stalled_adaptive_clients_share_their_variants(bridge):
    clients = [subscribe(bridge, adaptive=True) for _ in range(3)]
    for it in clients:
        stall(it)
        let_images_pass(bridge, it, 30)
    assert len({it.variant for it in clients}) == 1


def test_configure_starts_adapting_anew(bridge):
    it = subscribe(bridge, adaptive=True)
    stall(it)
    let_images_pass(bridge, it, 30)
    it.configure(replace(it.options, quality=90))
    assert it.in_force.quality == 90


def test_where_there_is_no_room_for_a_variant_everything_stays(bridge):
    full = [subscribe(bridge, width=width) for width in range(1, MAX_VARIANTS + 1)]
    with pytest.raises(TooManyVariantsError):
        subscribe(bridge, width=999)
    adaptive = Subscription(bridge.streaming, bridge.metrics, StalledTransport(), 'color',
                            replace(full[0].options, adaptive=True))
    adaptive.open()
    stall(adaptive)
    assert let_images_pass(bridge, adaptive, 10) == 0
    with pytest.raises(OptionError):
        full[0].configure(ClientOptions(width=998))
    assert full[0].variant.width == 1
