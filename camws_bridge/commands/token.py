"""``camws_bridge token NAME``: make a token for a client."""
from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
import os
from pathlib import Path
import sys

from camws_bridge.parameter import SettingsError
from camws_bridge.tokens import (
    check_name, check_patterns, digest_of, line_of, make_token, read_file, Token)

_WRONG = 2


def run(arguments: Sequence[str]) -> int:
    """Print a new token, once, and its line for the file; return 0, or 2 for a wrong argument."""
    options = _parser().parse_args(arguments)
    streams = tuple(options.streams.split(',')) if options.streams else ()
    secret = make_token()
    token = Token(options.name, digest_of(secret), streams)
    try:
        check_name(token.name)
        check_patterns(streams)
        if options.file:
            _append(Path(options.file), token)
    except (OSError, ValueError) as error:      # a SettingsError is one
        print(f'camws_bridge token: {error}', file=sys.stderr)
        return _WRONG
    print(secret)
    if options.file:
        print(f'{options.file}: a line for {token.name} was added. The token above is shown this '
              'once.', file=sys.stderr)
    else:
        print('The token above is shown this once. The line for the file of auth.tokens_file:',
              file=sys.stderr)
        print(line_of(token))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog='camws_bridge token',
        description='Make a token for a client. The token is printed once; the file of '
        'parameter auth.tokens_file holds its digest only. A bridge that runs notices the change.')
    parser.add_argument('name', metavar='NAME', help='whose it is (letters, digits and ._@+-)')
    parser.add_argument('--streams', metavar='PATTERNS', default='',
                        help='streams it is for, separated by commas, such as '
                        'color,transforms_*; camera_info and metrics count as streams; default: '
                        'everything')
    parser.add_argument('--file', metavar='FILE', default='',
                        help='append the line to this file, which is made if there is none')
    return parser


def _append(path: Path, token: Token) -> None:
    """Append a line; raises SettingsError for a file that is broken or has that name already."""
    if path.exists():
        if any(known.name == token.name for known in read_file(str(path))):
            raise SettingsError(f"'{path}' has a token named '{token.name}' already")
        text = path.read_text(encoding='utf-8-sig')
    else:
        text = ''
    gap = '' if not text or text.endswith('\n') else '\n'
    # Only its owner may read a new file: digests of tokens that people made up can be guessed.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, 'a', encoding='utf-8') as file:
        file.write(f'{gap}{line_of(token)}\n')
