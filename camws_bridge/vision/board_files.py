"""
Board files: our YAML, aruco_opencv's board_descriptions.yaml, and CSV (docs/boards.md).

Which of them a file is follows from its name (``.csv``) and from what it holds: a mapping is ours,
a list is aruco_opencv's.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from camws_bridge.models import FloatArray
from camws_bridge.vision.board_entries import BoardError, Entries, shown
from camws_bridge.vision.boards import (
    Board, board_of_markers, make_board, make_grid, marker_square)
from camws_bridge.vision.detection import get_dictionary
from camws_bridge.vision.geometry import from_xyz_rpy, transform_points
from camws_bridge.vision.text_files import FileError, load_yaml, read_text

_MOST_MARKERS = 10_000
_NUMBERS = ('x', 'y', 'z', 'roll', 'pitch', 'yaw')
# Columns of a CSV file without a header, by their number.
_COLUMNS = {columns: tuple(names) for columns, names in (
    (4, ('id', 'x', 'y', 'z')), (5, ('id', 'x', 'y', 'z', 'length')),
    (7, ('id', *_NUMBERS)), (8, ('id', *_NUMBERS, 'length')))}


@dataclass(frozen=True, slots=True)
class BoardDefaults:
    """
    What a board file may leave out.

    ``dictionary`` is OpenCV's name; ``length`` the side (metres) of markers in a CSV file without
    that column, ``lengths`` of some of them by id.
    """

    dictionary: str
    length: float = 0.05
    lengths: Mapping[int, float] = field(default_factory=dict)


def read_board(path: str, defaults: BoardDefaults, name: str = '') -> Board:
    """
    Read a board file; ``name`` picks one of the boards in aruco_opencv's file.

    Raises BoardError, with the path and the line or entry in its text, for anything that is not
    a board.
    """
    try:
        text = read_text(path)
        if Path(path).suffix.lower() == '.csv':
            _refuse_name(name)
            return parse_csv(text, defaults)
        return make_board_of_yaml(load_yaml(text), defaults, name)
    except (FileError, BoardError) as error:
        raise BoardError(f"board file '{path}': {error}") from error


def make_board_of_yaml(content: Any, defaults: BoardDefaults, name: str = '') -> Board:
    """Make a board of what a YAML file holds, ours or aruco_opencv's; raises BoardError."""
    if isinstance(content, list):
        return _make_one_of(content, defaults, name)
    _refuse_name(name)
    return make_board(content, defaults.dictionary)


def parse_csv(text: str, defaults: BoardDefaults) -> Board:
    """
    Make a board of CSV text: ``id,x,y,z[,roll,pitch,yaw][,length]``, metres and radians.

    x, y, z is the marker's centre; roll, pitch, yaw turn it about the board's fixed axes. With a
    header the columns may stand in any order. Empty lines and those that begin with ``#`` are
    skipped. Raises BoardError with the line.
    """
    columns: tuple[str, ...] | None = None
    ids: list[int] = []
    corners: list[FloatArray] = []
    for line, cells in _rows(text):
        if columns is None:
            columns, is_header = _columns(cells, f'line {line}')
            if is_header:
                continue
        if len(cells) != len(columns):
            raise BoardError(f'line {line}: it has {len(cells)} values; allowed: '
                             f'{len(columns)} ({",".join(columns)})')
        marker_id, square = _marker(dict(zip(columns, cells)), f'line {line}', defaults)
        if marker_id in ids:
            raise BoardError(f'line {line}: marker id {marker_id} stands twice on the board')
        ids.append(marker_id)
        corners.append(square)
    if not ids:
        raise BoardError('it holds no marker; allowed: lines of id,x,y,z[,roll,pitch,yaw]'
                         '[,length]')
    return board_of_markers(ids, corners, _dictionary(defaults.dictionary))


# -- aruco_opencv -----------------------------------------------------------------------------


def _make_one_of(content: list[Any], defaults: BoardDefaults, name: str) -> Board:
    """
    Make one of the boards of aruco_opencv's file.

    Its boards are OpenCV's GridBoard (since OpenCV 4.6): x to the right, y down, z into the
    board; the origin is the top left corner of the first marker or the centre.
    """
    boards = [Entries(entry, f'[{index}]') for index, entry in enumerate(content)]
    names = [entries.text('name') for entries in boards]
    if not names:
        raise BoardError('it is an empty list; allowed: at least one board')
    for index, own in enumerate(names):
        if own in names[:index]:
            raise BoardError(f'[{index}]: name is {shown(own)} like that of another board')
    chosen = name or (names[0] if len(names) == 1 else '')
    if chosen not in names:
        asked = f'board.name is {shown(name)}' if name else 'it holds several boards'
        raise BoardError(f'{asked}; allowed as board.name: '
                         f'{" or ".join(shown(own) for own in names[:20])}')
    return [_make_grid_board(entries, defaults) for entries, own in zip(boards, names)
            if own == chosen][0]


def _make_grid_board(entries: Entries, defaults: BoardDefaults) -> Board:
    columns, rows = entries.count('markers_x'), entries.count('markers_y')
    length, gap = entries.length('marker_size'), entries.length('separation')
    first = entries.count('first_id', least=0)
    at_center = entries.flag('frame_at_center', default=None)
    # aruco_opencv has one dictionary for all, its parameter marker_dict; here a board may name
    # its own in the same way.
    dictionary = _dictionary(entries.text('marker_dict', defaults.dictionary))
    entries.check_all_used()
    ids, corners = make_grid(columns, rows, length, gap, first, dictionary)
    width, height = columns * (length + gap) - gap, rows * (length + gap) - gap
    turned = (corners - (0, height, 0)) * (1, -1, 1)
    if at_center:
        turned -= (width / 2, height / 2, 0)
    return board_of_markers(ids, list(turned), dictionary)


def _dictionary(name: str) -> str:
    """Return OpenCV's name of a dictionary; aruco_opencv leaves DICT_ out."""
    full = name if name.startswith('DICT_') else f'DICT_{name}'
    try:
        get_dictionary(full)
    except ValueError as error:
        raise BoardError(f'dictionary: {error}') from error
    return full


def _refuse_name(name: str) -> None:
    if name:
        raise BoardError(f'board.name is {shown(name)}, but it holds one board without a name; '
                         'allowed: no board.name')


# -- CSV --------------------------------------------------------------------------------------


def _rows(text: str) -> list[tuple[int, list[str]]]:
    """Return line numbers and cells of all lines that hold something."""
    reader = csv.reader(text.splitlines(), skipinitialspace=True, strict=True)
    rows = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells) and not cells[0].startswith('#'):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise BoardError(f'line {reader.line_num}: it is not CSV: {error}') from error
    if len(rows) > _MOST_MARKERS:
        raise BoardError(f'it has {len(rows)} lines; allowed: at most {_MOST_MARKERS}')
    return rows


def _columns(cells: Sequence[str], where: str) -> tuple[tuple[str, ...], bool]:
    """Return the names of the columns and whether the first line is a header that says them."""
    if _number(cells[0]) is not None:
        if len(cells) not in _COLUMNS:
            raise BoardError(
                f'{where}: it has {len(cells)} values; allowed: '
                + ' or '.join(f'{n} ({",".join(names)})' for n, names in _COLUMNS.items()))
        return _COLUMNS[len(cells)], False
    names = tuple(cell.lower() for cell in cells)
    if len(set(names)) < len(names) or set(names) not in map(set, _COLUMNS.values()):
        raise BoardError(f'{where}: the header is {shown(",".join(cells))}; allowed: '
                         'id,x,y,z[,roll,pitch,yaw][,length] in any order')
    return names, True


def _marker(cells: Mapping[str, str], where: str, defaults: BoardDefaults
            ) -> tuple[int, FloatArray]:
    try:
        marker_id = int(cells['id'])
    except ValueError:
        marker_id = -1
    if marker_id < 0:
        raise BoardError(f'{where}: id is {shown(cells["id"])}; allowed: a whole number from 0 on')
    entries = Entries({name: _number(text) if _number(text) is not None else text
                       for name, text in cells.items() if name != 'id'}, where)
    pose = [float(entries.numbers(name, (), default=0.0)) for name in _NUMBERS]
    length = entries.length('length', defaults.lengths.get(marker_id, defaults.length))
    return marker_id, transform_points(from_xyz_rpy(pose), marker_square(length))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
