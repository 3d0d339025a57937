"""What the README says is true."""
from pathlib import Path
import re
import subprocess
import sys

from camws_bridge.settings import PARAMETERS
from camws_bridge.vision.board_files import BoardDefaults, read_board
from camws_bridge.websockets.stream_status import CATALOGUE

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()


def test_the_table_of_streams_is_the_catalogue():
    rows = re.findall(r'^\| `(\w+)` \|', README, re.MULTILINE)
    assert rows == list(CATALOGUE)


def test_files_and_parameters_it_names_exist():
    for path in re.findall(r'\]\((?!http)([^)#]+)\)', README):
        assert (ROOT / path).exists(), path
    groups = 'jpeg|markers|board|robot|static|tf|tls|auth|depth'
    for name in re.findall(rf'`((?:{groups})\.\w+)', README):
        assert name in PARAMETERS, name


def test_every_board_file_is_one():
    for path in (ROOT / 'config/boards').glob('*.yaml'):
        assert read_board(str(path), BoardDefaults('DICT_5X5_100')).marker_ids


def test_the_python_example_prints_poses(demo_bridge):
    code = re.search(r'```python\n(.*?)```', README, re.DOTALL)[1]
    code = code.replace('ws://127.0.0.1:8080', demo_bridge.url.replace('http', 'ws', 1))
    process = subprocess.Popen([sys.executable, '-u', '-c', code], stdout=subprocess.PIPE,
                               text=True)
    try:
        assert process.stdout.readline().startswith("camera on the board: {'x': ")
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
