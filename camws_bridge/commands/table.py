"""
The sub-commands of ``camws_bridge``: a name, its module, what it does.

A module here has ``run(arguments) -> exit code`` and is imported only when its command is called:
the bridge does not pay for them, and they run without ROS.
"""
from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    'board': ('camws_bridge.commands.board', 'print a board to scale, as PDF or PNG'),
    'check-board': ('camws_bridge.commands.check_board', 'say what a picture shows of a board'),
    'token': ('camws_bridge.commands.token', 'make a token for a client'),
}
_HELP = ('help', '-h', '--help')


def is_command(arguments: Sequence[str]) -> bool:
    """Tell whether arguments (without the program's name) are for a command, not for the node."""
    return bool(arguments) and arguments[0] in (*COMMANDS, *_HELP)


def run(arguments: Sequence[str]) -> int:
    """Run the command that the first argument names; return the exit code."""
    name, *others = arguments
    if name in _HELP:
        print(usage())
        return 0
    code: int = import_module(COMMANDS[name][0]).run(others)
    return code


def usage() -> str:
    """Return the help text of the executable."""
    lines = [f'  camws_bridge {name:24} {text}' for name, (_, text) in COMMANDS.items()]
    return '\n'.join([
        'usage:', f'  camws_bridge {"[--ros-args ...]":24} start the bridge', *lines, '',
        'camws_bridge COMMAND --help tells the options of a command.'])
