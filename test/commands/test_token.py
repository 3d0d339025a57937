"""``camws_bridge token``."""
import subprocess
import sys

import pytest

from camws_bridge.commands import table
from camws_bridge.commands.token import run
from camws_bridge.tokens import digest_of, parse_line, read_file


def test_the_token_is_printed_once_with_its_line(capsys):
    assert run(['alice', '--streams', 'color,transforms_*']) == 0
    secret, line = capsys.readouterr().out.split()
    token = parse_line(line)
    assert (token.name, token.streams) == ('alice', ('color', 'transforms_*'))
    assert token.digest == digest_of(secret) and secret not in line


def test_lines_are_appended_to_a_file_that_only_its_owner_reads(tmp_path, capsys):
    path = tmp_path / 'tokens'
    secrets = []
    for name in ('alice', 'bob'):
        assert run([name, '--file', str(path)]) == 0
        secrets.append(capsys.readouterr().out.strip())
    assert [token.digest for token in read_file(str(path))] == list(map(digest_of, secrets))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_last_line_without_its_end_is_not_spoiled(tmp_path):
    path = tmp_path / 'tokens'
    path.write_text(f'alice:{"0" * 64}')
    assert run(['bob', '--file', str(path)]) == 0
    assert [token.name for token in read_file(str(path))] == ['alice', 'bob']


@pytest.mark.parametrize('arguments,reason', [
    (['al:ice'], 'the name is not allowed'), (['alice', '--streams', 'a b'], "streams 'a b'"),
    (['alice', '--streams', ','], "streams ''"), (['alice', '--file', '/none/tokens'], 'No such')])
def test_wrong_arguments_are_one_line_and_no_token(arguments, reason, capsys):
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == '' and reason in err and err.count('\n') == 1


@pytest.mark.parametrize('text,reason', [('broken', 'line 1'), (f'alice:{"0" * 64}', 'already')])
def test_a_file_that_is_broken_or_has_the_name_is_left_alone(tmp_path, capsys, text, reason):
    path = tmp_path / 'tokens'
    path.write_text(text)
    assert run(['alice', '--file', str(path)]) == 2
    assert reason in capsys.readouterr().err and path.read_text() == text


def test_the_executable_knows_it_and_needs_no_ros():
    code = ('import sys; sys.modules["rclpy"] = None; from camws_bridge.main import main; '
            'sys.exit(main(["token", "alice"]))')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert parse_line(done.stdout.splitlines()[1]).name == 'alice'


def test_arguments_of_ros_are_no_command():
    assert table.is_command(['token', 'x']) and table.is_command(['--help'])
    assert not table.is_command([]) and not table.is_command(['--ros-args', '-p', 'port:=0'])
