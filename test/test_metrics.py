from prometheus_client import generate_latest

from camws_bridge.metrics import ClientFigures, Metrics, total


def test_a_total_is_that_of_all_labels():
    metrics = Metrics()
    assert total(metrics.messages_replaced) == 0
    metrics.messages_replaced.labels('color', 'loop').inc(2)
    metrics.messages_replaced.labels('color', 'client').inc(3)
    metrics.messages_replaced.labels('depth', 'client').inc()
    assert total(metrics.messages_replaced) == 6


def test_threads_are_shown_as_they_are_when_asked():
    metrics, alive = Metrics(), {'ros', 'web'}
    metrics.watch_threads(('ros', 'web'), alive.__contains__)
    assert metrics.registry.get_sample_value('camws_threads_alive', {'thread': 'ros'}) == 1
    alive.remove('ros')
    assert metrics.registry.get_sample_value('camws_threads_alive', {'thread': 'ros'}) == 0
    assert metrics.registry.get_sample_value('camws_threads_alive', {'thread': 'web'}) == 1


def test_every_bridge_has_metrics_of_its_own_and_those_of_the_process():
    first, second = Metrics(), Metrics()
    first.images_received.inc()
    assert second.registry.get_sample_value('camws_images_received_total') == 0
    text = generate_latest(second.registry).decode()
    assert 'process_open_fds' in text and 'process_resident_memory_bytes' in text


def test_clients_are_shown_as_they_are_when_asked():
    metrics = Metrics()
    found = [ClientFigures('color', '192.0.2.1:5', 'pad', 7, 2, 0.5, 3),
             ClientFigures('color', '192.0.2.1:6', '', 0, 0, None, None)]
    metrics.watch_clients(lambda: found)

    def value(name, client):
        return metrics.registry.get_sample_value(f'camws_client_{name}', {
            'stream': 'color', 'client': client, 'name': 'pad' if client[-1] == '5' else ''})

    names = ('messages_sent_total', 'messages_replaced_total', 'age_seconds',
             'unacknowledged_images')
    assert [value(name, '192.0.2.1:5') for name in names] == [7, 2, 0.5, 3]
    assert [value(name, '192.0.2.1:6') for name in names] == [0, 0, None, None]
    found.clear()
    assert value('messages_sent_total', '192.0.2.1:5') is None
