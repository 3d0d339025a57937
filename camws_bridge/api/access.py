"""Who may come in: tokens and origins."""
from __future__ import annotations

import hashlib
import hmac
import ipaddress
from pathlib import Path
import re
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest

from camws_bridge.parameter import SettingsError
from camws_bridge.settings import AuthSettings, Settings

_LINE = re.compile(r'[^:\s]+:([0-9a-fA-F]{64})')


class Access:
    """
    Checks requests against the configured tokens and origins.

    A token comes as ``Authorization: Bearer``, as ``?token=``, or as the WebSocket subprotocol
    ``camws.token.<token>``, since browsers cannot set headers.
    """

    def __init__(self, settings: Settings) -> None:
        """Read the tokens; raises SettingsError for a tokens file that cannot be used."""
        self._digests = _read_digests(settings.auth)
        self._origins = frozenset(settings.allowed_origins)
        self._is_local = is_loopback(settings.host)

    @property
    def needs_token(self) -> bool:
        """Tell whether clients must show a token."""
        return bool(self._digests)

    def has_token(self, request: HTTPServerRequest) -> bool:
        """Tell whether the request shows a valid token, or none is needed."""
        if not self._digests:
            return True
        digests = [hashlib.sha256(token.encode()).digest() for token in _tokens(request)]
        # Every pair is compared, in constant time: nothing can be learned from the time it takes.
        matches = [hmac.compare_digest(digest, known)
                   for digest in digests for known in self._digests]
        return any(matches)

    def is_origin_allowed(self, request: HTTPServerRequest) -> bool:
        """Tell whether the page that sends this request may: own host, or allowed_origins."""
        origin = request.headers.get('Origin')
        if '*' in self._origins or origin in self._origins:
            return True
        host = request.headers.get('Host', '')
        if self._is_local and not self._is_own_name(host):
            return False
        return origin is None or _host_of(origin) == host

    def _is_own_name(self, host: str) -> bool:
        """
        Tell whether a Host header may mean a bridge that listens on this machine only.

        A page from elsewhere can have its own name resolve to 127.0.0.1 (DNS rebinding); its
        origin then is that name. Behind a proxy, allowed_origins names the public origin.
        """
        name = host.rpartition(':')[0] if host.rpartition(':')[2].isdigit() else host
        return (is_loopback(name.strip('[]')) or '.' not in name
                or any(_host_of(origin) == host for origin in self._origins))


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address means this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost' or host.endswith('.localhost')


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _tokens(request: HTTPServerRequest) -> list[str]:
    tokens = [value.decode('utf-8', 'replace')
              for value in request.query_arguments.get('token', [])]
    scheme, _, value = request.headers.get('Authorization', '').partition(' ')
    if scheme.lower() == 'bearer':
        tokens.append(value.strip())
    for name in request.headers.get('Sec-WebSocket-Protocol', '').split(','):
        if name.strip().startswith('camws.token.'):
            tokens.append(name.strip().removeprefix('camws.token.'))
    return tokens


def _read_digests(settings: AuthSettings) -> list[bytes]:
    digests = [hashlib.sha256(settings.token.encode()).digest()] if settings.token else []
    if settings.tokens_file:
        digests += _read_tokens_file(settings.tokens_file)
    return digests


def _read_tokens_file(path: str) -> list[bytes]:
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"parameter auth.tokens_file: '{path}': {error}") from None
    digests = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith('#'):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise SettingsError(f"parameter auth.tokens_file: '{path}' line {number} is not "
                                'allowed; allowed: name:sha256 (64 hex digits)')
        digests.append(bytes.fromhex(match[1]))
    if not digests:
        # A file without tokens must not open the door.
        raise SettingsError(f"parameter auth.tokens_file: '{path}' holds no token")
    return digests
