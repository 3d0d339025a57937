from builders import DICTIONARY, facing, make_camera, marker_sheet, render
import numpy as np
import pytest

from camws_bridge.vision.boards import marker_square
from camws_bridge.vision.camera import project_points
from camws_bridge.vision.cells import CellReader
from camws_bridge.vision.geometry import transform_points

CAMERA, POSE = make_camera(), facing(0.02, 0.01, 0.4, tilt=0.5, turn=0.3, spin=0.7)
CORNERS = project_points(CAMERA, transform_points(POSE, marker_square(0.06)))[None]


def look(marker_id, dictionary=DICTIONARY):
    return render(CAMERA, (marker_sheet(marker_id, 0.06, dictionary), POSE))


@pytest.mark.parametrize('dictionary', [DICTIONARY, 'DICT_4X4_50', 'DICT_APRILTAG_36h11'])
def test_a_marker_agrees_with_itself_alone(dictionary):
    reader, gray = CellReader(dictionary), look(7, dictionary)
    assert reader.agrees(gray, CORNERS, [7]).tolist() == [True]
    assert reader.agrees(255 - gray, CORNERS, [7]).tolist() == [True]
    others = [marker_id for marker_id in range(50) if marker_id != 7]
    assert not reader.agrees(gray, np.repeat(CORNERS, 49, axis=0), others).any()


def test_its_size_is_that_of_the_dictionary():
    assert CellReader('DICT_4X4_50').modules == 6
    assert CellReader('DICT_APRILTAG_36h11', border=2).modules == 10


def test_turned_or_misplaced_corners_do_not_agree():
    reader, gray = CellReader(DICTIONARY), look(7)
    assert not reader.agrees(gray, np.roll(CORNERS, 1, axis=1), [7]).any()
    assert not reader.agrees(gray, CORNERS + 12, [7]).any()
    inside = CORNERS.mean(axis=1) + (CORNERS - CORNERS.mean(axis=1)) * 5 / 7
    assert not reader.agrees(gray, inside, [7]).any()


def test_what_is_no_marker_does_not_agree():
    reader = CellReader(DICTIONARY)
    noise = np.random.default_rng(0).integers(0, 255, (360, 480)).astype(np.uint8)
    for gray in (noise, np.full((360, 480), 120, np.uint8)):
        assert not reader.agrees(gray, CORNERS, [7]).any()
    assert not reader.agrees(look(7), np.full((1, 4, 2), 50.0), [7]).any()
    assert reader.agrees(noise, np.zeros((0, 4, 2)), []).shape == (0,)


def test_a_speck_of_dirt_is_forgiven():
    reader, gray = CellReader(DICTIONARY), look(7)
    gray.flags.writeable = True
    x, y = CORNERS[0].mean(axis=0).round().astype(int)
    gray[y - 3:y + 3, x - 3:x + 3] = 255 - gray[y, x]
    assert reader.agrees(gray, CORNERS, [7]).all()
