import sys

from builders import CHARUCO, DICTIONARY, grid_board
import cv2
import numpy as np
import pytest

from camws_bridge.commands.board_options import CommandError
from camws_bridge.commands.board_pdf import to_pdf
from camws_bridge.vision.board_print import lay_out, to_pixels
from camws_bridge.vision.boards import make_board

BOARDS = {'grid': grid_board(), 'charuco': make_board(CHARUCO, DICTIONARY)}
PER_METRE = 4000


def rendered(data):
    """Return the page as pdfium shows it, PER_METRE pixels to the metre, and its size (m)."""
    pdfium = pytest.importorskip('pypdfium2')
    document = pdfium.PdfDocument(data)
    try:
        page = document[0]
        size = tuple(points * 0.0254 / 72 for points in page.get_size())
        image = page.render(scale=PER_METRE * 0.0254 / 72, grayscale=True).to_numpy()
        return image.reshape(image.shape[:2]).copy(), size
    finally:
        document.close()


@pytest.mark.parametrize('name', BOARDS)
def test_a_pdf_shows_what_the_png_shows(name):
    pytest.importorskip('reportlab')
    page = lay_out(BOARDS[name], 'A4', [])
    image, size = rendered(to_pdf(page, 'a board'))
    assert size == pytest.approx((page.width, page.height), abs=1e-6)
    pixels = to_pixels(page, PER_METRE)
    assert max(abs(a - b) for a, b in zip(image.shape, pixels.shape)) <= 1
    height, width = (min(sizes) for sizes in zip(image.shape, pixels.shape))
    # Black and white apart from the edges: letters differ, so only down to the board's end.
    bottom = round(max(ink.corner[1] - min(0, ink.down[1]) + max(0, ink.down[1])
                       for ink in page.inks) * PER_METRE)
    a, b = image[:bottom, :width], pixels[:bottom, :width]
    far = np.abs(a.astype(int) - b) > 128
    inner = cv2.erode(far.astype(np.uint8), np.ones((2, 2), np.uint8))
    assert height > bottom
    assert inner.sum() == 0
    assert (b == 0).mean() > 0.1


def test_modules_meet_without_a_seam():
    pytest.importorskip('reportlab')
    page = lay_out(grid_board(), 'A4', [])
    image, _ = rendered(to_pdf(page, 'a board'))
    for ink in page.inks:
        # The left column of every marker is black from top to bottom.
        x = int((ink.corner[0] + 0.04 / 14) * PER_METRE)
        top, bottom = (int((ink.corner[1] + y) * PER_METRE) for y in (0.001, 0.039))
        assert image[top:bottom, x].max() == 0


def test_without_reportlab_it_says_what_to_install(monkeypatch):
    # Inject a fault by making the import fail.
    monkeypatch.setitem(sys.modules, 'reportlab.pdfgen.canvas', None)
    with pytest.raises(CommandError, match='pip install reportlab.*PNG needs nothing'):
        to_pdf(lay_out(grid_board(), 'A4', []), 'a board')
