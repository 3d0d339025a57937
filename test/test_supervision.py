import threading

import pytest

from camws_bridge import supervision
from camws_bridge.supervision import Threads


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def threads(clock):
    return Threads(clock)


def test_a_thread_that_does_its_work_is_no_problem(threads):
    told = []
    threads.on_death = told.append
    done = threading.Event()
    thread = threads.start('web', done.wait)
    assert (thread.name, thread.daemon) == ('web', True)
    assert threads.is_alive('web') and not threads.is_alive('ros')
    done.set()
    thread.join()
    assert (threads.is_alive('web'), threads.problem, told) == (False, '', [])


@pytest.mark.parametrize('error', [ValueError('x'), SystemExit(3), KeyboardInterrupt()])
def test_a_death_is_told_at_once_and_stays(threads, error):
    told = []
    threads.on_death = told.append

    def die():
        # Inject a fault by an exception that nothing in the thread catches.
        raise error

    threads.start('processing', die).join()
    threads.start('web', die).join()
    assert threads.death == threads.problem == f'the processing thread died: {error!r}'
    assert told == [threads.death, f'the web thread died: {error!r}']


def test_a_thread_that_hangs_is_a_problem_until_it_turns_again(threads, clock):
    done = threading.Event()
    thread = threads.start('processing', done.wait)
    clock.now += supervision.STUCK_AFTER
    assert threads.problem == ''
    clock.now += 1
    assert threads.problem == 'the processing thread hangs for 11 s'
    threads.beat('processing')
    assert (threads.problem, threads.death) == ('', '')
    done.set()
    thread.join()
    clock.now += 100
    assert threads.problem == ''
