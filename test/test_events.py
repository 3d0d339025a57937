import logging

from camws_bridge.events import Event, EventBus

RANG: Event[int] = Event('RANG')
OTHER: Event[int] = Event('OTHER')


def test_every_handler_of_the_event_is_called_in_order():
    bus, heard = EventBus(), []
    bus.subscribe(RANG, lambda value: heard.append(('first', value)))
    bus.subscribe(RANG, lambda value: heard.append(('second', value)))
    bus.subscribe(OTHER, lambda value: heard.append(('other', value)))
    bus.publish(RANG, 7)
    assert heard == [('first', 7), ('second', 7)]


def test_nobody_need_listen():
    EventBus().publish(RANG, 7)


def test_events_of_equal_name_are_not_the_same():
    bus, heard = EventBus(), []
    bus.subscribe(Event('RANG'), heard.append)
    bus.publish(RANG, 7)
    assert heard == []


def fail(value):
    raise RuntimeError(f'no {value}')


def test_a_failing_handler_never_stops_the_others():
    errors, heard = [], []
    bus = EventBus(lambda event, error: errors.append((event, str(error))))
    # Inject a fault by failing first.
    bus.subscribe(RANG, fail)
    bus.subscribe(RANG, heard.append)
    bus.publish(RANG, 7)
    assert heard == [7]
    assert errors == [(RANG, 'no 7')]


def test_failures_are_logged_with_the_event(caplog):
    bus = EventBus()
    bus.subscribe(RANG, fail)
    with caplog.at_level(logging.ERROR):
        bus.publish(RANG, 7)
    record, = caplog.records
    assert record.getMessage() == 'a handler of RANG failed: no 7'
    assert record.exc_info


def test_a_handler_may_subscribe_while_it_is_called():
    bus, heard = EventBus(), []
    bus.subscribe(RANG, lambda _: bus.subscribe(RANG, heard.append))
    bus.publish(RANG, 1)
    assert heard == []
    bus.publish(RANG, 2)
    assert heard == [2]
