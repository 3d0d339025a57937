"""
A board on paper, to scale: where everything stands on the page, and the page as pixels.

Places on a page are metres from its upper left corner, x to the right and y down.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
import math
import textwrap

import cv2
import numpy as np

from camws_bridge.models import Array, FloatArray
from camws_bridge.vision.board_inks import board_inks, Ink, PrintError
from camws_bridge.vision.boards import Board

# Portrait, metres (ISO 216; ANSI A), smallest first.
PAGES = {'A4': (0.210, 0.297), 'letter': (0.2159, 0.2794), 'A3': (0.297, 0.420),
         'A2': (0.420, 0.594), 'A1': (0.594, 0.841), 'A0': (0.841, 1.189)}
FIT = 'fit'
# What most printers leave white, and the length of the marks that show the board's area.
_EDGE, _CROP_MARK, _HAIRLINE = 0.005, 0.003, 0.00015
# Detectors want at least one module of white round a marker; half a module for the scissors.
_QUIET_MODULES = 1.5
_TEXT_HEIGHT, _LINE_HEIGHT, _WIDEST_LETTER = 0.002, 0.0034, 0.002
_RULER_HEIGHT, _LONGEST_RULER = 0.009, 0.2
_NARROWEST = 0.08
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MOST_PIXELS = 400_000_000


@dataclass(frozen=True, slots=True)
class Bar:
    """A filled rectangle: a line of the ruler or a crop mark."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Text:
    """ASCII text; x and y are the left end of its base line."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """
    A printed page (metres): ``inks`` stand in the page's coordinates.

    ``ruler`` is the length of its ruler, ``text_height`` that of its capital letters.
    """

    name: str
    width: float
    height: float
    inks: tuple[Ink, ...]
    bars: tuple[Bar, ...]
    texts: tuple[Text, ...]
    ruler: float
    text_height: float = _TEXT_HEIGHT


def lay_out(board: Board, page: str, caption: Sequence[str]) -> Page:
    """
    Place a board on a page: one of PAGES, upright or turned as it fits, or FIT.

    ``caption`` is printed below it, with a ruler. Raises PrintError for a page the board does not
    fit on (the text names one it does) and for a board that is not flat.
    """
    inks = tuple(_on_paper(ink, board) for ink in board_inks(board))
    content = _content(inks, board)
    width, height = content[2] - content[0], content[3] - content[1]
    if page == FIT:
        found = (max(width + 2 * (_EDGE + _CROP_MARK), _NARROWEST), 0.0)
        found = (found[0], _height_for(found[0], height, caption))
    else:
        place = _place_on(PAGES[page], width, height, caption)
        if place is None:
            raise PrintError(
                f'the board needs {_millimetres(width)} x {_millimetres(height)} mm with its '
                f'white border and does not fit on {page} with ruler and text; allowed: '
                f'{_pages_for(width, height, caption)}')
        found = place
    return _compose(page, found, inks, content, board, caption)


def to_pixels(page: Page, per_metre: int) -> Array:
    """
    Return a page as an image (h x w, uint8, 0 and 255), ``per_metre`` pixels to the metre.

    A pixel is black when its centre is: edges are at most half a pixel off. Raises PrintError for
    a page of too many pixels.
    """
    height, width = round(page.height * per_metre), round(page.width * per_metre)
    if height * width > _MOST_PIXELS:
        raise PrintError(f'{width} x {height} pixels are too many; allowed: a smaller --dpi, or '
                         'a PDF')
    image = np.full((height, width), 255, np.uint8)
    for ink in page.inks:
        _draw_ink(image, ink, per_metre)
    for bar in page.bars:
        rows, columns = ((np.ceil(np.array(ends) * per_metre - 0.5)).astype(int)
                         for ends in ((bar.top, bar.bottom), (bar.left, bar.right)))
        image[rows[0]:max(rows[1], rows[0] + 1), columns[0]:max(columns[1], columns[0] + 1)] = 0
    scale = page.text_height * per_metre / cv2.getTextSize('H', _FONT, 1.0, 1)[0][1]
    for text in page.texts:
        at = (round(text.x * per_metre), round(text.y * per_metre))
        thickness = max(1, round(page.text_height * per_metre / 10))
        cv2.putText(image, text.text, at, _FONT, scale, 0, thickness, cv2.LINE_8)
    # OpenCV 5 smooths letters, whatever it is asked for.
    return cv2.threshold(image, 190, 255, cv2.THRESH_BINARY)[1]


def modules_of(ink: Ink) -> list[FloatArray]:
    """Return the outlines (each 4 x 2, metres) of an ink's black runs of modules, row by row."""
    rows, columns = ink.darkness.shape
    outlines = []
    for row in range(rows):
        edges = np.flatnonzero(np.diff(np.concatenate([[0.0], ink.darkness[row], [0.0]])))
        for start, end in edges.reshape(-1, 2):
            shares = np.array([[start, row], [end, row], [end, row + 1], [start, row + 1]])
            outlines.append(ink.corner + shares[:, :1] / columns * ink.right
                            + shares[:, 1:] / rows * ink.down)
    return outlines


def _on_paper(ink: Ink, board: Board) -> Ink:
    """Return an ink in metres from the board's upper left corner, y down."""
    left, _, _, top = board.area
    turn = np.array([1.0, -board.front])
    return replace(ink, corner=(ink.corner - (left, top)) * turn, right=ink.right * turn,
                   down=ink.down * turn)


def _content(inks: Sequence[Ink], board: Board) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of the board with its white border."""
    x0, y0, x1, y1 = board.area
    markers = [ink for ink in inks if ink.darkness.size > 1]    # not the squares of a chessboard
    points = np.array([ink.corner + a * ink.right + b * ink.down for ink in markers
                       for a in (0, 1) for b in (0, 1)])
    quiet = _QUIET_MODULES * max(float(np.hypot(*ink.right)) / ink.darkness.shape[1]
                                 for ink in markers)
    low = np.minimum(points.min(0) - quiet, 0.0)
    high = np.maximum(points.max(0) + quiet, (x1 - x0, abs(y1 - y0)))
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _height_for(page_width: float, height: float, caption: Sequence[str]) -> float:
    """Return how high a page of that width must be (metres) for a board with its caption."""
    lines = len(_wrapped(caption, page_width))
    return 2 * (_EDGE + _CROP_MARK) + height + _RULER_HEIGHT + (lines + 1) * _LINE_HEIGHT


def _place_on(size: tuple[float, float], width: float, height: float, caption: Sequence[str]
              ) -> tuple[float, float] | None:
    """Return the page's width and height, upright or turned; None when the board is larger."""
    for across, along in (size, size[::-1]):
        if (width + 2 * (_EDGE + _CROP_MARK) <= across
                and _height_for(across, height, caption) <= along):
            return across, along
    return None


def _pages_for(width: float, height: float, caption: Sequence[str]) -> str:
    larger = [name for name, size in PAGES.items()
              if _place_on(size, width, height, caption) is not None]
    return f'{larger[0]}, or {FIT}' if larger else f'{FIT} (a page as large as the board)'


def _compose(name: str, size: tuple[float, float], inks: Sequence[Ink],
             content: tuple[float, float, float, float], board: Board, caption: Sequence[str]
             ) -> Page:
    left, top, right, bottom = content
    shift = np.array([(size[0] - (right - left)) / 2 - left, _EDGE + _CROP_MARK - top])
    moved = tuple(replace(ink, corner=ink.corner + shift) for ink in inks)
    x0, y0, x1, y1 = board.area
    area = (shift[0], shift[1], shift[0] + x1 - x0, shift[1] + abs(y1 - y0))
    white = (left + shift[0], top + shift[1], right + shift[0], bottom + shift[1])
    begin = white[3] + _CROP_MARK
    bars, numbers, ruler = _ruler(size[0], begin)
    start = begin + _RULER_HEIGHT + _LINE_HEIGHT
    lines = [*_wrapped(caption, size[0])]
    texts = [Text(_EDGE + _CROP_MARK, start + index * _LINE_HEIGHT, line)
             for index, line in enumerate(lines)]
    return Page(name, *size, moved, (*_crop_marks(area, white), *bars), (*numbers, *texts), ruler)


def _crop_marks(area: tuple[float, ...], white: tuple[float, ...]) -> list[Bar]:
    """Mark the four sides of the board's area outside its white border."""
    half, marks = _HAIRLINE / 2, []
    for x in (area[0], area[2]):
        for begin in (white[1] - _CROP_MARK, white[3]):
            marks.append(Bar(x - half, begin, x + half, begin + _CROP_MARK * 0.8))
    for y in (area[1], area[3]):
        for begin in (white[0] - _CROP_MARK, white[2] + _CROP_MARK * 0.2):
            marks.append(Bar(begin, y - half, begin + _CROP_MARK * 0.8, y + half))
    return marks


def _ruler(page_width: float, top: float) -> tuple[list[Bar], list[Text], float]:
    """Return bars, numbers and length of a ruler as long as the page allows, in centimetres."""
    left = _EDGE + _CROP_MARK
    centimetres = math.floor(min(page_width - 2 * left, _LONGEST_RULER) * 100 + 1e-9)
    base, half = top + 0.005, _HAIRLINE / 2
    bars = [Bar(left - half, base - half, left + centimetres / 100 + half, base + half)]
    for tick in range(centimetres * 10 + 1):
        x = left + tick / 1000
        length = 0.0035 if tick % 10 == 0 else 0.0025 if tick % 5 == 0 else 0.0015
        bars.append(Bar(x - half, base - length, x + half, base))
    numbers = [Text(left + number / 100, base + 0.003, f'{number * 10}{" mm" * (number == 0)}')
               for number in range(centimetres + 1) if number % 2 == 0]
    return bars, numbers, centimetres / 100


def _wrapped(caption: Sequence[str], page_width: float) -> list[str]:
    letters = max(20, int((page_width - 2 * (_EDGE + _CROP_MARK)) / _WIDEST_LETTER))
    plain = (line.encode('ascii', 'replace').decode() for line in caption)
    return [part for line in plain for part in textwrap.wrap(line, letters)]


def _draw_ink(image: Array, ink: Ink, per_metre: int) -> None:
    """Blacken the pixels whose centre lies in one of an ink's black modules."""
    ends = np.array([ink.corner + a * ink.right + b * ink.down for a in (0, 1) for b in (0, 1)])
    low = np.maximum(np.floor(ends.min(0) * per_metre).astype(int), 0)
    high = np.ceil(ends.max(0) * per_metre).astype(int) + 1
    part = image[low[1]:high[1], low[0]:high[0]]
    x = (np.arange(part.shape[1]) + low[0] + 0.5)[np.newaxis, :] / per_metre - ink.corner[0]
    y = (np.arange(part.shape[0]) + low[1] + 0.5)[:, np.newaxis] / per_metre - ink.corner[1]
    inverse = np.linalg.inv(np.column_stack([ink.right, ink.down]))
    rows, columns = ink.darkness.shape
    column, row = (np.floor((inverse[i, 0] * x + inverse[i, 1] * y) * count).astype(int)
                   for i, count in ((0, columns), (1, rows)))
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    black = ink.darkness[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)] > 0.5
    part[inside & black] = 0


def _millimetres(metres: float) -> str:
    return f'{metres * 1000:.0f}'
