import subprocess
import sys

from builders import ROOT
import pytest

from camws_bridge.commands import table
from camws_bridge.main import main

BLOCKED = '''
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('rclpy', 'tornado'):
            raise ImportError(f'{name} is blocked')

sys.meta_path.insert(0, Block())
from camws_bridge.main import main
sys.exit(main(sys.argv[1:]))
'''


def test_options_are_for_the_node_and_names_for_commands():
    assert all(table.is_command([name]) for name in (*table.COMMANDS, '--help', 'boards'))
    for arguments in ([], ['--ros-args', '-p', 'port:=0'], ['--ros-args', 'board']):
        assert not table.is_command(arguments)


def test_a_misspelt_command_starts_nothing(capsys):
    assert main(['boards', '--file', 'board.yaml']) == 2
    assert "'boards'; there are: board, check-board, token" in capsys.readouterr().err


def test_help_lists_every_command(capsys):
    assert main(['--help']) == 0
    said = capsys.readouterr().out
    assert all(f'camws_bridge {name} ' in said for name in table.COMMANDS)


@pytest.mark.parametrize('name', table.COMMANDS)
def test_every_command_runs_without_ros_and_a_server(name):
    done = subprocess.run([sys.executable, '-c', BLOCKED, name, '--help'], cwd=ROOT, text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f'usage: camws_bridge {name}' in done.stdout
