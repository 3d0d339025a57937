from camws_bridge.metrics import Metrics
from camws_bridge.models import Message, Stamp, Variant
from camws_bridge.websockets.connection_manager import ConnectionManager

COLOR, SMALL = Variant('color'), Variant('color', width=100)


class FakeClient:
    def __init__(self, fails: bool = False, due: bool = True) -> None:
        self.fails, self.due = fails, due
        self.received: list[Message] = []
        self.aborted = False

    def offer(self, message: Message) -> None:
        if self.fails:
            raise ConnectionError('gone')
        self.received.append(message)

    def is_due(self, now: float) -> bool:
        return self.due

    def check(self, now: float) -> None:
        pass

    def close(self, code: int, reason: str) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


def message(variant: Variant = COLOR) -> Message:
    return Message(variant, 1, Stamp(1, 2), 'camera', 'image/jpeg', 4, 3, b'frame',
                   memoryview(b'body'))


def test_a_message_goes_to_every_subscriber_of_its_stream_only():
    manager = ConnectionManager(Metrics())
    first, second, other = FakeClient(), FakeClient(), FakeClient()
    for client in (first, second):
        manager.connect(COLOR, client)
    manager.connect(SMALL, other)
    sent = message()
    manager.broadcast_bytes(COLOR, sent)
    manager.broadcast_text(COLOR, sent)
    assert first.received == second.received == [sent, sent]
    assert other.received == []


def test_a_dead_client_is_removed_at_once_and_the_others_get_everything():
    # Inject a fault by a client whose send raises.
    metrics = Metrics()
    manager = ConnectionManager(metrics)
    dead, alive = FakeClient(fails=True), [FakeClient() for _ in range(5)]
    manager.connect(COLOR, dead)
    for client in alive:
        manager.connect(COLOR, client)
    manager.broadcast_bytes(COLOR, message())
    assert all(len(client.received) == 1 for client in alive)
    assert dead.aborted and manager.total == 5
    assert metrics.registry.get_sample_value(
        'camws_clients_removed_total', {'reason': 'send_failed'}) == 1
    manager.broadcast_bytes(COLOR, message())
    assert all(len(client.received) == 2 for client in alive)


def test_a_client_that_goes_while_another_is_served_changes_nothing():
    manager = ConnectionManager(Metrics())

    class Leaving(FakeClient):
        def offer(self, message: Message) -> None:
            super().offer(message)
            for client in clients:
                manager.disconnect(COLOR, client)

    clients = [Leaving(), Leaving()]
    for client in clients:
        manager.connect(COLOR, client)
    manager.broadcast_bytes(COLOR, message())
    assert [len(client.received) for client in clients] == [1, 1]
    assert manager.total == 0


def test_connecting_and_disconnecting_twice_is_no_error():
    manager = ConnectionManager(Metrics())
    client = FakeClient()
    manager.connect(COLOR, client)
    manager.connect(COLOR, client)
    assert manager.count('color') == 1
    manager.disconnect(COLOR, client)
    manager.disconnect(COLOR, client)
    assert manager.count('color') == 0 and manager.variants == []


def test_wanted_are_the_variants_with_a_client_that_is_due():
    manager = ConnectionManager(Metrics())
    manager.connect(COLOR, FakeClient(due=False))
    manager.connect(SMALL, FakeClient(due=False))
    manager.connect(SMALL, FakeClient())
    assert manager.wanted(now=0.0) == [SMALL]
    assert set(manager.variants) == {COLOR, SMALL}
    assert manager.count('color') == 3


def test_figures_are_of_those_that_have_been_there_for_longest():
    manager, clients = ConnectionManager(Metrics()), [FakeClient() for _ in range(5)]
    for since, client in zip((3.0, 1.0, 5.0, 2.0, 4.0), clients):
        client.since, client.figures = since, lambda now, since=since: (since, now)
        manager.connect(COLOR if since > 2 else SMALL, client)
    assert manager.figures(3, 9.0) == [(1.0, 9.0), (2.0, 9.0), (3.0, 9.0)]
    assert manager.figures(0, 9.0) == []
