import numpy as np
import pytest

pytest.importorskip('rclpy')

from camws_bridge.models import Frame, Stamp
from camws_bridge.ros.depth_pairing import DepthPairing

MS = 10 ** 6
DEPTH = np.ones((2, 2), np.uint16)


def stamp(milliseconds):
    return Stamp(10 + milliseconds // 1000, milliseconds % 1000 * MS)


def frame(seq, milliseconds):
    return Frame(seq, stamp(milliseconds), 'camera', 2, 2)


@pytest.fixture
def pairing():
    return DepthPairing(lambda: 0.008)


def test_depth_that_came_before_its_image_is_there_at_once(pairing):
    assert pairing.add_depth(stamp(33), DEPTH) is None
    assert pairing.add_frame(frame(1, 33)).depth is DEPTH


@pytest.mark.parametrize('late', [1, 2, 4])
def test_depth_that_is_some_images_late_finds_its_own(pairing, late):
    for seq in range(30):
        assert pairing.add_frame(frame(seq, 33 * seq)).depth is None
        if seq >= late:
            found = pairing.add_depth(stamp(33 * (seq - late)), DEPTH)
            assert found.seq == seq - late and found.depth is DEPTH


def test_depth_is_used_once_so_that_one_early_one_shifts_nothing(pairing):
    assert pairing.add_depth(stamp(0), DEPTH) is None
    assert pairing.add_frame(frame(0, 0)).depth is not None
    for seq in range(1, 20):
        assert pairing.add_frame(frame(seq, 16 * seq)).depth is None
        assert pairing.add_depth(stamp(16 * seq), DEPTH).seq == seq


def test_the_nearest_is_taken_and_nothing_beyond_the_tolerance(pairing):
    pairing.add_frame(frame(1, 0))
    pairing.add_frame(frame(2, 10))
    assert pairing.add_depth(stamp(7), DEPTH).seq == 2
    assert pairing.add_depth(stamp(9), DEPTH) is None
    assert pairing.add_depth(stamp(500), DEPTH) is None


def test_what_is_cleared_is_gone(pairing):
    pairing.add_frame(frame(1, 0))
    pairing.add_depth(stamp(100), DEPTH)
    pairing.clear()
    assert pairing.add_depth(stamp(0), DEPTH) is None
    assert pairing.add_frame(frame(2, 100)).depth is None
