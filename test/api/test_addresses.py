"""Whose request is it."""
from types import SimpleNamespace

import builders  # noqa: F401  (the profile of hypothesis)
from hypothesis import given, strategies as st
import pytest
from tornado.httputil import HTTPHeaders

from camws_bridge.api.addresses import client_address, is_among, is_proxied, visitor_key

PROXIES = ('10.0.0.1', 'fd00::/8')


def asked(peer, *forwarded):
    headers = HTTPHeaders()
    for text in forwarded:
        headers.add('X-Forwarded-For', text)
    connection = SimpleNamespace(context=SimpleNamespace(address=(peer, 0)))
    return SimpleNamespace(connection=connection, headers=headers, remote_ip='?')


@pytest.mark.parametrize('address,key', [
    ('192.0.2.7', '192.0.2.7'), ('::ffff:192.0.2.7', '192.0.2.7'),
    ('2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'), ('2001:db8:1:2::1', '2001:db8:1:2::/64'),
    ('fe80::1%eth0', 'fe80::/64'), ('nonsense', '0.0.0.0')])
def test_ipv6_addresses_of_one_network_are_one_visitor(address, key):
    assert visitor_key(address) == key


def test_networks_hold_addresses_of_their_own_kind():
    assert is_among('10.1.2.3', ('10.0.0.0/8',)) and is_among('::ffff:10.1.2.3', ('10.0.0.0/8',))
    assert not is_among('::1', ('0.0.0.0/0',)) and not is_among('nonsense', ('0.0.0.0/0', '::/0'))
    assert is_among('192.168.1.7', ('192.168.1.5/24',))


@pytest.mark.parametrize('peer,forwarded,client', [
    ('192.0.2.7', ['203.0.113.9'], '192.0.2.7'),            # no proxy of ours
    ('10.0.0.1', [], '10.0.0.1'),
    ('10.0.0.1', ['203.0.113.9'], '203.0.113.9'),
    ('10.0.0.1', ['6.6.6.6, 203.0.113.9'], '203.0.113.9'),  # the first is the client's invention
    ('10.0.0.1', ['6.6.6.6', '203.0.113.9, fd00::2'], '203.0.113.9'),
    ('10.0.0.1', ['203.0.113.9, nonsense'], '10.0.0.1'),
    ('10.0.0.1', ['10.0.0.1'], '10.0.0.1'),
    ('fd00::9', ['2001:db8::7'], '2001:db8::7')])
def test_forwarded_addresses_are_believed_from_proxies_only(peer, forwarded, client):
    request = asked(peer, *forwarded)
    assert client_address(request, PROXIES) == client
    assert is_proxied(request, PROXIES) == (peer != '192.0.2.7')


def test_without_proxies_nothing_is_believed():
    assert client_address(asked('10.0.0.1', '203.0.113.9'), ()) == '10.0.0.1'


@given(st.text('0123456789abcdef.:,[]%-xyz', min_size=1, max_size=40))
def test_any_header_gives_an_address(text):
    assert visitor_key(client_address(asked('10.0.0.1', text), PROXIES))
