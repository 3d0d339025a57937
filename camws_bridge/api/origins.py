"""Which web pages may read: browsers say where a page is from, and under which name it asked."""
from __future__ import annotations

from collections.abc import Iterable
import ipaddress
import re
import socket

_PORTS = {'http': 80, 'https': 443}
_HOST = re.compile(r'([\w.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?', re.IGNORECASE | re.ASCII)
# Names that nobody can register in the public DNS.
_PRIVATE = ('.localhost', '.local', '.lan', '.home', '.internal', '.home.arpa', '.test')


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address means this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == 'localhost' or host.lower().endswith('.localhost')


class Origins:
    """
    Compares origins with the host asked, and with a list of others.

    A page can have its own public name resolve to an address of ours (DNS rebinding); its origin
    then is the host it asks. So only names that cannot be somebody else's are taken for ours.
    """

    def __init__(self, allowed: Iterable[str], host: str) -> None:
        """Take parameter ``allowed_origins`` and the ``host`` that is listened on."""
        self._allowed = frozenset(_normal(origin) for origin in allowed)
        self._all = '*' in self._allowed
        self._allowed_hosts = frozenset(
            origin.partition('://')[2] for origin in self._allowed if origin != '*')
        self._is_local = is_loopback(host)
        self._own_names = frozenset(name.lower() for name in (host, socket.gethostname()))

    @property
    def allows_others(self) -> bool:
        """Tell whether pages from elsewhere may read at all."""
        return bool(self._allowed)

    def is_allowed(self, origin: str | None, host: str) -> bool:
        """Tell whether a page may read: of the host asked, or one of the list."""
        if origin is None or self._all:
            return True
        normal = _normal(origin)
        if normal in self._allowed:
            return True
        scheme, _, netloc = normal.partition('://')
        return scheme in _PORTS and netloc == _without_port(host.lower(), scheme)

    def is_own_host(self, host: str) -> bool:
        """Tell whether a Host header names this bridge, and cannot name anything else."""
        name = host_name(host)
        if name is None:
            return False
        if self._all or self._is_listed(host):
            return True
        if self._is_local:
            return is_loopback(name) or _is_bare(name)
        return (_is_address(name) or _is_bare(name) or name in self._own_names
                or name.endswith(_PRIVATE))

    def _is_listed(self, host: str) -> bool:
        lower = host.lower()
        return any(_without_port(lower, scheme) in self._allowed_hosts for scheme in _PORTS)


def host_name(host: str) -> str | None:
    """Return the name or address of a Host header in lower case; None for what is none."""
    match = _HOST.fullmatch(host)
    return match[1].strip('[]').rstrip('.').lower() if match else None


def _is_bare(name: str) -> bool:
    """Tell whether a name has no domain: only this network can know it."""
    return '.' not in name and ':' not in name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _normal(origin: str) -> str:
    """Return an origin in lower case, without the port that its scheme has anyway."""
    lower = origin.lower()
    scheme, separator, netloc = lower.partition('://')
    return f'{scheme}://{_without_port(netloc, scheme)}' if separator else lower


def _without_port(netloc: str, scheme: str) -> str:
    return netloc.removesuffix(f':{_PORTS[scheme]}') if scheme in _PORTS else netloc
