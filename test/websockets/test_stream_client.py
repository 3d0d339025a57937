from itertools import pairwise

from camws_bridge.metrics import ClientFigures, Metrics
from camws_bridge.models import Message, Stamp, Variant
from camws_bridge.websockets.options import ClientOptions
from camws_bridge.websockets.stream_client import StreamClient


class FakeTransport:
    """A socket that takes whole messages, or nothing more until it is drained."""

    def __init__(self) -> None:
        self.is_slow = False
        self.sent: list[int] = []

    def peer(self) -> tuple[str, str]:
        return '192.0.2.1:5000', 'pad'

    def send_message(self, message: Message) -> bool:
        self.sent.append(message.seq)
        return not self.is_slow

    def check(self, now: float) -> None:
        pass

    def close(self, code: int, reason: str) -> None:
        pass

    def abort(self) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Setup:
    def __init__(self, **options) -> None:
        self.transport, self.clock, self.metrics = FakeTransport(), Clock(), Metrics()
        self.asked = 0
        self.client = StreamClient(self.transport, 'color', ClientOptions(**options),
                                   self.metrics, self.ask, self.clock)

    def ask(self) -> None:
        self.asked += 1

    def offer(self, seq: int) -> None:
        self.client.offer(Message(Variant('color'), seq, Stamp(seq, 0), 'camera', 'image/jpeg', 4,
                                  3, b'0123', memoryview(b'23')))

    @property
    def sent(self) -> list[int]:
        return self.transport.sent

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(
            name, {'stream': 'color', **labels}) or 0.0


def test_a_fast_client_gets_everything():
    it = Setup()
    for seq in range(5):
        it.offer(seq)
    assert it.sent == [0, 1, 2, 3, 4]
    assert it.count('camws_messages_sent_total') == 5
    assert it.count('camws_bytes_sent_total') == 20


def test_a_slow_client_gets_the_newest_and_what_it_missed_is_counted():
    it = Setup()
    it.transport.is_slow = True
    for seq in range(5):
        it.offer(seq)
    assert it.sent == [0]
    it.client.on_drained()
    assert it.sent == [0, 4]
    assert it.count('camws_messages_replaced_total', hop='client') == 3


def test_the_same_image_is_not_sent_twice():
    it = Setup()
    it.offer(7)
    it.offer(7)
    assert it.sent == [7]


def test_an_image_that_was_overtaken_is_not_sent():
    it = Setup()
    for seq in (7, 6, 8):
        it.offer(seq)
    assert it.sent == [7, 8]


def test_busy_time_is_counted_while_the_socket_or_the_window_is_full():
    it = Setup(window=1)
    it.transport.is_slow = True
    it.offer(1)
    it.clock.now += 2
    assert it.client.busy_seconds(it.clock.now) == 2
    it.transport.is_slow = False
    it.client.on_drained()
    it.clock.now += 5
    assert it.client.busy_seconds(it.clock.now) == 2
    it.client.acknowledge(1)
    it.offer(2)
    it.clock.now += 3
    it.client.acknowledge(2)
    assert it.client.busy_seconds(it.clock.now) == 5


def test_without_acks_nothing_waits_for_them():
    it = Setup(window=2)
    for seq in range(10):
        it.offer(seq)
    assert len(it.sent) == 10


def test_with_acks_at_most_window_messages_are_on_their_way_and_the_next_is_the_newest():
    it = Setup(window=2)
    it.offer(0)
    it.client.acknowledge(0)
    for seq in range(1, 8):
        it.offer(seq)
    assert it.sent == [0, 1, 2]
    it.client.acknowledge(1)
    assert it.sent == [0, 1, 2, 7]
    it.client.acknowledge(7)
    it.offer(8)
    it.offer(9)
    it.offer(10)
    assert it.sent == [0, 1, 2, 7, 8, 9]


def test_a_wider_window_takes_effect_at_once():
    it = Setup(window=1)
    it.offer(0)
    it.client.acknowledge(0)
    it.offer(1)
    it.offer(2)
    assert it.sent == [0, 1]
    it.client.configure(ClientOptions(window=3), is_other_variant=False)
    assert it.sent == [0, 1, 2]


def test_fps_picks_evenly_and_the_newest():
    it = Setup(fps=10.0)
    for seq in range(60):
        it.offer(seq)
        it.clock.now += 1 / 30
    assert it.sent == list(range(0, 60, 3))


def test_fps_that_does_not_divide_the_rate_is_kept_on_average():
    it = Setup(fps=20.0)
    for seq in range(300):
        it.offer(seq)
        it.clock.now += 1 / 30
    assert abs(len(it.sent) - 200) <= 1
    assert {later - earlier for earlier, later in pairwise(it.sent)} == {1, 2}


def test_a_pause_is_not_made_up_for():
    it = Setup(fps=1.0)
    it.offer(0)
    it.clock.now += 10
    for seq in range(1, 10):
        it.offer(seq)
        it.clock.now += 0.05
    assert it.sent == [0, 1]


def test_a_client_that_is_not_due_says_so():
    it = Setup(fps=1.0)
    assert it.client.is_due(it.clock.now)
    it.offer(0)
    assert not it.client.is_due(it.clock.now + 0.5)
    assert it.client.is_due(it.clock.now + 1.0)


def test_a_busy_client_wants_nothing_and_asks_when_it_is_free():
    it = Setup(window=1)
    it.offer(0)
    it.client.acknowledge(0)
    it.offer(1)
    assert not it.client.is_due(it.clock.now)
    asked = it.asked
    it.client.acknowledge(1)
    assert it.client.is_due(it.clock.now) and it.asked == asked + 1
    it.transport.is_slow = True
    it.offer(2)
    assert not it.client.is_due(it.clock.now)


def test_what_waits_in_the_old_variant_is_not_sent_after_configure():
    it = Setup()
    it.transport.is_slow = True
    it.offer(0)
    it.offer(1)
    it.client.configure(ClientOptions(width=10), is_other_variant=True)
    it.client.on_drained()
    assert it.sent == [0]
    it.offer(1)
    assert it.sent == [0, 1]


def test_what_the_kernel_takes_is_no_sign_of_life():
    it = Setup()
    it.clock.now = 200.0
    it.offer(0)
    assert it.client.last_alive == 100.0


def test_taking_bytes_and_messages_are_signs_of_life():
    it = Setup()
    it.transport.is_slow = True
    it.clock.now = 200.0
    it.offer(0)
    assert it.client.last_alive == 100.0
    it.client.on_drained()
    assert it.client.last_alive == 200.0


def test_its_figures_say_how_it_is_served():
    it = Setup(window=1)
    assert it.client.figures(50.0) == ClientFigures(
        'color', '192.0.2.1:5000', 'pad', 0, 0, None, None)
    it.offer(1)
    assert it.client.figures(3.5) == ClientFigures(
        'color', '192.0.2.1:5000', 'pad', 1, 0, 2.5, None)
    it.client.acknowledge(1)
    for seq in (2, 3, 4):
        it.offer(seq)
    # What it claims to have shown and was never sent does not count.
    it.client.acknowledge(10 ** 20)
    assert it.client.figures(4.0) == ClientFigures(
        'color', '192.0.2.1:5000', 'pad', 3, 1, 0.0, 2)
