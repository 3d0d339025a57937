from builders import DICTIONARY, facing, make_camera, marker_sheet, render
import cv2
import numpy as np
import pytest

from camws_bridge.vision.boards import marker_square
from camws_bridge.vision.camera import project_points
from camws_bridge.vision.cells import CellReader
from camws_bridge.vision.detection import get_dictionary
from camws_bridge.vision.geometry import transform_points

CAMERA, POSE = make_camera(), facing(0.02, 0.01, 0.4, tilt=0.5, turn=0.3, spin=0.7)
CORNERS = project_points(CAMERA, transform_points(POSE, marker_square(0.06)))[None]


def make_reader(dictionary=DICTIONARY, **values):
    return CellReader(get_dictionary(dictionary), **values)


def look(marker_id, dictionary=DICTIONARY):
    return render(CAMERA, (marker_sheet(marker_id, 0.06, dictionary), POSE))


@pytest.mark.parametrize('dictionary', [DICTIONARY, 'DICT_4X4_50', 'DICT_APRILTAG_36h11'])
def test_a_marker_agrees_with_itself_alone(dictionary):
    reader, gray = make_reader(dictionary), look(7, dictionary)
    assert reader.agrees(gray, CORNERS, [7]).tolist() == [True]
    assert reader.agrees(255 - gray, CORNERS, [7]).tolist() == [True]
    others = [marker_id for marker_id in range(50) if marker_id != 7]
    assert not reader.agrees(gray, np.repeat(CORNERS, 49, axis=0), others).any()


def test_its_size_is_that_of_the_dictionary():
    assert make_reader('DICT_4X4_50').modules == 6
    assert make_reader('DICT_APRILTAG_36h11', border=2).modules == 10


def test_turned_or_misplaced_corners_do_not_agree():
    reader, gray = make_reader(), look(7)
    assert not reader.agrees(gray, np.roll(CORNERS, 1, axis=1), [7]).any()
    assert not reader.agrees(gray, CORNERS + 12, [7]).any()
    inside = CORNERS.mean(axis=1) + (CORNERS - CORNERS.mean(axis=1)) * 5 / 7
    assert not reader.agrees(gray, inside, [7]).any()


def test_what_is_no_marker_does_not_agree():
    reader = make_reader()
    noise = np.random.default_rng(0).integers(0, 255, (360, 480)).astype(np.uint8)
    for gray in (noise, np.full((360, 480), 120, np.uint8)):
        assert not reader.agrees(gray, CORNERS, [7]).any()
    assert not reader.agrees(look(7), np.full((1, 4, 2), 50.0), [7]).any()
    assert reader.agrees(noise, np.zeros((0, 4, 2)), []).shape == (0,)


def test_a_speck_of_dirt_is_forgiven():
    reader, gray = make_reader(), look(7)
    gray.flags.writeable = True
    x, y = CORNERS[0].mean(axis=0).round().astype(int)
    gray[y - 3:y + 3, x - 3:x + 3] = 255 - gray[y, x]
    assert reader.agrees(gray, CORNERS, [7]).all()


def test_a_border_is_black_all_round_or_white_on_request():
    reader, gray = make_reader(), look(7)
    assert reader.has_border(gray, CORNERS, [7]).all()
    # Corners may be coarse, and the id is not looked at closely.
    assert reader.has_border(gray, CORNERS + (2, -2), [7]).all()
    assert not reader.has_border(255 - gray, CORNERS, [7]).any()
    assert reader.has_border(255 - gray, CORNERS, [7], inverted=True).all()
    around = CORNERS.mean(axis=1) + (CORNERS - CORNERS.mean(axis=1)) * 1.45
    assert not reader.has_border(gray, around, [7]).any()
    assert reader.has_border(gray, np.zeros((0, 4, 2)), []).shape == (0,)


def test_as_many_cells_may_be_wrong_as_the_dictionary_corrects():
    reader = make_reader()
    whole = look(7)
    correctable = get_dictionary(DICTIONARY).maxCorrectionBits
    unit = cv2.getPerspectiveTransform(
        np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32), CORNERS[0].astype(np.float32))

    def spoiled(cells):
        gray = whole.copy()
        for x, y in cells:
            square = np.array([[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]]) / reader.modules
            patch = cv2.perspectiveTransform(square[None], unit)[0]
            mask = cv2.fillConvexPoly(np.zeros_like(gray), patch.round().astype(np.int32), 1) > 0
            gray[mask] = 255 - gray[mask]
        return gray

    inside = [(1 + index % 5, 1 + index // 5) for index in range(correctable + 1)]
    for rate, count in ((0.0, 0), (1.0, correctable)):
        for wrong, expected in ((count, True), (count + 1, False)):
            gray = spoiled(inside[:wrong])
            assert reader.holds(gray, CORNERS, [7], np.array([rate]), 0.35).tolist() == [expected]
    border = [(index, 0) for index in range(7)] + [(0, index) for index in range(1, 7)]
    assert reader.holds(spoiled(border[:8]), CORNERS, [7], np.array([0.0]), 0.35).all()
    assert not reader.holds(spoiled(border[:9]), CORNERS, [7], np.array([0.0]), 0.35).any()
