import pytest

pytest.importorskip('rclpy')

from prometheus_client import CollectorRegistry, Counter
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import SingleThreadedExecutor

from camws_bridge.ros import guard
from camws_bridge.ros.guard import guarded, spin


class Failing:
    """Calls that raise so many times."""

    def __init__(self, times, error=ZeroDivisionError):
        self.calls, self.times, self.error = 0, times, error

    def __call__(self):
        self.calls += 1
        if self.calls <= self.times:
            raise self.error('injected')


def test_failures_are_counted_by_place_and_logged(caplog):
    registry = CollectorRegistry()
    errors = Counter('errors', 'x', ['place'], registry=registry)
    call = Failing(2)
    for _ in range(3):
        guarded('look', call, errors)()
    assert registry.get_sample_value('errors_total', {'place': 'look'}) == 2
    assert [record.getMessage() for record in caplog.records] == ['look failed: injected'] * 2


def test_what_is_no_exception_passes():
    errors = Counter('errors', 'x', ['place'], registry=CollectorRegistry())
    with pytest.raises(SystemExit):
        guarded('look', Failing(1, SystemExit), errors)()


def spinning(graph, call):
    """Return an executor with a timer that makes a call, and shuts it down after the third."""
    node = graph.node()
    graph._bridge.executor.remove_node(node)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)

    def tick():
        if call.calls >= call.times + 3:
            executor.shutdown()
        call()

    node.create_timer(0.001, tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
    return executor


def test_spinning_goes_on_after_a_callback_has_failed(graph, caplog):
    call = Failing(3)
    spin(spinning(graph, call))
    assert call.calls > 5
    assert [record.getMessage() for record in caplog.records] == [
        'a callback failed: injected'] * 3


def test_spinning_ends_when_everything_fails(graph):
    call = Failing(1000)
    executor = spinning(graph, call)
    with pytest.raises(ZeroDivisionError):
        spin(executor)
    assert call.calls == guard._FAILURES
    executor.shutdown()


def test_failures_over_a_long_time_are_not_the_end(graph):
    times = iter(range(0, 10 ** 6, 3600))
    call = Failing(guard._FAILURES + 5)
    spin(spinning(graph, call), clock=lambda: next(times))
    assert call.calls > guard._FAILURES + 5
