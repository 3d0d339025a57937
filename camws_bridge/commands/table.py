"""
The sub-commands of ``camws_bridge``: a name, its module, what it does.

A module here has ``run(arguments) -> exit code`` and is imported only when its command is called:
the bridge does not pay for them, and they run without ROS.
"""
from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
import sys

COMMANDS = {
    'board': ('camws_bridge.commands.board', 'print a board to scale, as PDF or PNG'),
    'check-board': ('camws_bridge.commands.check_board', 'say what a picture shows of a board'),
    'token': ('camws_bridge.commands.token', 'make a token for a client'),
}
_WRONG = 2
_HELP = ('help', '-h', '--help')


def is_command(arguments: Sequence[str]) -> bool:
    """Tell whether arguments (without the program's name) are for a command, not for the node."""
    # What is neither an option nor a command is the misspelt name of one: no node shall start.
    return bool(arguments) and (arguments[0] in _HELP or not arguments[0].startswith('-'))


def run(arguments: Sequence[str]) -> int:
    """Run the command that the first argument names; return the exit code (2: there is none)."""
    name, *others = arguments
    if name in _HELP:
        print(usage())
        return 0
    if name not in COMMANDS:
        print(f"camws_bridge: there is no command '{name}'; there are: {', '.join(COMMANDS)}",
              file=sys.stderr)
        return _WRONG
    code: int = import_module(COMMANDS[name][0]).run(others)
    return code


def usage() -> str:
    """Return the help text of the executable."""
    lines = [f'  camws_bridge {name:24} {text}' for name, (_, text) in COMMANDS.items()]
    return '\n'.join([
        'usage:', f'  camws_bridge {"[--ros-args ...]":24} start the bridge', *lines, '',
        'camws_bridge COMMAND --help tells the options of a command.'])
