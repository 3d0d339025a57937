import pytest

from camws_bridge.models import Variant
from camws_bridge.websockets.slow_products import SlowProducts

COLOR, RECTIFIED = Variant('color'), Variant('rectified')


class Clock:
    now = 10.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_quick_products_never_pause(clock):
    products = SlowProducts(clock)
    for _ in range(100):
        products.note(COLOR, 0.1)
        assert products.may_be_made(COLOR)


def test_a_slow_product_pauses_twice_as_long_as_it_took(clock):
    products = SlowProducts(clock)
    products.note(RECTIFIED, 2.0)
    assert products.may_be_made(COLOR)
    clock.now += 3.9
    assert not products.may_be_made(RECTIFIED)
    clock.now += 0.1
    assert products.may_be_made(RECTIFIED)
    assert products.may_be_made(RECTIFIED)
