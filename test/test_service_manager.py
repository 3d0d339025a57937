"""What systemd is told, on real sockets."""
import logging
import os
import socket

import pytest

from camws_bridge.service_manager import ServiceManager


@pytest.fixture(params=['file', 'abstract'])
def systemd(request, tmp_path):
    """Return a socket such as systemd listens on, and its address as it names it."""
    name = str(tmp_path / 'notify') if request.param == 'file' else f'@camws-test-{os.getpid()}'
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace('@', '\0'))
        listening.settimeout(5)
        yield listening, name


def test_the_messages_are_those_of_sd_notify(systemd):
    listening, name = systemd
    manager = ServiceManager({'NOTIFY_SOCKET': name})
    manager.ready('listening on http://127.0.0.1:8080')
    manager.alive()
    manager.stopping()
    assert [listening.recv(4096) for _ in range(3)] == [
        b'READY=1\nSTATUS=listening on http://127.0.0.1:8080', b'WATCHDOG=1', b'STOPPING=1']


def test_without_systemd_nothing_happens(caplog):
    manager = ServiceManager({'WATCHDOG_USEC': '2000000'})
    manager.ready('x')
    assert (manager.watchdog_seconds, caplog.records) == (None, [])


@pytest.mark.parametrize(('environment', 'seconds'), [
    ({}, None), ({'WATCHDOG_USEC': '2500000'}, 2.5),
    ({'WATCHDOG_USEC': '2500000', 'WATCHDOG_PID': str(os.getpid())}, 2.5),
    ({'WATCHDOG_USEC': '2500000', 'WATCHDOG_PID': '1'}, None),
    ({'WATCHDOG_USEC': 'soon'}, None), ({'WATCHDOG_USEC': '0'}, None)])
def test_the_watchdog_is_that_of_this_process(environment, seconds):
    manager = ServiceManager({'NOTIFY_SOCKET': '/run/systemd/notify', **environment})
    assert manager.watchdog_seconds == seconds


def test_a_manager_that_is_gone_is_a_line_in_the_log(caplog, tmp_path):
    ServiceManager({'NOTIFY_SOCKET': str(tmp_path / 'nowhere')}).alive()
    record, = caplog.records
    assert record.levelno == logging.WARNING
    assert 'cannot be told WATCHDOG' in record.getMessage()


def test_a_manager_that_does_not_listen_is_not_waited_for(systemd, caplog):
    _, name = systemd
    manager = ServiceManager({'NOTIFY_SOCKET': name})
    for _ in range(2000):
        manager.alive()
    assert caplog.records
