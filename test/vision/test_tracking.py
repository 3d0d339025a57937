from builders import DICTIONARY, facing, make_camera, marker_sheet, render
import numpy as np
import pytest

from camws_bridge.models import Detection
from camws_bridge.vision.detection import MarkerDetector
from camws_bridge.vision.tracking import Tracker, TrackingOptions

CAMERA, LENGTH = make_camera(), 0.06
EMPTY = render(CAMERA)


class CountingDetector(MarkerDetector):
    """Remembers how large the images were that it looked at."""

    def __init__(self, **parameters):
        super().__init__(DICTIONARY, 'none', parameters=parameters)
        self.areas = []

    def detect(self, gray, min_perimeter_px=None):
        self.areas.append(gray.size)
        return super().detect(gray, min_perimeter_px)


def make_tracker(**options):
    options = {'search_every': 10, 'search_after_loss': 5, **options}
    return Tracker(CountingDetector(), CountingDetector(), TrackingOptions(**options))


def look(*places, z=0.5):
    """Return a picture of markers 0, 1, ... at (x, y) metres; None: not there."""
    return render(CAMERA, *((marker_sheet(index, LENGTH), facing(*place, z, tilt=0.3))
                            for index, place in enumerate(places) if place is not None))


def ids(found):
    return [detection.marker_id for detection in found]


def test_between_searches_only_regions_are_looked_at():
    tracker = make_tracker()
    for step in range(20):
        found = tracker.detect(look((-0.1 + 0.004 * step, 0.0), (0.1, 0.08 - 0.002 * step)))
        assert ids(found) == [0, 1]
    assert tracker.searched == 2
    assert tracker._searcher.areas == [EMPTY.size] * 2
    assert max(tracker._follower.areas) < EMPTY.size / 6


def test_regions_give_the_corners_that_a_search_gives():
    tracker, gray = make_tracker(), look((-0.1, 0.0), (0.1, 0.05))
    searched, followed = tracker.detect(gray), tracker.detect(gray)
    assert tracker.searched == 1
    for whole, part in zip(searched, followed, strict=True):
        np.testing.assert_allclose(part.corners, whole.corners, atol=1.0)


def test_large_markers_are_followed_in_shrunk_regions_at_their_place():
    tracker, gray = make_tracker(), look((0.0, 0.0), z=0.16)
    searched, = tracker.detect(gray)
    followed, = tracker.detect(gray)
    side = np.linalg.norm(searched.corners[1] - searched.corners[0])
    assert side > 130
    assert tracker._follower.areas[-1] < 2 * side ** 2 / 4
    # As exact as pixels three times as large: no whole one of them is forgotten.
    assert np.abs((followed.corners - searched.corners).mean(axis=0)).max() < 1.2
    assert np.abs(followed.corners - searched.corners).max() < 4


def test_a_jump_costs_a_search_and_no_marker():
    tracker = make_tracker()
    tracker.detect(look((-0.12, 0.08)))
    assert ids(tracker.detect(look((0.12, -0.08)))) == [0]
    assert tracker.searched == 2


def test_after_a_loss_every_image_is_searched_for_a_while():
    tracker = make_tracker()
    tracker.detect(look((-0.1, 0.0), (0.1, 0.0)))
    for _ in range(3):
        assert ids(tracker.detect(look((-0.1, 0.0)))) == [0]
    assert tracker.searched == 4
    # It comes back elsewhere and is seen at once; then all are followed again.
    for _ in range(3):
        assert ids(tracker.detect(look((-0.1, 0.0), (0.1, 0.1)))) == [0, 1]
    assert tracker.searched == 5


def test_what_is_gone_for_good_is_not_searched_for_ever():
    tracker = make_tracker(search_every=100)
    tracker.detect(look((-0.1, 0.0), (0.1, 0.0)))
    for _ in range(12):
        assert ids(tracker.detect(look((-0.1, 0.0)))) == [0]
    assert tracker.searched == 1 + 1 + 5


def test_while_nothing_is_seen_every_image_is_searched():
    tracker = make_tracker()
    for _ in range(4):
        assert tracker.detect(EMPTY) == ()
    assert tracker.searched == 4
    assert ids(tracker.detect(look((0.0, 0.0)))) == [0]


def test_a_new_marker_is_seen_by_the_next_search():
    tracker = make_tracker(search_every=4)
    tracker.detect(look((-0.1, 0.0)))
    both = look((-0.1, 0.0), (0.1, 0.0))
    assert [len(tracker.detect(both)) for _ in range(4)][-1] == 2


def test_it_can_be_switched_off():
    tracker = make_tracker(enabled=False)
    for _ in range(3):
        tracker.detect(look((0.0, 0.0)))
    assert (tracker.searched, tracker._follower.areas) == (3, [])


def test_another_image_size_begins_anew():
    tracker = make_tracker()
    tracker.detect(look((0.0, 0.0)))
    assert ids(tracker.detect(np.ascontiguousarray(look((0.0, 0.0))[:300]))) == [0]
    assert tracker.searched == 2


@pytest.mark.parametrize('is_there', [True, False])
def test_who_follows_by_other_means_is_asked_first(is_there):
    tracker, gray = make_tracker(), look((-0.1, 0.0), (0.1, 0.05))
    asked = []

    def follow(expected):
        asked.append(ids(expected))
        return list(expected) if is_there else [None] * len(expected)

    tracker.detect(gray, follow)
    assert ids(tracker.detect(gray, follow)) == [0, 1]
    assert asked == [[0, 1]]
    assert (not tracker._follower.areas) is is_there
    assert tracker.searched == 1


def test_one_id_twice_is_followed_twice():
    tracker = make_tracker()
    gray = render(CAMERA, *((marker_sheet(5, LENGTH), facing(x, 0, 0.5)) for x in (-0.1, 0.1)))
    for _ in range(3):
        assert ids(tracker.detect(gray)) == [5, 5]
    assert tracker.searched == 1


def test_better_corners_are_what_the_next_image_is_expected_by():
    tracker, gray = make_tracker(), look((0.0, 0.0))
    found, = tracker.detect(gray)
    tracker.correct([Detection(found.marker_id, found.corners + 0.25)])
    expected = []
    tracker.detect(gray, lambda given: expected.extend(given) or list(given))
    np.testing.assert_allclose(expected[0].corners, found.corners + 0.25)
