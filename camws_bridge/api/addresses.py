"""Whose request is it: the client's address, behind proxies too, and what counts as one."""
from __future__ import annotations

from functools import lru_cache
import ipaddress

from tornado.httputil import HTTPServerRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# A household or a phone gets a whole /64 of IPv6: its addresses are one visitor's.
_IPV6_PREFIX = 64
_UNKNOWN = ipaddress.IPv4Address(0)


@lru_cache(maxsize=1024)
def parse(text: str) -> Address | None:
    """Return an IP address; IPv4 written as IPv6 is IPv4, a zone (``%eth0``) is left out."""
    try:
        address = ipaddress.ip_address(text.partition('%')[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@lru_cache(maxsize=16)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


@lru_cache(maxsize=1024)
def is_among(address: str, networks: tuple[str, ...]) -> bool:
    """Tell whether an address is in one of some networks."""
    found = parse(address)
    return found is not None and any(found in network for network in _networks(networks))


@lru_cache(maxsize=1024)
def visitor_key(address: str) -> str:
    """Return what addresses of one visitor have in common: IPv4 itself, or the /64 of IPv6."""
    found = parse(address) or _UNKNOWN
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, _IPV6_PREFIX), strict=False))
    return str(found)


def is_proxied(request: HTTPServerRequest, proxies: tuple[str, ...]) -> bool:
    """Tell whether a trusted proxy has passed this request on."""
    return bool(proxies) and is_among(_peer(request), proxies)


def client_address(request: HTTPServerRequest, proxies: tuple[str, ...]) -> str:
    """
    Return the address of the client itself.

    X-Forwarded-For is believed from trusted proxies only, from its end backwards: what stands in
    front of the first address that is no trusted proxy may be the client's invention.
    """
    address = _peer(request)
    if not is_proxied(request, proxies):
        return address
    forwarded = ','.join(request.headers.get_list('X-Forwarded-For')).split(',')
    for text in reversed(forwarded):
        found = parse(text.strip())
        if found is None:
            break
        address = str(found)
        if not is_among(address, proxies):
            break
    return address


def _peer(request: HTTPServerRequest) -> str:
    context = getattr(request.connection, 'context', None)
    address = getattr(context, 'address', None)
    # remote_ip may hold the client's address already: the socket's is asked for here.
    return str(address[0]) if isinstance(address, tuple) and address else str(request.remote_ip)
