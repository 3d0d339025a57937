import csv
import io

from builders import DICTIONARY, GRID, MARKER_LIST, ROOT
import cv2
from hypothesis import given, strategies as st
import numpy as np
import pytest
import yaml

from camws_bridge.vision.board_files import (
    BoardDefaults, make_board_of_yaml, parse_csv, read_board)
from camws_bridge.vision.boards import BoardError, make_board, marker_square
from camws_bridge.vision.detection import get_dictionary
from camws_bridge.vision.geometry import from_xyz_rpy, transform_points

DEFAULTS = BoardDefaults(DICTIONARY, 0.05, {9: 0.08})
TABLE = {'name': 'table', 'frame_at_center': True, 'markers_x': 3, 'markers_y': 2,
         'marker_size': 0.05, 'separation': 0.01, 'first_id': 4}


def without(description, name):
    return {key: value for key, value in description.items() if key != name}


# -- files ------------------------------------------------------------------------------------


def test_the_three_formats_are_told_apart(tmp_path):
    for name, text, markers in (
            ('a.yaml', yaml.safe_dump({**GRID, 'dictionary': 'DICT_APRILTAG_36h11'}), 12),
            ('b.yaml', yaml.safe_dump([TABLE]), 6), ('c.CSV', '1,0,0,0', 1)):
        path = tmp_path / name
        path.write_text(text)
        board = read_board(str(path), DEFAULTS)
        assert len(board.marker_ids) == markers
        assert board.dictionary == ('DICT_APRILTAG_36h11' if name == 'a.yaml' else DICTIONARY)


def test_the_boards_of_the_package_are_read():
    for path in (ROOT / 'config' / 'boards').glob('*.yaml'):
        assert read_board(str(path), DEFAULTS).marker_ids


@pytest.mark.parametrize(('name', 'content', 'said'), [
    ('b.yaml', b'type: [', 'line 1: it is not YAML'), ('b.yaml', b'\xff\xfe\x00', 'is not text'),
    ('b.yaml', b'', 'must be a mapping'), ('b.yaml', b'type: grid', 'markers_x is missing'),
    ('b.yaml', b'type: grid\ntype: charuco', 'line 2: .*type stands twice'),
    ('b.yaml', b'[]', 'empty list'), ('b.csv', b'', 'holds no marker'),
    ('b.csv', b'1,2', 'line 1: it has 2 values'), ('b.csv', b'\x80', 'line 1: it is not text')])
def test_errors_name_the_file(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BoardError, match=f'{name}.*{said}'):
        read_board(str(path), DEFAULTS)


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / 'none.yaml', tmp_path):
        with pytest.raises(BoardError, match=str(path)):
            read_board(str(path), DEFAULTS)


@pytest.mark.parametrize(('name', 'text'), [('b.yaml', yaml.safe_dump(GRID)),
                                            ('b.csv', '1,0,0,0')])
def test_a_name_is_refused_where_there_are_none(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(BoardError, match="board.name is 'x', but it holds one board"):
        read_board(str(path), DEFAULTS, 'x')


# -- aruco_opencv -----------------------------------------------------------------------------


@pytest.mark.parametrize('at_center', [False, True])
def test_aruco_opencvs_boards_stand_where_opencv_has_them(at_center):
    board = make_board_of_yaml([{**TABLE, 'frame_at_center': at_center}], DEFAULTS)
    opencv = cv2.aruco.GridBoard((3, 2), 0.05, 0.01, get_dictionary(DICTIONARY),
                                 np.arange(4, 10))
    expected = np.array(opencv.getObjPoints(), float)
    if at_center:
        expected -= (0.085, 0.055, 0)
    assert board.marker_ids == tuple(range(4, 10))
    np.testing.assert_allclose(board.corners, expected, atol=1e-7)
    # y points down: the board's upper left corner has the least y.
    np.testing.assert_allclose(board.outline[0], expected[0][0], atol=1e-7)
    assert board.front == -1


def test_a_name_picks_one_of_several():
    content = [TABLE, {**TABLE, 'name': 7, 'first_id': 20}]
    assert make_board_of_yaml(content, DEFAULTS, 'table').marker_ids[0] == 4
    assert make_board_of_yaml(content, DEFAULTS, '7').marker_ids[0] == 20
    with pytest.raises(BoardError, match="several boards; allowed as board.name: 'table' or '7'"):
        make_board_of_yaml(content, DEFAULTS)
    with pytest.raises(BoardError, match="board.name is 'x'; allowed as board.name: 'table'"):
        make_board_of_yaml(content, DEFAULTS, 'x')


@pytest.mark.parametrize('name', ['4X4_50', 'DICT_4X4_50'])
def test_a_board_may_name_its_dictionary_as_aruco_opencv_does(name):
    board = make_board_of_yaml([{**TABLE, 'marker_dict': name}], DEFAULTS)
    assert board.dictionary == 'DICT_4X4_50'


@pytest.mark.parametrize(('entry', 'said'), [
    *((without(TABLE, name), rf'\[0\]: {name} is missing') for name in TABLE),
    ({**TABLE, 'frame_at_center': 'maybe'}, "frame_at_center is 'maybe'; allowed: true or false"),
    ({**TABLE, 'markers_x': 2.5}, r'markers_x is 2.5; allowed: a whole number from 1 on'),
    ({**TABLE, 'markers_y': 10 ** 9}, 'is not in DICT_5X5_100'),
    ({**TABLE, 'marker_size': 50000}, 'marker_size is 50000; allowed: a length in metres'),
    ({**TABLE, 'separation': -0.1}, 'separation is -0.1'),
    ({**TABLE, 'first_id': 98}, 'marker id 103 is not in DICT_5X5_100; allowed: 0 to 99'),
    ({**TABLE, 'marker_dict': '9X9'}, "dictionary: 'DICT_9X9' is not a marker dictionary"),
    ({**TABLE, 'sep': 1}, 'sep is not known here; known: first_id'),
    ({**TABLE, 'name': [1]}, r'name is \[1\]; allowed: text'), (3, 'must be a mapping')])
def test_a_wrong_entry_of_aruco_opencv_is_named(entry, said):
    with pytest.raises(BoardError, match=said):
        make_board_of_yaml([entry], DEFAULTS)


def test_two_boards_of_one_name_are_refused():
    with pytest.raises(BoardError, match=r"\[1\]: name is 'table' like that of another"):
        make_board_of_yaml([TABLE, TABLE], DEFAULTS)


# -- CSV --------------------------------------------------------------------------------------


@pytest.mark.parametrize(('text', 'pose', 'length'), [
    ('3,0.1,0.2,0.3', [0.1, 0.2, 0.3, 0, 0, 0], 0.05),
    ('3,0.1,0.2,0.3,0.04', [0.1, 0.2, 0.3, 0, 0, 0], 0.04),
    ('3,0.1,0.2,0.3,0.4,0.5,0.6', [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 0.05),
    ('3, 0.1 ,0.2,0.3,0.4,0.5,0.6,0.04', [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 0.04),
    ('# a wall\r\n\r\nyaw,Z,pitch,roll,y,x,ID,length\r\n0.6,0.3,0.5,0.4,0.2,0.1,3,0.04\r\n',
     [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 0.04),
    ('id,x,y,z,length\n3,"1e-1",.2,0.3,4e-2\n,,,\n', [0.1, 0.2, 0.3, 0, 0, 0], 0.04)])
def test_a_csv_line_is_a_marker(text, pose, length):
    board = parse_csv(text, DEFAULTS)
    assert board.marker_ids == (3,)
    expected = transform_points(from_xyz_rpy(pose), marker_square(length))
    np.testing.assert_allclose(board.corners[0], expected, atol=1e-12)


def test_lengths_by_id_are_taken_from_the_parameters():
    board = parse_csv('8,0,0,0\n9,1,0,0', DEFAULTS)
    sides = [float(np.linalg.norm(quad[1] - quad[0])) for quad in board.corners]
    assert sides == pytest.approx([0.05, 0.08])


@pytest.mark.parametrize(('text', 'said'), [
    ('', 'it holds no marker'), ('# nothing', 'it holds no marker'), ('id,x,y,z', 'no marker'),
    ('1,0,0', r'line 1: it has 3 values; allowed: 4 \(id,x,y,z\) or 5'),
    ('1,0,0,0\n2,0,0', r'line 2: it has 3 values; allowed: 4 \(id,x,y,z\)'),
    ('id,x,y,z\n\n2,0,0,0,0', 'line 3: it has 5 values'),
    ('id,x,y', "line 1: the header is 'id,x,y'; allowed: id,x,y,z"),
    ('id,x,y,z,z', 'line 1: the header is'), ('id;x;y;z\n1;0;0;0', 'line 1: the header is'),
    ('1;0;0;0', 'line 1: the header is'),
    ('1,0,0,0\n1,1,0,0', 'line 2: marker id 1 stands twice'),
    ('1.5,0,0,0', "line 1: id is '1.5'; allowed: a whole number"), ('-1,0,0,0', "id is '-1'"),
    ('1,0,0,0\n100,0,0,0', 'marker id 100 is not in DICT_5X5_100; allowed: 0 to 99'),
    ('1,0,a,0', "line 1: y is 'a'; allowed: a number"), ('1,0,,0', "line 1: y is ''"),
    ('1,nan,0,0', "line 1: x is 'nan'"), ('1,0,0,1e9', 'line 1: z is 10+'),
    ('1,0,0,0,0', 'line 1: length is 0'), ('1,0,0,0,-1', 'line 1: length is -1'),
    ('1,"0,0,0', 'line 1: it is not CSV'), ('1,0,0,0\n' * 10001, '10001 lines')])
def test_a_wrong_line_is_named(text, said):
    with pytest.raises(BoardError, match=said) as caught:
        parse_csv(text, DEFAULTS)
    assert '\n' not in str(caught.value)


def test_an_unknown_dictionary_of_the_parameters_is_told():
    with pytest.raises(BoardError, match="'DICT_NO' is not a marker dictionary"):
        parse_csv('1,0,0,0', BoardDefaults('DICT_NO'))


# -- anything ---------------------------------------------------------------------------------

CELLS = st.one_of(st.sampled_from(['id', 'x', 'y', 'z', 'roll', 'pitch', 'yaw', 'length', '', '#',
                                   '"', '1', '0.5', '-3', 'nan', '1e400', '1_0', '٣', '0x1']),
                  st.integers(-10, 200).map(str), st.floats().map(str), st.text(max_size=4))


@given(st.lists(st.lists(CELLS, max_size=9), max_size=5), st.booleans())
def test_any_table_makes_a_board_or_a_board_error(rows, with_header):
    if with_header:
        rows = [['id', 'x', 'y', 'z'], *rows]
    quoted = io.StringIO()
    csv.writer(quoted).writerows(rows)
    for text in (quoted.getvalue(), '\n'.join(','.join(row) for row in rows)):
        try:
            board = parse_csv(text, DEFAULTS)
        except BoardError as error:
            assert str(error) and '\n' not in str(error)
        else:
            assert np.all(np.isfinite(board.corners))


@given(st.binary(max_size=80), st.sampled_from(['board.csv', 'board.yaml']))
def test_any_bytes_make_a_board_or_a_board_error(tmp_path_factory, data, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    with pytest.raises(BoardError, match='board file'):
        read_board(str(path), DEFAULTS)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 10 ** 30), st.floats(),
              st.text(max_size=4), st.dates()),
    lambda inner: st.one_of(st.lists(inner, max_size=4),
                            st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), inner,
                                            max_size=3)), max_leaves=8)


@given(st.data())
def test_a_description_with_a_wrong_value_makes_a_board_or_a_board_error(data):
    original = data.draw(st.sampled_from([GRID, [TABLE], MARKER_LIST]))
    changed = yaml.safe_load(yaml.safe_dump(original))
    target = data.draw(st.sampled_from(
        [changed] if isinstance(changed, dict) else changed))
    target = data.draw(st.sampled_from([target, *target.get('markers', [])]))
    target[data.draw(st.sampled_from([*target, 'other']))] = data.draw(VALUES)
    try:
        board = make_board_of_yaml(changed, DEFAULTS)
    except BoardError as error:
        assert str(error) and '\n' not in str(error)
    else:
        assert np.all(np.isfinite(board.corners))


def test_a_short_file_that_stands_for_billions_of_values_is_an_error_at_once(tmp_path):
    bomb = '\n'.join(['a: &a0 [1, 1, 1, 1, 1, 1, 1, 1]', *(
        f'b{i}: &a{i + 1} [{", ".join([f"*a{i}"] * 8)}]' for i in range(12)),
        'type: markers', 'markers: [{id: 1, corners: *a12}]'])
    path = tmp_path / 'bomb.yaml'
    path.write_text(bomb)
    with pytest.raises(BoardError) as caught:
        read_board(str(path), DEFAULTS)
    assert len(str(caught.value)) < 1000


def test_a_board_of_the_file_is_that_of_its_description(tmp_path):
    path = tmp_path / 'board.yaml'
    path.write_text(yaml.safe_dump(MARKER_LIST))
    np.testing.assert_array_equal(read_board(str(path), DEFAULTS).corners,
                                  make_board(MARKER_LIST, DICTIONARY).corners)
