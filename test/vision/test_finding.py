from builders import DICTIONARY, facing, make_camera, make_view, marker_sheet, render
import cv2
import numpy as np
import pytest

from camws_bridge.vision.boards import marker_square
from camws_bridge.vision.camera import project_points
from camws_bridge.vision.detection import get_dictionary
from camws_bridge.vision.finding import MarkerFinder
from camws_bridge.vision.geometry import transform_points
from camws_bridge.vision.tracking import TrackingOptions

CAMERA, LENGTH = make_camera(), 0.07


def look(step, gamma=1.0):
    """Return a picture of two moving markers and their true corners."""
    poses = (facing(-0.1 + 0.003 * step, 0.0, 0.5, tilt=0.4, spin=0.02 * step),
             facing(0.1, 0.06 - 0.002 * step, 0.5, turn=-0.5))
    gray = render(CAMERA, *((marker_sheet(index, LENGTH), pose)
                            for index, pose in enumerate(poses)))
    light = cv2.GaussianBlur(gray.astype(np.float32) / 255, (0, 0), 0.7) * 0.75 + 0.1
    truth = [project_points(CAMERA, transform_points(pose, marker_square(LENGTH)))
             for pose in poses]
    return np.round(255 * light ** (1 / gamma)).astype(np.uint8), truth


def off(found, truth):
    return max(np.linalg.norm(one.corners - corners, axis=1).max()
               for one, corners in zip(found, truth, strict=True))


def test_markers_that_are_followed_are_as_exact_as_those_found():
    finder = MarkerFinder(DICTIONARY, tracking=TrackingOptions(search_every=100))
    for step in range(12):
        gray, truth = look(step)
        found = finder.find(gray, CAMERA)
        assert [one.marker_id for one in found] == [0, 1]
        assert [one.by_edges for one in found] == [4, 4]
        assert off(found, truth) < 0.25
        assert all(one.covariance.shape == (4, 2, 2) for one in found)
    assert finder._tracker.searched == 1


def test_who_takes_the_place_of_another_is_not_taken_for_it():
    finder = MarkerFinder(DICTIONARY)
    for marker_id in (3, 8):
        gray = render(CAMERA, (marker_sheet(marker_id, LENGTH), facing()))
        assert [one.marker_id for one in finder.find(gray, CAMERA)] == [marker_id]


@pytest.mark.parametrize('learn', [True, False])
def test_the_edge_shift_of_the_camera_is_learned(learn):
    finder = MarkerFinder(DICTIONARY, learn_shift=learn, tracking=TrackingOptions(enabled=False))
    for step in range(3):
        gray, truth = look(step, gamma=2.2)
        found = finder.find(gray, CAMERA)
    if learn:
        assert finder.edge_shift.px > 0.1
        assert off(found, truth) < 0.25
    else:
        assert finder.edge_shift.px == 0.0
        assert off(found, truth) > 0.35


def test_other_refinements_are_opencvs_own():
    gray, truth = look(0)
    for refinement, limit in (('subpix', 1.0), ('contour', 3.0), ('none', 3.0)):
        found = MarkerFinder(DICTIONARY, refinement).find(gray, CAMERA)
        assert off(found, truth) < limit
        assert [(one.covariance, one.by_edges) for one in found] == [(None, 0)] * 2


def test_without_a_camera_corners_are_still_refined():
    view = make_view('plumb_bob-5')
    found = MarkerFinder(DICTIONARY, min_perimeter_px=40).find(view.gray)
    assert len(found) == 14
    assert all(one.by_edges == 4 for one in found)


def test_nothing_is_found_in_an_empty_image():
    finder = MarkerFinder(DICTIONARY)
    assert finder.find(np.full((120, 160), 90, np.uint8), CAMERA) == ()


def test_a_square_of_half_white_cells_is_no_marker():
    # OpenCV 5 counts each of them as right, whatever it should be.
    side, module = 7, 16
    picture = np.full((200, 240), 255, np.uint8)
    square = picture[40:40 + side * module, 60:60 + side * module]
    square[:] = 0
    inside = square[module:-module, module:-module]
    inside[:, np.arange(inside.shape[1]) % module >= module // 2] = 255
    for refinement in ('edges', 'subpix'):
        finder = MarkerFinder(DICTIONARY, refinement)
        assert [finder.find(picture) for _ in range(2)] == [(), ()]


def test_a_marker_with_dirt_on_it_is_one_still():
    picture = np.full((200, 240), 255, np.uint8)
    picture[40:152, 60:172] = cv2.aruco.generateImageMarker(get_dictionary(DICTIONARY), 3, 112)
    # A white speck on the border and one cell inside of the other colour.
    picture[40 + 34:40 + 46, 60 + 3:60 + 14] = 255
    cell = picture[40 + 34:40 + 46, 60 + 34:60 + 46]
    cell[:] = 255 - cell
    found, = MarkerFinder(DICTIONARY).find(picture)
    assert found.marker_id == 3


@pytest.mark.parametrize('refinement', ['edges', 'subpix', 'contour', 'none'])
def test_images_without_room_for_a_marker_hold_none(refinement):
    for shape in ((0, 0), (0, 5), (1, 1), (1, 50), (2, 2), (3000, 3)):
        assert MarkerFinder(DICTIONARY, refinement).find(np.zeros(shape, np.uint8)) == ()


@pytest.mark.parametrize('image', [np.zeros((40, 50, 3), np.uint8), np.zeros((40, 50), np.uint16)])
def test_images_of_another_kind_are_refused_by_name(image):
    with pytest.raises(ValueError, match=r'40, 50.*allowed: \(height, width\), uint8'):
        MarkerFinder(DICTIONARY).find(image)


def test_images_need_not_be_contiguous():
    gray, _ = look(0)
    plain = MarkerFinder(DICTIONARY).find(gray)
    wide = np.repeat(gray, 2, axis=1)[:, ::2]
    for image in (wide, np.asfortranarray(gray)):
        found = MarkerFinder(DICTIONARY).find(image)
        assert len(found) == len(plain) == 2
        np.testing.assert_allclose(found[0].corners, plain[0].corners, atol=1e-6)
