"""
What systemd is told: ready, stopping, still alive.

The protocol is that of sd_notify(3): one datagram of ``NAME=VALUE`` lines to the socket that
NOTIFY_SOCKET names. Where there is no such variable, nothing happens.
"""
from __future__ import annotations

from collections.abc import Mapping
import logging
import os
import socket

log = logging.getLogger(__name__)


class ServiceManager:
    """The service manager that started this process, if one did."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Look at NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID of ``environment``."""
        address = environment.get('NOTIFY_SOCKET', '')
        # A leading @ stands for the zero byte of Linux's abstract names.
        self._address = '\0' + address[1:] if address.startswith('@') else address
        self.watchdog_seconds = _watchdog_seconds(environment) if address else None

    def ready(self, status: str) -> None:
        """Say that the start is done; ``status`` is one line for people."""
        self._send(f'READY=1\nSTATUS={status}')

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send('STOPPING=1')

    def alive(self) -> None:
        """Feed the watchdog: when this fails to come, the process is killed and restarted."""
        self._send('WATCHDOG=1')

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # Never wait: who does not listen must not stop the bridge.
                sender.setblocking(False)
                sender.sendto(text.encode(), self._address)
        except OSError as error:
            log.warning('the service manager cannot be told %s: %s', text.split('=')[0], error)


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """Return within how many seconds ``alive`` must come; None: never (sd_watchdog_enabled(3))."""
    if environment.get('WATCHDOG_PID', str(os.getpid())) != str(os.getpid()):
        return None
    try:
        seconds = int(environment.get('WATCHDOG_USEC', '')) * 1e-6
    except ValueError:
        return None
    return seconds if seconds > 0 else None
