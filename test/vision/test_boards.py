from builders import CHARUCO, DICTIONARY, GRID, grid_board, MARKER_LIST, ROOT
import cv2
from hypothesis import given, strategies as st
import numpy as np
import pytest
import yaml

from camws_bridge.models import Detection
from camws_bridge.vision.boards import BoardError, make_board, marker_square, read_board
from camws_bridge.vision.detection import get_dictionary


def detection(marker_id):
    return Detection(marker_id, np.arange(8.0).reshape(4, 2) + 100 * marker_id)


def test_a_grid_lies_around_its_centre_row_by_row_from_the_top_left():
    board = grid_board(first_id=10)
    assert board.marker_ids == tuple(range(10, 22))
    np.testing.assert_allclose(board.area, (-0.105, -0.08, 0.105, 0.08))
    np.testing.assert_allclose(board.marker_corners(10), [
        [-0.095, 0.07, 0], [-0.055, 0.07, 0], [-0.055, 0.03, 0], [-0.095, 0.03, 0]])
    np.testing.assert_allclose(board.marker_corners(15), [       # second row, second column
        [-0.045, 0.02, 0], [-0.005, 0.02, 0], [-0.005, -0.02, 0], [-0.045, -0.02, 0]], atol=1e-12)
    np.testing.assert_allclose(board.corners.mean((0, 1)), 0, atol=1e-12)


@pytest.mark.parametrize('description', [GRID, CHARUCO], ids=['grid', 'charuco'])
def test_the_origin_may_be_the_lower_left_corner(description):
    centred = make_board(description, DICTIONARY)
    moved = make_board({**description, 'origin': 'lower_left'}, DICTIONARY)
    assert moved.area[:2] == (0, 0)
    shift = np.array([moved.area[2] / 2, moved.area[3] / 2, 0])
    np.testing.assert_allclose(moved.corners, centred.corners + shift, atol=1e-7)
    np.testing.assert_allclose(moved.outline, centred.outline + shift, atol=1e-7)


def test_the_outline_goes_clockwise_from_the_top_left_like_a_marker():
    outline = make_board({**GRID, 'markers_x': 1, 'markers_y': 1}, DICTIONARY).outline
    np.testing.assert_allclose(outline, marker_square(0.06))


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('size', [(6, 4), (5, 4), (5, 3)])
def test_charuco_corners_are_where_opencv_prints_them(legacy, size):
    description = {**CHARUCO, 'squares_x': size[0], 'squares_y': size[1], 'first_id': 20,
                   'legacy_pattern': legacy, 'origin': 'lower_left'}
    board = make_board(description, DICTIONARY)
    opencv = cv2.aruco.CharucoBoard(size, 0.04, 0.03, get_dictionary(DICTIONARY),
                                    np.array(board.marker_ids))
    opencv.setLegacyPattern(legacy)
    picture = opencv.generateImage((size[0] * 100, size[1] * 100))
    corners, ids, _ = cv2.aruco.ArucoDetector(get_dictionary(DICTIONARY)).detectMarkers(picture)
    assert sorted(np.ravel(ids)) == list(board.marker_ids) == list(range(20, 20 + len(ids)))
    for marker_id, seen in zip(np.ravel(ids), corners):
        expected = board.marker_corners(marker_id)[:, :2] * (2500, -2500) + (0, size[1] * 100)
        assert np.max(np.abs(seen.reshape(4, 2) - expected)) < 2
    matched = [Detection(int(i), quad.reshape(4, 2)) for i, quad in zip(np.ravel(ids), corners)]
    points, pixels = board.correspondences(picture, matched)
    assert len(points) == (size[0] - 1) * (size[1] - 1)
    expected = points[:, :2] * (2500, -2500) + (-0.5, size[1] * 100 - 0.5)
    assert np.max(np.abs(pixels - expected)) < 0.3


def test_a_charuco_board_with_few_corners_in_view_gives_its_markers_corners():
    board = make_board(CHARUCO, DICTIONARY)
    points, pixels = board.correspondences(np.zeros((100, 100), np.uint8), [detection(2)])
    np.testing.assert_array_equal(points, board.marker_corners(2))
    np.testing.assert_array_equal(pixels, detection(2).corners)


def test_a_list_places_each_marker_by_pose_or_corners():
    board = make_board(MARKER_LIST, DICTIONARY)
    assert board.marker_ids == (3, 9, 27)
    np.testing.assert_allclose(board.marker_corners(3),
                               marker_square(0.06) + (-0.08, 0.05, 0))
    cos, sin = np.cos(0.3), np.sin(0.3)
    np.testing.assert_allclose(
        board.marker_corners(9)[0], (0.07 - 0.025 * cos - 0.025 * sin,
                                     0.04 - 0.025 * sin + 0.025 * cos, 0))
    assert board.marker_corners(27).tolist() == MARKER_LIST['markers'][2]['corners']
    assert board.area[0] == pytest.approx(-0.125)
    assert board.area[1] == pytest.approx(-0.105)


def test_only_markers_of_the_board_seen_once_are_matched():
    board = make_board(MARKER_LIST, DICTIONARY)
    seen = [detection(marker_id) for marker_id in (3, 4, 9, 9, 27)]
    assert [found.marker_id for found in board.match(seen)] == [3, 27]
    points, pixels = board.correspondences(np.zeros((9, 9), np.uint8), board.match(seen))
    np.testing.assert_array_equal(
        points, np.vstack([board.marker_corners(3), board.marker_corners(27)]))
    np.testing.assert_array_equal(
        pixels, np.vstack([detection(3).corners, detection(27).corners]))
    points, pixels = board.correspondences(np.zeros((9, 9), np.uint8), [])
    assert (points.shape, pixels.shape) == ((0, 3), (0, 2))


def test_board_files_are_read(tmp_path):
    for description in (GRID, CHARUCO, MARKER_LIST):
        path = tmp_path / f'{description["type"]}.yaml'
        path.write_text(yaml.safe_dump({**description, 'dictionary': 'DICT_APRILTAG_36h11'}))
        board = read_board(str(path), DICTIONARY)
        assert board.dictionary == 'DICT_APRILTAG_36h11'
        np.testing.assert_array_equal(board.corners, make_board(description, DICTIONARY).corners)
    for path in (ROOT / 'config' / 'boards').glob('*.yaml'):
        assert read_board(str(path), DICTIONARY).marker_ids


def without(description, name):
    return {key: value for key, value in description.items() if key != name}


ONE = {'type': 'markers', 'markers': [{'id': 3, 'center': [0, 0, 0], 'length_m': 0.1}]}


def one(**changes):
    return {'type': 'markers', 'markers': [{**ONE['markers'][0], **changes}]}


@pytest.mark.parametrize(('description', 'said'), [
    (None, 'must be a mapping'),
    ([GRID], 'must be a mapping of names to values, not list'),
    (without(GRID, 'type'), 'type is missing'),
    ({**GRID, 'type': 'cube'}, "type is 'cube'; allowed: grid or charuco or markers"),
    ({**GRID, 'type': ['grid']}, r"type is \['grid'\]"),
    ({**GRID, 'dictionary': 'DICT_X'}, "dictionary: 'DICT_X' is not"),
    ({**GRID, 'colour': 1}, 'colour is not known here; known: '),
    ({**GRID, 3: 1}, '3 is not known here'),
    (without(GRID, 'markers_x'), 'markers_x is missing'),
    ({**GRID, 'markers_y': 0}, 'markers_y is 0; allowed: a whole number from 1'),
    ({**GRID, 'markers_y': True}, 'markers_y is True'),
    ({**GRID, 'markers_x': 2.0}, 'markers_x is 2.0'),
    ({**GRID, 'markers_x': 50}, 'marker id 149 is not in DICT_5X5_100; allowed: 0 to 99'),
    ({**GRID, 'markers_x': 10 ** 8, 'markers_y': 10 ** 8}, 'is not in DICT_5X5_100'),
    ({**GRID, 'first_id': 90}, 'marker id 101 is not in'),
    ({**GRID, 'marker_length_m': 1e300}, 'marker_length_m is 1e\\+300'),
    ({**GRID, 'first_id': -1}, 'first_id is -1'),
    ({**GRID, 'marker_length_m': 0}, 'marker_length_m is 0; allowed: a length in metres'),
    ({**GRID, 'marker_length_m': '4cm'}, "marker_length_m is '4cm'"),
    ({**GRID, 'separation_m': float('nan')}, 'separation_m is nan'),
    ({**GRID, 'separation_m': 10 ** 400}, 'separation_m is 1000'),
    ({**GRID, 'margin_m': -0.1}, 'margin_m is -0.1'),
    ({**GRID, 'origin': 'top'}, "origin is 'top'; allowed: center or lower_left"),
    ({**CHARUCO, 'squares_x': 1}, 'squares_x is 1; allowed: a whole number from 2'),
    ({**CHARUCO, 'squares_x': 10 ** 12}, 'is not in DICT_5X5_100'),
    ({**CHARUCO, 'first_id': 10 ** 12}, 'is not in DICT_5X5_100'),
    ({**CHARUCO, 'first_id': 95}, 'marker id 106 is not in'),
    ({**CHARUCO, 'marker_length_m': 0.05}, r'marker_length_m is 0.05; allowed: less than .*0.04'),
    ({**CHARUCO, 'legacy_pattern': 'yes'}, "legacy_pattern is 'yes'; allowed: true or false"),
    (without(ONE, 'markers'), 'markers is missing'),
    ({**ONE, 'markers': []}, r'markers is \[\]; allowed: a list'),
    ({**ONE, 'markers': {'id': 3}}, 'markers is '),
    ({**ONE, 'markers': [3]}, r'markers\[0\] must be a mapping'),
    ({**ONE, 'markers': ONE['markers'] * 2}, 'a marker id stands twice'),
    (one(id=100), 'marker id 100 is not in'),
    (one(id='3'), r"markers\[0\]: id is '3'"),
    (one(size=1), r'markers\[0\]: size is not known here'),
    (one(length_m=-1), r'markers\[0\]: length_m is -1'),
    (one(center=[0, 0]), r'markers\[0\]: center is \[0, 0\]; allowed: 3 numbers'),
    (one(center=[0, 0, 10 ** 400]), r'markers\[0\]: center is '),
    (one(center=[0, [0], 0]), r'markers\[0\]: center is '),
    (one(rotation=[0, 0, float('inf')]), r'markers\[0\]: rotation is '),
    (one(rotation={'z': 1}), r'markers\[0\]: rotation is '),
    (one(corners=[[0, 0, 0]] * 3), r'markers\[0\]: corners is .*allowed: 4 x 3 numbers'),
    (one(corners=[[0, 0, 0]] * 4), r'markers\[0\]: .*length_m|center'),
])
def test_a_wrong_entry_is_named_with_what_is_allowed(description, said):
    with pytest.raises(BoardError, match=said) as caught:
        make_board(description, DICTIONARY)
    assert '\n' not in str(caught.value)


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
                   st.lists(st.one_of(st.floats(), st.integers(), st.text(max_size=2)),
                            max_size=4), st.dictionaries(st.text(max_size=3), st.integers()))


@given(st.sampled_from([GRID, CHARUCO, MARKER_LIST, ONE['markers'][0]]), st.data())
def test_any_value_makes_a_board_or_a_board_error(description, data):
    name = data.draw(st.sampled_from([*description, 'dictionary', 'rotation', 'first_id']))
    changed = {**description, name: data.draw(VALUES)}
    try:
        board = make_board(changed if 'type' in description else one(**changed), DICTIONARY)
    except BoardError as error:
        assert str(error)
    else:
        assert np.all(np.isfinite(board.corners))


@pytest.mark.parametrize(('content', 'said'), [
    (b'type: [', 'is not YAML'), (b'\xff\xfe\x00', 'is not text|is not YAML'),
    (b'', 'must be a mapping'), (b'type: grid', 'markers_x is missing')])
def test_errors_name_the_file(tmp_path, content, said):
    path = tmp_path / 'board.yaml'
    path.write_bytes(content)
    with pytest.raises(BoardError, match=f'board.yaml.*({said})'):
        read_board(str(path), DICTIONARY)


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / 'none.yaml', tmp_path):
        with pytest.raises(BoardError, match=str(path)):
            read_board(str(path), DICTIONARY)


def test_points_of_a_board_say_how_far_they_are_trusted():
    board = grid_board()
    spread = np.tile(0.04 * np.eye(2), (4, 1, 1))
    corners = np.array([[10.0, 10], [30, 10], [30, 30], [10, 30]])
    matched = (Detection(2, corners, spread), Detection(5, corners + 40))
    gray = np.zeros((100, 100), np.uint8)
    points, pixels, covariance, of_markers = board.weighted_correspondences(gray, matched)
    assert of_markers
    np.testing.assert_array_equal(points, np.concatenate([board.marker_corners(2),
                                                          board.marker_corners(5)]))
    np.testing.assert_array_equal(pixels, np.concatenate([corners, corners + 40]))
    np.testing.assert_array_equal(covariance[:4], spread)
    # Corners that were not refined are trusted less.
    assert (covariance[4:, 0, 0] > 0.04).all()
    np.testing.assert_array_equal(board.correspondences(gray, matched)[0], points)
