"""The options that name a board, and files written by commands."""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from camws_bridge.settings import Settings
from camws_bridge.vision.board_files import BoardDefaults, read_board
from camws_bridge.vision.boards import Board

# The exit code for an argument or a file that cannot be used (argparse's, too).
WRONG = 2


class CommandError(Exception):
    """What ends a command; the text is for its user."""


def add_board_options(parser: ArgumentParser) -> None:
    """Add what the parameters of the bridge say about a board file."""
    markers = Settings().markers
    parser.add_argument('--name', default='', help='which board of a file that holds several')
    parser.add_argument('--dictionary', default=markers.dictionary,
                        help='of a file that names none (default: %(default)s)')
    parser.add_argument('--length', type=float, default=markers.length_m, metavar='METRES',
                        help='side of markers in a CSV file without lengths (default: '
                        '%(default)s)')


def board_of(path: str, options: Namespace) -> Board:
    """Return the board in a file; raises BoardError."""
    return read_board(path, BoardDefaults(options.dictionary, options.length), options.name)


def write_file(path: str, data: bytes) -> None:
    """Write a file; raises CommandError."""
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise CommandError(f"cannot write '{path}': {error.strerror}") from error
