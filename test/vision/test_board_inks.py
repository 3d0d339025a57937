from builders import CHARUCO, DICTIONARY, grid_board, MARKER_LIST
import numpy as np
import pytest

from camws_bridge.vision.board_inks import board_inks, marker_ink, PrintError
from camws_bridge.vision.boards import board_of_markers, make_board, marker_square


def area(ink):
    across = ink.right[0] * ink.down[1] - ink.right[1] * ink.down[0]
    return abs(across) * ink.darkness.mean()


def test_a_marker_is_its_modules_with_a_black_border():
    ink = marker_ink(marker_square(0.07), 3, DICTIONARY)
    assert ink.darkness.shape == (7, 7)
    assert ink.darkness[0].all() and ink.darkness[:, -1].all()
    assert not ink.darkness.all()
    np.testing.assert_allclose(ink.corner, (-0.035, 0.035))
    np.testing.assert_allclose([ink.right, ink.down], [(0.07, 0), (0, -0.07)])


def test_a_charuco_board_also_has_its_black_squares():
    inks = board_inks(make_board(CHARUCO, DICTIONARY))
    squares = [ink for ink in inks if ink.darkness.size == 1]
    assert (len(squares), len(inks)) == (12, 24)
    assert sum(map(area, squares)) == pytest.approx(12 * 0.04 ** 2)


def test_other_boards_are_their_markers():
    for board in (grid_board(), make_board(MARKER_LIST, DICTIONARY)):
        assert len(board_inks(board)) == len(board.marker_ids)


def test_what_cannot_be_drawn_is_told():
    with pytest.raises(PrintError, match='marker id 100 is not in DICT_5X5_100'):
        marker_ink(marker_square(0.07), 100, DICTIONARY)
    raised = board_of_markers([1, 2], [marker_square(0.1) + (x, 0, x) for x in (0.0, 0.2)],
                              DICTIONARY)
    with pytest.raises(PrintError, match='only a flat board can be drawn; marker 2 lies 0.2 m'):
        board_inks(raised)
