"""Every example in docs/boards.md is a board, and every error it shows is the error that comes."""
from pathlib import Path
import re

import pytest

from camws_bridge.commands.table import COMMANDS
from camws_bridge.vision.board_files import BoardDefaults, read_board
from camws_bridge.vision.boards import BoardError

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / 'docs/boards.md').read_text()
DEFAULTS = BoardDefaults('DICT_5X5_100')
EXAMPLES = re.findall(r'```(yaml|csv)\n(.*?)```', TEXT, re.DOTALL)
SIZES = [20, 17, 4, None, 3]


def test_there_is_an_example_of_each_format():
    assert [kind for kind, _ in EXAMPLES] == ['yaml'] * 4 + ['csv']


@pytest.mark.parametrize(('number', 'markers'), list(enumerate(SIZES)))
def test_examples_are_read(tmp_path, number, markers):
    kind, text = EXAMPLES[number]
    path = tmp_path / f'board.{kind}'
    path.write_text(text)
    if markers is None:
        for name, count in (('table', 6), ('gripper', 4)):
            assert len(read_board(str(path), DEFAULTS, name).marker_ids) == count
    else:
        assert len(read_board(str(path), DEFAULTS).marker_ids) == markers


def test_the_error_of_a_csv_file_is_the_one_shown(tmp_path):
    said = re.search(r"board file 'board.csv': (.*)", TEXT)[1]
    path = tmp_path / 'board.csv'
    path.write_text('id,x,y,z,roll,pitch,yaw\n1,0,0,0,0,0,0\n2,1,0,0,0,0,left\n')
    with pytest.raises(BoardError) as caught:
        read_board(str(path), DEFAULTS)
    assert str(caught.value) == f"board file '{path}': {said}"


def test_the_commands_it_names_exist():
    named = set(re.findall(r'camws_bridge ([a-z-]+)', TEXT))
    assert named and named <= set(COMMANDS)
