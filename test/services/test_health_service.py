import pytest

from camws_bridge.services.health_service import Health, HealthService
from camws_bridge.settings import Settings
from camws_bridge.supervision import Threads


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def health(clock):
    service = HealthService(lambda: Settings().with_values({'stale_after': 2.0}), clock)
    service.set_publishers('/camera/image', 1)
    return service


def test_an_unwanted_camera_is_no_fault(health, clock):
    assert (health.check().is_ok, health.check().code) == (True, 'idle')
    health.set_watching(True)
    health.set_watching(False)
    clock.now += 100
    assert health.check().code == 'idle'


def test_images_arrive_and_stop(health, clock):
    health.set_watching(True)
    assert (health.check().is_ok, health.check().code) == (False, 'starting')
    clock.now += 1
    health.on_image()
    clock.now += 2
    assert (health.check().is_ok, health.check().code) == (True, 'ok')
    clock.now += 0.1
    stale = health.check()
    assert (stale.is_ok, stale.code) == (False, 'stale')
    assert 'no image on /camera/image for 2 s' in stale.message
    health.on_image()
    assert health.check().is_ok
    assert health.images == 2


def test_silence_names_the_likely_reason(health, clock):
    health.set_watching(True)
    clock.now += 3.1
    silent = health.check()
    assert (silent.is_ok, silent.code) == (False, 'no_images')
    assert '1 publisher' in silent.message
    assert 'FASTDDS_DEFAULT_PROFILES_FILE' in silent.message
    health.on_dropped('short_data')
    assert health.on_dropped('short_data') == 2
    assert '2 short_data' in health.check().message
    assert 'FASTDDS' not in health.check().message
    health.set_publishers('/other', 0)
    assert 'no image on /other: it has no publisher' in health.check().message


def test_watching_again_starts_anew(health, clock):
    health.set_watching(True)
    health.on_image()
    health.set_watching(False)
    clock.now += 60
    health.set_watching(True)
    # The image of a minute ago says nothing about now.
    assert health.check().code == 'starting'


def test_dropped_images_are_counted_by_reason(health):
    health.on_dropped('a')
    health.on_dropped('b')
    health.on_dropped('a')
    counts = health.dropped
    assert counts == {'a': 2, 'b': 1}
    counts.clear()
    assert health.dropped == {'a': 2, 'b': 1}


def test_an_inactive_node_is_well_but_not_ready(health, clock):
    health.set_watching(True)
    clock.now += 100
    assert health.check_readiness() == Health(True, 'ok', 'clients are served')
    health.set_active(False)
    assert (health.check().is_ok, health.check().code) == (True, 'inactive')
    assert (health.check_readiness().is_ok, health.check_readiness().code) == (False, 'inactive')
    assert health.check_life().is_ok


def test_a_dead_thread_is_what_counts_most(clock):
    def die():
        raise SystemExit('injected')

    threads = Threads(clock)
    health = HealthService(Settings, clock, threads)
    health.set_watching(True)
    health.on_image()
    threads.start('web', die).join()
    dead = Health(False, 'threads', "the web thread died: SystemExit('injected')")
    health.set_active(False)
    assert health.check() == health.check_life() == health.check_readiness() == dead


def test_a_new_publisher_from_which_nothing_comes_needs_the_remedy(health, clock):
    health.set_watching(True)
    for _ in range(20):
        health.on_image()
    clock.now += 10
    # The one there was has stopped: its images did get through.
    assert 'FASTDDS' not in health.check().message
    # One that is killed is still listed for a while.
    health.set_publishers('/camera/image', 2)
    clock.now += 2.9
    assert 'FASTDDS' not in health.check().message
    health.on_image()       # by luck
    clock.now += 2.1
    assert health.check().code == 'stale'
    assert 'FASTDDS_DEFAULT_PROFILES_FILE' in health.check().message


def test_what_was_dropped_before_the_last_image_explains_nothing(health, clock):
    health.set_watching(True)
    health.on_dropped('short_data')
    health.on_image()
    clock.now += 5
    assert 'short_data' not in health.check().message
    health.on_dropped('short_step')
    assert '1 short_step' in health.check().message
    assert health.dropped == {'short_data': 1, 'short_step': 1}


def test_the_age_is_that_of_the_last_image(health, clock):
    assert health.age is None
    health.set_watching(True)
    health.on_image()
    clock.now += 1.5
    assert health.age == 1.5
