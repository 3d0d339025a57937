"""The ladder against simulated links: how far it goes down, up again, and how steady it is."""
from dataclasses import dataclass

import pytest

from camws_bridge.websockets.adaptation import Adaptation, Delivery, LADDER, rungs
from camws_bridge.websockets.options import ClientOptions

STEPS = rungs(ClientOptions(adaptive=True), 1280, 80)
CHECK_EVERY = 0.5


@dataclass
class Link:
    """Carries ``capacity`` (in loads of the first rung) of a camera's 30 images a second."""

    capacity: float
    busy: float = 0.0
    images: float = 0.0
    sent: float = 0.0

    def pass_time(self, level: int) -> None:
        options, load = STEPS[level]
        wanted = min(30.0, options.fps or 30.0)
        # By image: the loads of rungs with a rate are by second.
        by_image = load / wanted
        delivered = min(wanted, self.capacity / by_image) if self.capacity else 0.0
        self.busy += CHECK_EVERY * min(1.0, wanted / max(1e-9, self.capacity / by_image))
        self.images += CHECK_EVERY * 30.0
        self.sent += CHECK_EVERY * delivered

    @property
    def delivery(self) -> Delivery:
        return Delivery(self.busy, int(self.images), int(self.sent))


def run(adaptation: Adaptation, link: Link, seconds: float, start: float = 0.0) -> list[int]:
    """Return the level at each check."""
    levels = []
    for check in range(int(seconds / CHECK_EVERY)):
        link.pass_time(adaptation.level)
        adaptation.update(start + check * CHECK_EVERY, link.delivery, STEPS)
        levels.append(adaptation.level)
    return levels


def changes(levels: list[int]) -> int:
    return sum(a != b for a, b in zip(levels, levels[1:]))


def test_a_client_with_room_stays_where_it_is():
    assert set(run(Adaptation(), Link(2.0), 60)) == {0}


@pytest.mark.parametrize('capacity', [0.7, 0.5, 0.3, 0.1, 0.03, 0.01])
def test_a_narrow_link_ends_on_the_first_rung_that_fits(capacity):
    levels = run(Adaptation(), Link(capacity), 120)
    fits = next(level for level, (_, load) in enumerate(STEPS) if load <= capacity)
    settled = levels[40:]
    assert max(settled, key=settled.count) == fits


@pytest.mark.parametrize('capacity', [0.7, 0.5, 0.3, 0.1, 0.03])
def test_it_does_not_flap(capacity):
    # In the last four of ten minutes: at most two trials of the rung above, each down again.
    levels = run(Adaptation(), Link(capacity), 600)
    assert changes(levels[720:]) <= 4


def test_a_link_that_carries_nothing_ends_at_the_floor_and_stays():
    levels = run(Adaptation(), Link(0.0), 60)
    assert levels[-1] == len(STEPS) - 1
    assert changes(levels) <= 4


def test_it_comes_back_up_when_there_is_room_again():
    adaptation = Adaptation()
    run(adaptation, Link(0.05), 30)
    assert adaptation.level >= 4
    levels = run(adaptation, Link(10.0), 120, start=30.0)
    assert levels[-1] == 0
    assert all(b >= a - 1 for a, b in zip(levels, levels[1:])), 'one rung at a time'


def test_a_short_break_costs_two_rungs_at_most():
    adaptation = Adaptation()
    run(adaptation, Link(5.0), 10)
    run(adaptation, Link(0.0), 1.0, start=10.0)
    assert adaptation.level <= 2


def test_quality_goes_first_then_width_then_rate():
    given = [(options.quality, options.width, options.fps) for options, _ in STEPS]
    assert given == [(None, None, None), (60, None, None), (40, None, None), (40, 640, None),
                     (40, 320, None), (40, 320, 10.0), (40, 320, 2.5)]
    loads = [load for _, load in STEPS]
    assert loads == sorted(loads, reverse=True)


def test_rungs_never_give_more_than_was_asked_for_and_those_that_change_nothing_are_left_out():
    options = ClientOptions(quality=50, width=400, fps=5.0, adaptive=True)
    given = [(step.quality, step.width, step.fps) for step, _ in rungs(options, 1280, 80)]
    assert given == [(50, 400, 5.0), (40, 400, 5.0), (40, 320, 5.0), (40, 320, 2.5)]


def test_streams_without_quality_or_size_have_rungs_of_rate_only():
    assert [(step.quality, step.width, step.fps)
            for step, _ in rungs(ClientOptions(), 0, None)] == [
                (None, None, None), (None, None, 10.0), (None, None, 2.5)]


def test_small_pictures_have_a_floor():
    widths = [step.width for step, _ in rungs(ClientOptions(), 320, None)]
    assert min(width for width in widths if width) == 160


def test_all_clients_share_the_rungs():
    assert len(LADDER) <= 8
    assert rungs(ClientOptions(adaptive=True), 1280, 80) == STEPS
