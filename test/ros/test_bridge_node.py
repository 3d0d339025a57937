"""The managed node: its transitions through the real services, from a node elsewhere."""
from __future__ import annotations

import gc
import json
from pathlib import Path
import re
import socket
from typing import Any

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is built by scripts/setup')

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from processes import BridgeProcess, wait_until
from ros_side import Graph, image_message, RELIABLE, Side
from rcl_interfaces.srv import SetParameters
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from sensor_msgs.msg import Image
from vision.test_pixel_formats import make_picture
from websockets.sync.client import connect

from camws_bridge.parameter import SettingsError
from camws_bridge.ros.bridge_node import BridgeNode

PICTURE = image_message(make_picture('bgr8', 1))


# -- states, with a bridge that does nothing --------------------------------------------------


class Started:
    """Notes what is asked of a bridge."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.error: Exception | None = None

    def start(self, node: Any, settings: Any) -> Started:
        self._note('start')
        return self

    def set_active(self, active: bool) -> None:
        self._note(active)

    def stop(self) -> None:
        self._note('stop')

    def _note(self, call: Any) -> None:
        self.calls.append(call)
        if self.error is not None:
            error, self.error = self.error, None
            raise error


class Managed:
    def __init__(self, graph: Graph, side: Side, *words: str) -> None:
        self.graph, self.started, self.ended = graph, Started(), 0
        self.node = BridgeNode(
            self.started.start, self._on_end, context=side.context, namespace=graph.namespace,
            cli_args=['--ros-args', *words])
        side.executor.add_node(self.node)

    def _on_end(self) -> None:
        self.ended += 1

    @property
    def state(self) -> str:
        label: str = self.node._state_machine.current_state[1]
        return label


@pytest.fixture
def managed(graph: Graph, sides: Any) -> Any:
    it = Managed(graph, sides[0])
    yield it
    sides[0].executor.remove_node(it.node)
    it.node.destroy_node()
    # Its services live on in a cycle, and everybody goes on discovering them.
    del it.node
    gc.collect()


def test_it_starts_by_itself_and_ends_once(managed: Managed) -> None:
    assert managed.state == 'unconfigured'
    assert managed.node.start_up()
    assert (managed.state, managed.started.calls) == ('active', ['start', True])
    managed.node.end()
    managed.node.end()
    assert (managed.state, managed.started.calls) == ('finalized', ['start', True, 'stop'])
    assert managed.ended == 1


@pytest.mark.parametrize('error', [SettingsError('parameter x'), RuntimeError('port\nin use')])
def test_what_cannot_be_configured_stays_unconfigured(managed: Managed, error: Exception) -> None:
    managed.started.error = error
    assert not managed.node.start_up()
    assert managed.state == 'unconfigured'
    assert managed.node.start_up()
    assert managed.state == 'active'


@pytest.mark.parametrize(('transitions', 'calls', 'state'), [
    (['configure'], ['start'], 'unconfigured'),
    (['configure', 'activate'], ['start', True, 'stop'], 'unconfigured'),
    (['configure', 'activate', 'deactivate'], ['start', True, False, 'stop'], 'unconfigured'),
    (['configure', 'cleanup'], ['start', 'stop'], 'unconfigured')])
def test_an_unexpected_failure_frees_what_there_is(
        managed: Managed, transitions: list[str], calls: list[Any], state: str) -> None:
    *before, failing = transitions
    for transition in before:
        getattr(managed.node, f'trigger_{transition}')()
    managed.started.error = ZeroDivisionError('injected')
    result = getattr(managed.node, f'trigger_{failing}')()
    assert result is TransitionCallbackReturn.ERROR
    assert (managed.started.calls, managed.state) == (calls, state)
    assert managed.node.start_up()


def test_parameters_that_count_at_the_start_can_be_changed_before_it(managed: Managed) -> None:
    def change(value: int) -> bool:
        result, = managed.node.set_parameters([RosParameter('port', value=value)])
        return bool(result.successful)

    assert change(1234)
    assert managed.node.settings().port == 1234
    assert not change(70000)
    managed.node.trigger_configure()
    assert not change(1235)
    managed.node.trigger_cleanup()
    assert change(1236)
    assert managed.node.settings().port == 1236


def test_a_wrong_parameter_is_an_error(graph: Graph, sides: Any) -> None:
    with pytest.raises(SettingsError, match='port'):
        Managed(graph, sides[0], '-p', 'port:=70000')


# -- a real bridge, steered from outside ------------------------------------------------------


class Steered:
    """A bridge process and who steers it."""

    def __init__(self, graph: Graph, *words: str) -> None:
        self.graph = graph
        self.bridge = BridgeProcess(
            '-r', f'__ns:={graph.namespace}', '-p', 'tf.publish:=false', *words)
        self.images = graph.publisher(Image, 'image', RELIABLE)

    def call(self, kind: Any, service: str, **request: Any) -> Any:
        client = self.graph.peer.create_client(kind, self.graph.topic(f'camws_bridge/{service}'))
        self.graph.spin_until(client.service_is_ready, service, 20.0)
        future = client.call_async(kind.Request(**request))
        self.graph.spin_until(future.done, f'{service} answers')
        self.graph.peer.destroy_client(client)
        return future.result()

    def change(self, label: str) -> bool:
        answer = self.call(ChangeState, 'change_state', transition=Transition(label=label))
        return bool(answer.success)

    @property
    def state(self) -> str:
        label: str = self.call(GetState, 'get_state').current_state.label
        return label

    def wait_until_listening(self) -> None:
        self.bridge.wait_until_listening()

    def health(self, path: str = '/healthz') -> tuple[int, str]:
        status, _, body = self.bridge.get(path)
        return status, json.loads(body)['code']

    def stream(self, client: Any) -> None:
        """Publish until a picture has come, and the client was told that all is well."""
        pictures, codes = 0, ['']

        def is_well() -> bool:
            nonlocal pictures
            self.images.publish(PICTURE)
            self.graph.spin()
            try:
                message = client.recv(timeout=0.1)
            except TimeoutError:
                return False
            if isinstance(message, bytes):
                pictures += 1
            else:
                codes.append(json.loads(message).get('code', codes[-1]))
            return pictures > 0 and codes[-1] == 'ok'

        wait_until(is_well, 10.0, 'pictures, and word of it')

    def wait_for_status(self, client: Any, code: str) -> None:
        while True:
            message = client.recv(timeout=10)
            if isinstance(message, str) and json.loads(message).get('code') == code:
                return


def is_free(port: int) -> bool:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(('127.0.0.1', port))
        except OSError:
            return False
        return True


@pytest.fixture
def outside(sides: Any) -> Any:
    graph = Graph(sides[1], sides[1])
    yield graph
    graph.close()


def test_a_lifecycle_manager_steers_the_bridge(outside: Graph) -> None:
    steered = Steered(outside, '-p', 'autostart:=false')
    try:
        assert steered.state == 'unconfigured'
        assert steered.change('configure') and steered.state == 'inactive'
        steered.wait_until_listening()
        assert (steered.health(), steered.health('/readyz'), steered.health('/livez')) == (
            (200, 'inactive'), (503, 'inactive'), (200, 'ok'))
        url = steered.bridge.url.replace('http', 'ws', 1)
        with connect(f'{url}/ws/color', subprotocols=['camws.v1']) as client:
            steered.wait_for_status(client, 'inactive')
            assert steered.images.get_subscription_count() == 0
            assert steered.change('activate') and steered.health('/readyz') == (200, 'ok')
            steered.stream(client)
            assert steered.change('deactivate') and steered.state == 'inactive'
            outside.spin_until(lambda: steered.images.get_subscription_count() == 0,
                               'the camera is left alone')
            steered.wait_for_status(client, 'inactive')
            # The socket was kept: the same client goes on.
            assert steered.change('activate')
            steered.stream(client)
            had = threads(steered.bridge.pid)
            assert steered.change('deactivate') and steered.change('cleanup')
            with pytest.raises(Exception, match='1001'):
                while True:
                    client.recv(timeout=10)
        port = steered.bridge.port
        wait_until(lambda: is_free(port), 5.0, 'the port is free')
        # Processing and web; a port may be free before its thread has ended.
        wait_until(lambda: had - threads(steered.bridge.pid) >= 2, 5.0, 'their threads have ended')
        check_again(steered, port)
        assert threads(steered.bridge.pid) <= had
        assert steered.change('shutdown')
        assert steered.bridge.wait() == 0
    finally:
        steered.bridge.stop()
    assert 'Traceback' not in steered.bridge.output
    assert not re.search(r'\[(ERROR|FATAL)\]', steered.bridge.output)


def threads(pid: int) -> int:
    """Return how many threads a process has, those of DDS among them."""
    return len(list(Path(f'/proc/{pid}/task').iterdir()))


def check_again(steered: Steered, port: int) -> None:
    """Configure again, on a port of its own choice: while unconfigured that can be changed."""
    other = RosParameter('port', value=port).to_parameter_msg()
    result, = steered.call(SetParameters, 'set_parameters', parameters=[other]).results
    assert result.successful
    assert steered.change('configure') and steered.change('activate')
    steered.wait_until_listening()
    assert steered.bridge.port == port
    url = steered.bridge.url.replace('http', 'ws', 1)
    with connect(f'{url}/ws/color') as client:
        def came() -> bool:
            steered.images.publish(PICTURE)
            steered.graph.spin()
            try:
                return isinstance(client.recv(timeout=0.1), bytes)
            except TimeoutError:
                return False
        wait_until(came, 10.0, 'a picture')


def test_a_taken_port_leaves_a_managed_node_unconfigured(outside: Graph) -> None:
    with socket.create_server(('127.0.0.1', 0)) as other:
        steered = Steered(outside, '-p', 'autostart:=false', '-p',
                          f'port:={other.getsockname()[1]}')
        try:
            assert not steered.change('configure')
            assert steered.state == 'unconfigured'
            other.close()
            assert steered.change('configure') and steered.state == 'inactive'
        finally:
            assert steered.bridge.stop() == 0
    assert 'is in use' in steered.bridge.output
