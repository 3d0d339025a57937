import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from camws_bridge.metrics import Metrics
from camws_bridge.ros.diagnostics_publisher import DiagnosticsPublisher
from camws_bridge.services.health_service import HealthService
from camws_bridge.settings import Settings
from camws_bridge.supervision import Threads


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Diagnostics:
    def __init__(self, graph):
        self.graph, self.clock, self.metrics = graph, Clock(), Metrics()
        self.threads = Threads()
        self.health = HealthService(Settings, self.clock, self.threads)
        self.health.set_publishers('/camera/image', 1)
        self.arrays = graph.listen(DiagnosticArray, 'diagnostics')
        self.publisher = DiagnosticsPublisher(
            graph.node(), self.health, self.metrics,
            lambda: {'clients': 3, 'address': 'http://127.0.0.1:8080'})
        graph.spin_until(self.publisher._publisher.get_subscription_count)

    def status(self):
        before = len(self.arrays)
        self.publisher.publish()
        self.graph.spin_until(lambda: len(self.arrays) > before)
        status, = self.arrays[-1].status
        return status


@pytest.fixture
def diagnostics(graph):
    return Diagnostics(graph)


def test_levels_and_words_are_those_of_health(diagnostics):
    health, clock = diagnostics.health, diagnostics.clock
    seen = []
    for step in (lambda: None, lambda: health.set_watching(True), health.on_image,
                 lambda: setattr(clock, 'now', clock.now + 3.5),
                 lambda: (health.set_watching(True), setattr(clock, 'now', clock.now + 3.5))):
        step()
        status = diagnostics.status()
        assert status.message == health.check().message
        assert status.values[0].key == 'code'
        seen.append((status.level, status.values[0].value))
    assert seen == [
        (DiagnosticStatus.OK, 'idle'), (DiagnosticStatus.WARN, 'starting'),
        (DiagnosticStatus.OK, 'ok'), (DiagnosticStatus.WARN, 'stale'),
        (DiagnosticStatus.ERROR, 'no_images')]
    assert 'FASTDDS_DEFAULT_PROFILES_FILE' in status.message


def test_values_help_to_find_a_fault(diagnostics):
    diagnostics.health.on_image()
    diagnostics.health.on_dropped('short_data')
    for hop in ('client', 'loop'):
        diagnostics.metrics.messages_replaced.labels('color', hop).inc(2)
    diagnostics.metrics.processing_errors.labels('color').inc()
    diagnostics.clock.now += 0.25
    status = diagnostics.status()
    assert status.name == f'{diagnostics.graph.namespace}/camws_bridge: images'
    assert status.hardware_id == 'camws_bridge'
    found = {pair.key: pair.value for pair in status.values}
    assert float(found.pop('rate (Hz)')) > 0
    assert found == {
        'code': 'idle', 'images': '1', 'seconds since the last image': '0.25',
        'replaced before sending': '4', 'products failed': '1', 'clients removed': '0',
        'clients': '3', 'address': 'http://127.0.0.1:8080', 'dropped short_data': '1'}
    assert diagnostics.arrays[-1].header.stamp.sec > 0


def test_a_thread_that_died_is_an_error(diagnostics):
    def die():
        raise SystemExit('injected')

    diagnostics.health.set_watching(True)
    diagnostics.health.on_image()
    diagnostics.threads.start('processing', die).join()
    status = diagnostics.status()
    assert status.level == DiagnosticStatus.ERROR
    assert status.message == "the processing thread died: SystemExit('injected')"


def test_a_failure_to_publish_is_counted_and_the_next_goes_out(diagnostics, monkeypatch):
    # Inject a fault by facts that raise once.
    facts = iter([ZeroDivisionError('injected')])

    def raise_once():
        for error in facts:
            raise error
        return {}

    monkeypatch.setattr(diagnostics.publisher, '_facts', raise_once)
    before = len(diagnostics.arrays)
    diagnostics.graph.spin_until(lambda: len(diagnostics.arrays) > before, 'the next', 5.0)
    assert diagnostics.metrics.registry.get_sample_value(
        'camws_ros_errors_total', {'place': 'diagnostics'}) == 1


def test_closed_it_leaves_nothing_on_the_node(graph):
    node = graph.node()
    before = len(list(node.publishers)), len(list(node.timers))
    publisher = DiagnosticsPublisher(node, HealthService(Settings), Metrics(), dict)
    assert (len(list(node.publishers)), len(list(node.timers))) == tuple(x + 1 for x in before)
    publisher.close()
    assert (len(list(node.publishers)), len(list(node.timers))) == before


def test_it_comes_once_a_second(diagnostics):
    diagnostics.graph.spin_until(lambda: len(diagnostics.arrays) >= 2, 'two of them', 5.0)
    first, second = (found.header.stamp.sec + found.header.stamp.nanosec * 1e-9
                     for found in diagnostics.arrays[:2])
    assert second - first == pytest.approx(1.0, abs=0.4)
