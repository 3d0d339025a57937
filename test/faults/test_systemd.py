"""Run the bridge as systemd does, before a real socket: ready, alive, hanging, stopping."""
from __future__ import annotations

from pathlib import Path
import socket
from typing import Any

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is built by scripts/setup')

from faults.robot import InjectedBridge


class Systemd:
    """What systemd hears, and what it would do."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.environment = {'NOTIFY_SOCKET': str(path), 'WATCHDOG_USEC': '900000'}

    def hear(self, seconds: float) -> str:
        """Return the next message; TimeoutError when none comes in time."""
        self.socket.settimeout(seconds)
        return self.socket.recv(4096).decode()


@pytest.fixture
def systemd(tmp_path: Path) -> Any:
    it = Systemd(tmp_path / 'notify')
    yield it
    it.socket.close()


def test_it_is_ready_when_it_listens_alive_while_all_turn_and_says_when_it_stops(
        systemd: Systemd) -> None:
    bridge = InjectedBridge(environment=systemd.environment)
    try:
        assert systemd.hear(30.0).startswith('READY=1\nSTATUS=listening on http://127.0.0.1:')
        bridge.wait_until_listening()
        assert [systemd.hear(5.0) for _ in range(3)] == ['WATCHDOG=1'] * 3
        # Inject a fault by a loop that hangs: its pulse stops.
        bridge.inject('camws_bridge.supervision:STUCK_AFTER', 'value:0.5')
        bridge.inject('camws_bridge.websockets.connection_manager:ConnectionManager.clients',
                      'sleep:3')
        with pytest.raises(TimeoutError):
            for _ in range(10):
                systemd.hear(0.9)
        bridge.inject('camws_bridge.websockets.connection_manager:ConnectionManager.clients',
                      'none')
        bridge.inject('camws_bridge.supervision:STUCK_AFTER', 'value:10.0')
        assert systemd.hear(10.0) == 'WATCHDOG=1'
    finally:
        code = bridge.stop()
    assert code == 0
    heard = 'WATCHDOG=1'
    while heard == 'WATCHDOG=1':
        heard = systemd.hear(5.0)
    assert heard == 'STOPPING=1'
