"""What is remembered of addresses stays small."""
import pytest

from camws_bridge.api.visitors import Bucket, MOST_IDLE, Visitors


def test_a_bucket_gives_its_burst_then_its_rate():
    bucket = Bucket()
    assert [bucket.take(0.0, 2.0, 3.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(0.0, 2.0, 3.0) == pytest.approx(0.5)
    assert bucket.take(0.5, 2.0, 3.0) == 0.0
    assert bucket.wait(100.0, 2.0, 3.0) == 0.0
    assert sum(bucket.take(100.0, 2.0, 3.0) == 0.0 for _ in range(10)) == 3


def test_many_addresses_grow_no_memory():
    visitors = Visitors()
    held = visitors.find('held')
    held.connections = 1
    visitors.changed(held)
    for number in range(3 * MOST_IDLE):
        visitors.find(str(number))
    assert len(visitors) == MOST_IDLE + 1
    assert visitors.find('held') is held


def test_who_was_seen_last_is_remembered():
    visitors = Visitors(most_idle=2)
    first = visitors.find('first')
    visitors.find('second')
    assert visitors.find('first') is first
    visitors.find('third')
    assert visitors.find('first') is first
    assert len(visitors) == 2


def test_who_holds_nothing_any_more_can_be_forgotten():
    visitors = Visitors(most_idle=1)
    held = visitors.find('held')
    held.clients = 1
    visitors.changed(held)
    held.clients = 0
    visitors.changed(held)
    visitors.find('other')
    assert len(visitors) == 1 and visitors.find('held') is not held
