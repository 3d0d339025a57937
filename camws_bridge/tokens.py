"""
Tokens: what a client shows to come in, and the file that holds their digests.

One token per line, ``name:sha256[:streams]``: the SHA-256 digest in hexadecimal, and glob
patterns of the streams it may read, separated by commas; none for all of them. Empty lines and
those that begin with ``#`` mean nothing.
"""
from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
import hashlib
import hmac
from pathlib import Path
import re
import secrets

from camws_bridge.parameter import SettingsError

_NAME = re.compile(r'[\w.@+-]{1,64}')
_DIGEST = re.compile(r'[0-9a-fA-F]{64}')
_PATTERN = re.compile(r'[\w/*?\[\]!-]{1,64}')
# 32 random bytes: nobody guesses that, at any rate.
_TOKEN_BYTES = 32
# Nothing this long (128 bits of base64) is worth guessing, so it need not be protected from it.
UNGUESSABLE = 22
# Read as a whole: whatever is named by mistake must not fill the memory.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Token:
    """Who may come in (its digest, never the token itself) and what for: no patterns: all."""

    name: str
    digest: bytes
    streams: tuple[str, ...] = ()

    def allows(self, name: str) -> bool:
        """Tell whether a stream (or ``camera_info`` or ``metrics``) may be read."""
        return not self.streams or any(fnmatchcase(name, pattern) for pattern in self.streams)


# What everybody holds where no token is needed.
EVERYBODY = Token('', b'')


def digest_of(token: str) -> bytes:
    """Return the digest by which a token is known."""
    return hashlib.sha256(token.encode('utf-8', 'surrogatepass')).digest()


def make_token() -> str:
    """Return a new token that nobody can guess; its characters may stand in a URL."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def line_of(token: Token) -> str:
    """Return the line of the file for a token."""
    streams = ':' + ','.join(token.streams) if token.streams else ''
    return f'{token.name}:{token.digest.hex()}{streams}'


def parse_line(line: str) -> Token:
    """Return the token of a line; raises ValueError with what is wrong in it."""
    name, _, rest = line.strip().partition(':')
    digest, colon, streams = rest.partition(':')
    check_name(name)
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"what follows '{name}:' is no SHA-256 digest (64 hex digits)")
    patterns = tuple(pattern.strip() for pattern in streams.split(',')) if colon else ()
    check_patterns(patterns)
    return Token(name, bytes.fromhex(digest), patterns)


def check_name(name: str) -> None:
    """Raise ValueError for what is no name of a token."""
    if not _NAME.fullmatch(name):
        raise ValueError('the name is not allowed; allowed: 1 to 64 letters, digits and ._@+-')


def check_patterns(patterns: tuple[str, ...]) -> None:
    """Raise ValueError for what is no pattern of streams."""
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise ValueError(f'streams {pattern[:64]!r} is not allowed; allowed: names with *, ? '
                             'and [...], separated by commas, such as color,transforms_*')


def parse_tokens(text: str) -> tuple[Token, ...]:
    """Return the tokens of a file's text; raises ValueError that names the line."""
    tokens: dict[str, Token] = {}
    for number, line in enumerate(text.split('\n'), 1):
        if not line.strip() or line.lstrip().startswith('#'):
            continue
        try:
            token = parse_line(line)
            if token.name in tokens:
                raise ValueError(f"the name '{token.name}' has a line already")
        except ValueError as error:
            # Never the line itself: somebody may have written the token into it.
            raise ValueError(f'line {number}: {error}; a line is name:sha256[:streams], made by '
                             'camws_bridge token NAME') from None
        tokens[token.name] = token
    return tuple(tokens.values())


def read_file(path: str) -> tuple[Token, ...]:
    """Return the tokens of a file; raises SettingsError that names file and line."""
    try:
        with Path(path).open('rb') as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ValueError('it is longer than 1 MB')
        return parse_tokens(data.decode('utf-8-sig').replace('\r\n', '\n'))
    except UnicodeDecodeError:
        reason = 'it is no UTF-8 text'
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = str(error)
    raise SettingsError(f"parameter auth.tokens_file: '{path}': {reason}") from None


class TokenStore:
    """The tokens now in force: ``auth.token`` and those of the file."""

    def __init__(self, token: str, path: str) -> None:
        """Read the file, if there is one; raises SettingsError when it cannot be used."""
        self._own = (Token('auth.token', digest_of(token)),) if token else ()
        self.path = path
        self.tokens = frozenset(self._own)
        if self.path:
            found = read_file(self.path)
            if not found:
                # A file without tokens must not open the door.
                raise SettingsError(f"parameter auth.tokens_file: '{self.path}' holds no token: "
                                    'camws_bridge token NAME makes one')
            self.tokens |= set(found)

    @property
    def is_needed(self) -> bool:
        """Tell whether a token is needed; also when the last one was removed."""
        return bool(self._own or self.path)

    def reload(self) -> None:
        """Read the file again; raises SettingsError, and keeps what it had, for a broken one."""
        if self.path:
            self.tokens = frozenset((*self._own, *read_file(self.path)))

    def find(self, digest: bytes) -> Token | None:
        """Return the token with a digest, in a time that says nothing of those there are."""
        found = None
        for token in self.tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found
