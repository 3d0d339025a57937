import pytest

from camws_bridge.websockets.rate_meter import RateMeter


def test_the_rate_is_that_of_the_last_two_seconds():
    now = [0.0]
    meter = RateMeter(lambda: now[0])
    assert meter.rate == 0.0
    for seq in range(90):
        meter.add(seq)
        meter.add(seq)
        now[0] += 1 / 30
    assert meter.rate == pytest.approx(30.0)
    now[0] += 10
    assert meter.rate == 0.0
