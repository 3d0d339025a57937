"""Kill each thread: the process says so wherever it still can, and ends with an error."""
from __future__ import annotations

from contextlib import ExitStack
import json
import re
from typing import Any

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is built by scripts/setup')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from faults.robot import InjectedBridge
from processes import wait_until
from ros_side import Graph
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

# What ends each thread, though it catches every Exception.
PLACES = {
    'ros': 'camws_bridge.ros.camera_node:CameraNode._report_health',
    'processing': 'camws_bridge.websockets.streaming_service:StreamingService._work_off',
    'web': 'camws_bridge.websockets.connection_manager:ConnectionManager.clients'}


@pytest.fixture(scope='module')
def deaths() -> Any:
    """Start a bridge for each thread, all at once."""
    with ExitStack() as stack:
        bridges = {thread: InjectedBridge('-r', f'__ns:=/death_of_{thread}') for thread in PLACES}
        for bridge in bridges.values():
            stack.callback(bridge.stop)
        for bridge in bridges.values():
            bridge.wait_until_listening()
        yield bridges


@pytest.fixture
def diagnostics(sides: Any) -> Any:
    graph = Graph(sides[0], sides[0])
    arrived: list[DiagnosticArray] = []
    graph.peer.create_subscription(DiagnosticArray, '/diagnostics', arrived.append, 10)

    def find(thread: str, word: str) -> DiagnosticStatus:
        def found() -> list[DiagnosticStatus]:
            return [status for array in arrived for status in array.status
                    if status.name.startswith(f'/death_of_{thread}/') and word in status.message]
        graph.spin_until(found, 'word on /diagnostics')
        return found()[0]

    yield find
    graph.close()


@pytest.mark.parametrize('thread', PLACES)
def test_it_is_said_and_the_process_ends_with_an_error(
        deaths: Any, diagnostics: Any, thread: str) -> None:
    bridge = deaths[thread]
    url = bridge.url.replace('http', 'ws', 1)
    with connect(f'{url}/ws/markers', subprotocols=['camws.v1']) as client:
        client.recv(timeout=5)
        diagnostics(thread, '')
        bridge.inject(PLACES[thread], 'SystemExit')
        if thread == 'processing':
            bridge.get('/api/v1/images/color.jpg')      # gives it something to do
        status = diagnostics(thread, 'died')
        assert status.level == DiagnosticStatus.ERROR
        assert status.message == f"the {thread} thread died: SystemExit('injected')"
        if thread != 'web':
            wait_until(lambda: bridge.health()[1] == 'threads', 3.0, 'healthz says so')
            assert bridge.health('/livez')[0] == bridge.health('/readyz')[0] == 503
            assert bridge.count('camws_threads_alive', thread=thread) == 0
        assert bridge.wait() == 1
        codes = read_to_the_end(client)
    assert ('threads' in codes) == (thread != 'web')
    assert re.search(rf'\[FATAL\].*the {thread} thread died', bridge.output)


def read_to_the_end(client: Any) -> list[str]:
    codes = []
    try:
        while True:
            message = client.recv(timeout=5)
            codes.append(json.loads(message).get('code', ''))
    except ConnectionClosed:
        return codes
