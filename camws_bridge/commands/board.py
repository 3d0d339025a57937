"""``camws_bridge board OUT --file FILE``: print a board to scale."""
from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
import sys

from camws_bridge.commands.board_options import (
    add_board_options, board_of, CommandError, write_file, WRONG)
from camws_bridge.commands.board_pdf import to_pdf
from camws_bridge.vision.board_inks import PrintError
from camws_bridge.vision.board_print import FIT, lay_out, Page, PAGES, to_pixels
from camws_bridge.vision.boards import Board, BoardError
from camws_bridge.vision.encoding import encode_bilevel_png

_LEAST_DPI, _MOST_DPI = 72, 4800


def run(arguments: Sequence[str]) -> int:
    """Print the board; return 0, or 2 when that cannot be done."""
    options = _parser().parse_args(arguments)
    try:
        suffix = Path(options.out).suffix.lower()
        if suffix not in ('.pdf', '.png'):
            raise CommandError(f"'{options.out}' is not allowed; allowed: a name that ends in "
                               '.pdf or .png')
        board = board_of(options.file, options)
        title = _title(options)
        page = lay_out(board, options.page, caption(board, title))
        write_file(options.out, to_pdf(page, title) if suffix == '.pdf'
                   else _png(page, options.dpi))
    except (BoardError, CommandError, PrintError) as error:
        print(f'camws_bridge board: {error}', file=sys.stderr)
        return WRONG
    print(f'{options.out}: {page.width * 1000:.0f} x {page.height * 1000:.0f} mm ({page.name}). '
          f'Print it at 100 % ("actual size") and measure: the ruler is '
          f'{page.ruler * 1000:.0f} mm long.')
    return 0


def caption(board: Board, title: str) -> list[str]:
    """Return what is printed below a board: whoever finds the sheet can describe it again."""
    left, bottom, right, top = board.area
    axes = 'y up, z out of the sheet' if board.front > 0 else 'y down, z into the sheet'
    lengths = sorted({round(float(((quad[1] - quad[0]) ** 2).sum() ** 0.5) * 1000, 3)
                      for quad in board.corners})
    sides = ', '.join(f'{length:g}' for length in lengths[:6]) + ', ...' * (len(lengths) > 6)
    lines = [f'{title}: {board.dictionary}, {_ids(board.marker_ids)}, side {sides} mm']
    if board.charuco is not None:
        square = board.charuco.detector.getBoard().getSquareLength() * 1000
        lines.append(f'ChArUco, squares of {square:g} mm')
    lines.append(f'Marks: the area {(right - left) * 1000:g} x {abs(top - bottom) * 1000:g} mm. '
                 f'Origin {-left * 1000:g} mm from its left, {abs(bottom) * 1000:g} mm from its '
                 f'lower edge; x right, {axes}.')
    lines.append('Print at 100 % and measure the ruler.')
    return lines


def _ids(ids: Sequence[int]) -> str:
    if len(ids) > 2 and list(ids) == list(range(ids[0], ids[0] + len(ids))):
        return f'ids {ids[0]}-{ids[-1]}'
    return f'ids {", ".join(map(str, ids[:24]))}{", ..." * (len(ids) > 24)}'


def _title(options: Namespace) -> str:
    name = Path(options.file).name
    return f'{name}, {options.name}' if options.name else name


def _png(page: Page, dpi: int) -> bytes:
    per_metre = round(dpi / 0.0254)
    return encode_bilevel_png(to_pixels(page, per_metre), per_metre)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog='camws_bridge board', description=(
        'Print a board to scale, with a ruler and its parameters below it.'))
    parser.add_argument('out', help='file to write: .pdf or .png')
    parser.add_argument('--file', required=True, help='board file (docs/boards.md)')
    add_board_options(parser)
    parser.add_argument('--page', choices=(*PAGES, FIT), default='A4',
                        help='upright or turned, as it fits (default: %(default)s)')
    parser.add_argument('--dpi', type=_dpi, default=600,
                        help='dots to the inch of a PNG (default: %(default)s)')
    return parser


def _dpi(text: str) -> int:
    if not text.isdecimal() or not _LEAST_DPI <= int(text) <= _MOST_DPI:
        raise ArgumentTypeError(f"'{text}' is not allowed; allowed: a whole number from "
                                f'{_LEAST_DPI} to {_MOST_DPI}')
    return int(text)
