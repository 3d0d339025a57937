"""Who is one too many."""
import pytest

from camws_bridge.api.limits import Limits, MessageLimit
from camws_bridge.metrics import Metrics
from camws_bridge.settings import SettingsHolder, Settings

A, B = '192.0.2.1', '192.0.2.2'


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Rig:
    def __init__(self, **values):
        values = {name.replace('__', '.'): value for name, value in values.items()}
        self.settings = SettingsHolder(Settings().with_values(values))
        self.metrics, self.clock = Metrics(), Clock()
        self.limits = Limits(self.settings, self.metrics, self.clock)

    def refused(self, reason):
        return self.metrics.registry.get_sample_value(
            'camws_refused_total', {'reason': reason}) or 0


def test_an_address_may_connect_in_bursts_then_at_its_rate():
    rig = Rig(limits__connects_per_second=10.0)
    for _ in range(40):
        assert rig.limits.connect(A) is None
        rig.limits.disconnect(A)
    refusal = rig.limits.connect(A)
    assert (refusal.status, refusal.code) == (429, 'connects_per_second')
    assert refusal.retry_after == pytest.approx(0.1) and refusal.retry_after_header == '1'
    assert rig.limits.connect(B) is None
    rig.clock.now += 0.1
    assert rig.limits.connect(A) is None
    assert rig.refused('connects_per_second') == 1


def test_a_flood_is_not_worth_words():
    rig = Rig()
    assert [rig.limits.is_worth_an_answer(A) for _ in range(21)] == [True] * 20 + [False]
    assert rig.limits.is_worth_an_answer(B)
    rig.clock.now += 0.1
    assert rig.limits.is_worth_an_answer(A)


def test_connections_of_an_address_are_limited_but_for_its_clients():
    rig = Rig(limits__connections_per_address=2)
    assert rig.limits.connect(A) is None and rig.limits.connect(A) is None
    assert rig.limits.connect(A).code == 'connections_per_address'
    seat = rig.limits.take_seat(A)
    assert rig.limits.connect(A) is None
    assert rig.limits.connect(A).code == 'connections_per_address'
    seat.leave()
    for _ in range(2):
        rig.limits.disconnect(A)
    assert rig.limits.connect(A) is None


def test_connections_of_all_are_limited_also_for_who_is_exempt():
    rig = Rig(limits__connections=2)
    assert rig.limits.connect('127.0.0.1') is None and rig.limits.connect('127.0.0.1') is None
    refusal = rig.limits.connect(A)
    assert (refusal.status, refusal.code) == (503, 'connections')
    assert rig.limits.connect('127.0.0.1') is not None


def test_this_machine_and_proxies_have_no_limits_by_address():
    rig = Rig(limits__connections_per_address=1, limits__connects_per_second=0.1,
              limits__clients_per_address=1, trusted_proxies=[B])
    for address in ('127.0.0.1', '::1', B):
        assert [rig.limits.connect(address) for _ in range(5)] == [None] * 5
        assert not any(isinstance(rig.limits.take_seat(address), str) for _ in range(3))


def test_seats_are_limited_in_all_and_by_address_and_given_back_once():
    rig = Rig(limits__clients_per_address=2, max_clients=3)
    seats = [rig.limits.take_seat(A) for _ in range(2)]
    assert rig.limits.take_seat(A) == 'too many clients from your address'
    rig.limits.take_seat(B)
    assert rig.limits.take_seat(B) == 'too many clients'
    seats[0].leave()
    seats[0].leave()
    assert not isinstance(rig.limits.take_seat(A), str)
    assert rig.limits.take_seat(B) == 'too many clients'
    assert (rig.refused('clients'), rig.refused('clients_per_address')) == (2, 1)


def test_limits_can_be_changed_while_it_runs():
    rig = Rig(max_clients=1)
    rig.limits.take_seat(A)
    assert rig.limits.take_seat(B) == 'too many clients'
    rig.settings.change({'max_clients': 2})
    assert not isinstance(rig.limits.take_seat(B), str)


def test_messages_are_limited_by_client():
    rig = Rig(limits__messages_per_second=5.0)
    one, other = MessageLimit(rig.limits), MessageLimit(rig.limits)
    assert [one.take() for _ in range(11)] == [True] * 10 + [False]
    assert other.take()
    rig.clock.now += 0.2
    assert one.take() and not one.take()
    assert rig.refused('message_rate') == 2


def test_neighbours_in_one_network_of_ipv6_share_their_limits():
    rig = Rig(limits__connections_per_address=1)
    assert rig.limits.connect('2001:db8::1') is None
    assert rig.limits.connect('2001:db8::2').code == 'connections_per_address'
    assert rig.limits.connect('2001:db8:0:1::2') is None
