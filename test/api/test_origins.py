"""Which pages may read, and under which names the bridge answers."""
import socket

import builders  # noqa: F401  (the profile of hypothesis)
from hypothesis import given, strategies as st
import pytest

from camws_bridge.api.origins import host_name, Origins

LISTED = ['https://Page.example:8443', 'http://plain.example:80']


@pytest.mark.parametrize('origin,host,allowed', [
    (None, 'anything', True),
    ('http://robot:8080', 'robot:8080', True), ('HTTP://Robot:8080', 'rObot:8080', True),
    ('http://robot', 'robot:80', True), ('https://robot:443', 'robot', True),
    ('https://robot', 'robot:443', True),           # behind a proxy that adds TLS
    ('http://robot:8080', 'robot', False), ('http://robot', 'robot:8080', False),
    ('http://robot:3000', 'robot:8080', False),     # another program of the same machine
    ('http://[::1]:8080', '[::1]:8080', True), ('http://[::1]', '[::1]:8080', False),
    ('null', 'null', False), ('null', '', False), ('', '', False), ('robot', 'robot', False),
    ('file://', '', False), ('ftp://robot', 'robot', False),
    ('http://robot.evil.example', 'robot', False), ('http://robot@evil', 'evil', False),
    ('https://page.example:8443', 'robot', True), ('https://page.example', 'robot', False),
    ('http://page.example:8443', 'robot', False), ('http://plain.example', 'robot', True),
    ('https://plain.example', 'robot', False), ('http://[', 'localhost', False)])
def test_a_page_may_read_from_its_own_host_or_where_it_is_listed(origin, host, allowed):
    assert Origins(LISTED, '0.0.0.0').is_allowed(origin, host) == allowed


def test_all_pages_only_when_that_is_said():
    assert Origins(['*'], '127.0.0.1').is_allowed('null', 'x')
    assert Origins(['*'], '127.0.0.1').is_own_host('rebound.example')
    assert Origins(['*'], '127.0.0.1').allows_others and not Origins([], 'x').allows_others


@pytest.mark.parametrize('host,local,network', [
    ('127.0.0.1:8080', True, True), ('localhost', True, True), ('[::1]:80', True, True),
    ('robot', True, True), ('camera.localhost', True, True),
    ('192.168.1.5:8080', False, True), ('[fd00::5]', False, True),
    ('robot.local', False, True), ('robot.lan:8080', False, True), ('ROBOT.LOCAL.', False, True),
    ('rebound.example', False, False), ('127.0.0.1.rebound.example', False, False),
    ('page.example:8443', True, True), ('page.example', False, False),
    ('plain.example', True, True), ('plain.example:80', True, True),
    ('', False, False), ('a b', False, False), ('user@robot', False, False),
    ('robot/x', False, False), ('robot:port', False, False)])
def test_names_that_can_be_somebody_elses_are_not_ours(host, local, network):
    assert Origins(LISTED, '127.0.0.1').is_own_host(host) == local
    assert Origins(LISTED, '0.0.0.0').is_own_host(host) == network


def test_the_name_of_the_machine_and_the_one_listened_on_are_ours(monkeypatch):
    monkeypatch.setattr(socket, 'gethostname', lambda: 'Robot.company.example')
    origins = Origins([], 'cam.company.example')
    assert origins.is_own_host('robot.company.example:8080')
    assert origins.is_own_host('cam.company.example')
    assert not origins.is_own_host('other.company.example')


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_header_is_an_answer(origin, host):
    origins = Origins(LISTED, '0.0.0.0')
    assert origins.is_allowed(origin, host) in (True, False)
    assert origins.is_own_host(host) in (True, False)
    name = host_name(host)
    assert name is None or not set(name) & set('\r\n ;,/@')
