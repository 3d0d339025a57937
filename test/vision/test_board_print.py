from builders import CHARUCO, DICTIONARY, GRID, grid_board, MARKER_LIST
import cv2
import numpy as np
import pytest

from camws_bridge.vision.board_files import BoardDefaults, make_board_of_yaml
from camws_bridge.vision.board_inks import PrintError
from camws_bridge.vision.board_print import FIT, lay_out, modules_of, PAGES, to_pixels
from camws_bridge.vision.boards import board_of_markers, make_board, marker_square
from camws_bridge.vision.detection import get_dictionary

CAPTION = ['a grid', 'printed for a test, with a line that is much too long to stand on one '
           'page side by side with itself, so that it must be wrapped ä']
DOWN = [{'name': 'b', 'frame_at_center': False, 'markers_x': 3, 'markers_y': 2, 'first_id': 5,
         'marker_size': 0.04, 'separation': 0.01}]
BOARDS = {'grid': grid_board(), 'charuco': make_board(CHARUCO, DICTIONARY),
          'list': make_board(MARKER_LIST, DICTIONARY),
          'y down': make_board_of_yaml(DOWN, BoardDefaults(DICTIONARY))}


def found_markers(image):
    corners, ids, _ = cv2.aruco.ArucoDetector(get_dictionary(DICTIONARY)).detectMarkers(image)
    return {int(i): quad.reshape(4, 2) for i, quad in zip(np.ravel(ids), corners)}


@pytest.mark.parametrize('name', BOARDS)
def test_a_printed_board_is_to_scale_and_the_right_way_round(name):
    board, per_metre = BOARDS[name], 4000
    image = to_pixels(lay_out(board, 'A4' if name == 'charuco' else 'A3', CAPTION), per_metre)
    assert set(np.unique(image)) == {0, 255}
    assert sorted(image.shape) == ([840, 1188] if name == 'charuco' else [1188, 1680])
    found = found_markers(image)
    assert sorted(found) == sorted(board.marker_ids)
    x0, _, _, y1 = board.area
    # From the board to the page: only shifted, and its y turned down.
    seen = np.concatenate([found[marker_id] for marker_id in board.marker_ids])
    expected = (board.corners[..., :2].reshape(-1, 2) - (x0, y1)) * (1, -board.front) * per_metre
    difference = seen - expected
    assert np.max(np.abs(difference - difference.mean(0))) < 2      # the detector's own
    scale = np.ptp(seen, axis=0) / np.ptp(expected, axis=0)
    np.testing.assert_allclose(scale, 1, atol=0.01)


def test_edges_are_at_most_half_a_pixel_off():
    board, per_metre = grid_board(), 3937
    page = lay_out(board, FIT, [])
    image = to_pixels(page, per_metre)
    for ink in page.inks:
        row = image[int((ink.corner[1] + 0.002) * per_metre)]
        start, end = int(ink.corner[0] * per_metre), int((ink.corner[0] + 0.04) * per_metre)
        black = np.flatnonzero(row[start - 5:end + 5] == 0) + start - 5
        assert abs(black[0] - ink.corner[0] * per_metre) <= 0.5
        assert abs(black[-1] + 1 - (ink.corner[0] + 0.04) * per_metre) <= 0.5


def test_markers_stay_white_all_round():
    board = make_board({**GRID, 'margin_m': 0}, DICTIONARY)
    page = lay_out(board, FIT, CAPTION)
    image = to_pixels(page, 4000)
    left = min(ink.corner[0] for ink in page.inks)
    top = min(ink.corner[1] for ink in page.inks)
    module = 0.04 / 7
    white = image[int((top - module) * 4000):int((top + 0.14 + module) * 4000),
                  int((left - module) * 4000):int((left + 0.19 + module) * 4000)].copy()
    inner = round(module * 4000)
    white[inner:-inner, inner:-inner] = 255
    assert white.min() == 255


def test_the_ruler_is_as_long_as_it_says():
    page = lay_out(grid_board(), 'A4', CAPTION)
    image = to_pixels(page, 10000)
    base = max(page.bars, key=lambda bar: bar.right - bar.left)
    assert page.ruler == pytest.approx(0.2)
    ticks = image[int((base.top - 0.001) * 10000)]
    places = np.flatnonzero(np.diff(ticks.astype(int)) < 0)
    assert len(places) == 201
    np.testing.assert_allclose(places - places[0], np.arange(201) * 10, atol=1)


def test_the_page_is_turned_as_it_fits():
    tall = board_of_markers([1, 2], [marker_square(0.05) + (0, y, 0) for y in (0, 0.17)],
                            DICTIONARY)
    wide = board_of_markers([1, 2], [marker_square(0.05) + (x, 0, 0) for x in (0, 0.17)],
                            DICTIONARY)
    assert lay_out(tall, 'A4', CAPTION).height == 0.297
    assert lay_out(wide, 'A4', CAPTION).width == 0.297


@pytest.mark.parametrize(('side', 'page', 'allowed'), [
    (0.18, 'A4', 'allowed: A3, or fit'), (0.16, 'letter', 'allowed: A3, or fit'),
    (0.3, 'A3', 'allowed: A1, or fit'), (3.0, 'A0', 'allowed: fit ')])
def test_a_board_that_does_not_fit_is_refused_with_a_page_that_does(side, page, allowed):
    board = board_of_markers([1], [marker_square(side)], DICTIONARY)
    with pytest.raises(PrintError, match=f'does not fit on {page} .*{allowed}'):
        lay_out(board, page, CAPTION)
    assert lay_out(board, FIT, CAPTION).width > side


@pytest.mark.parametrize('page', [*PAGES, FIT])
def test_everything_stands_on_the_page(page):
    board = board_of_markers([1], [marker_square(0.03)], DICTIONARY)
    laid = lay_out(board, page, CAPTION)
    for bar in laid.bars:
        assert 0 < bar.left < bar.right < laid.width
        assert 0 < bar.top < bar.bottom < laid.height
    lines = [text for text in laid.texts if not text.text[0].isdigit()]
    assert ' '.join(text.text for text in lines) == ' '.join(CAPTION).replace('ä', '?')
    assert all(text.y < laid.height for text in lines)
    image = to_pixels(laid, 4000)
    assert image[:8].min() == image[-8:].min() == image[:, -8:].min() == image[:, :8].min() == 255


def test_runs_of_modules_cover_what_is_black():
    ink = lay_out(grid_board(), 'A4', []).inks[3]
    areas = [np.ptp(outline[:, 0]) * np.ptp(outline[:, 1]) for outline in modules_of(ink)]
    assert sum(areas) == pytest.approx(0.04 ** 2 * ink.darkness.mean())


def test_a_page_of_too_many_pixels_is_refused():
    with pytest.raises(PrintError, match='pixels are too many; allowed: a smaller --dpi'):
        to_pixels(lay_out(grid_board(), 'A4', []), 10 ** 6)
