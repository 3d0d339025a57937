"""Lanes beside the processing thread: newest only, one frame at a time, in nobody's way."""
from concurrent.futures import ThreadPoolExecutor
import os
import threading

from processes import wait_until
import pytest

from camws_bridge.websockets.lanes import Lane, usable_cores


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as it:
        yield it


class Work:
    """Takes as long as the test likes."""

    def __init__(self) -> None:
        self.go_on, self.entered = threading.Event(), threading.Event()
        self.done: list[str] = []

    def __call__(self, item) -> None:
        self.entered.set()
        assert self.go_on.wait(10)
        self.done.append(item)


def test_the_newest_replaces_what_waits_and_is_worked_on_last(pool):
    work, replaced = Work(), []
    lane = Lane(pool, work, lambda: replaced.append(1))
    lane.put('a')
    assert work.entered.wait(10)
    for item in 'bcd':
        lane.put(item)
    work.go_on.set()
    pool.shutdown()
    assert work.done == ['a', 'd'] and len(replaced) == 2


def test_the_same_frame_again_replaces_nothing(pool):
    work, replaced = Work(), []
    lane = Lane(pool, work, lambda: replaced.append(1))
    lane.put('a')
    assert work.entered.wait(10)
    lane.put('b')
    lane.put('b')
    work.go_on.set()
    pool.shutdown()
    assert work.done == ['a', 'b'] and not replaced


def test_a_slow_lane_does_not_hold_up_another(pool):
    slow, quick = Work(), Work()
    quick.go_on.set()
    Lane(pool, slow, lambda: None).put('a')
    assert slow.entered.wait(10)
    done = threading.Event()
    Lane(pool, lambda item: done.set(), lambda: None).put('b')
    assert done.wait(10)
    slow.go_on.set()


def test_a_lane_that_was_done_starts_again(pool):
    done = threading.Semaphore(0)
    lane = Lane(pool, lambda item: done.release(), lambda: None)
    for count in range(50):
        lane.put(str(count))
        assert done.acquire(timeout=10)


def test_the_cores_are_those_this_process_may_use():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert usable_cores() == len(allowed)


@pytest.mark.parametrize('error', [ValueError, SystemExit])
def test_work_that_raises_all_the_same_does_not_end_the_lane(pool, error):
    # Inject a fault by work that raises once, what the pool would keep to itself.
    worked, failures = threading.Event(), [error('injected')]

    def work(_):
        if failures:
            raise failures.pop()
        worked.set()

    lane = Lane(pool, work, lambda: None)
    lane.put('a')
    wait_until(lambda: not failures, 10, 'it raised')
    lane.put('a')
    assert worked.wait(10)
