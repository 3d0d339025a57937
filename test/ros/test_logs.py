import logging

import pytest

pytest.importorskip('rclpy')

from rclpy.logging import get_logger, LoggingSeverity, set_logger_level

from camws_bridge.ros.logs import forward_logs, Throttle

NAMES = ('camws_bridge', 'tornado', 'asyncio')


@pytest.fixture(autouse=True)
def restored():
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def printed(capfd):
    forward_logs(get_logger('camws_test_logs'))
    capfd.readouterr()

    def lines():
        out, err = capfd.readouterr()
        return [line for line in (out + err).splitlines() if 'camws_test_logs' in line]

    return lines


def test_every_level_arrives_from_one_place_in_the_code(printed):
    set_logger_level('camws_test_logs', LoggingSeverity.DEBUG)
    for level in (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG,
                  logging.ERROR):
        logging.getLogger('camws_bridge.api').log(level, 'number %d', level)
    found = printed()
    assert [line[1:].split(']')[0].strip() for line in found] == [
        'ERROR', 'ERROR', 'WARN', 'INFO', 'DEBUG', 'ERROR']
    assert found[2].endswith('number 30')


def test_rclpy_decides_what_is_shown(printed):
    set_logger_level('camws_test_logs', LoggingSeverity.INFO)
    logging.getLogger('camws_bridge.api').debug('hidden')
    logging.getLogger('camws_bridge.api').info('shown')
    assert [line.rpartition(' ')[2] for line in printed()] == ['shown']


def test_tornado_and_asyncio_are_heard_and_nothing_is_said_twice(printed):
    forward_logs(get_logger('camws_test_logs'))
    for name in ('tornado.general', 'asyncio'):
        logging.getLogger(name).warning('from %s', name)
    assert [line.rpartition(': ')[2] for line in printed()] == [
        'from tornado.general', 'from asyncio']


def test_exceptions_come_with_their_traceback(printed, capfd):
    try:
        raise KeyError('lost')
    except KeyError:
        logging.getLogger('camws_bridge').exception('it failed')
    out, err = capfd.readouterr()
    assert "KeyError: 'lost'" in out + err


def test_tokens_are_left_out(printed):
    logging.getLogger('tornado.general').warning(
        "GET /ws/color?fps=1&token=s3cret&x=1 'camws.v1, camws.token.s3cret' Bearer s3cret, end")
    line, = printed()
    assert 's3cret' not in line
    assert line.endswith("?fps=1&token=***&x=1 'camws.v1, camws.token.***' Bearer ***, end")


def test_a_flood_from_one_place_is_held_back_and_counted(printed):
    def flood(count):
        for number in range(count):
            logging.getLogger('camws_bridge.api').warning('flood %d', number)

    flood(100)
    logging.getLogger('camws_bridge.api').warning('another place')
    found = printed()
    assert len(found) == 11 and found[-1].endswith('another place')
    # Some time later.
    handler = logging.getLogger('camws_bridge').handlers[0]
    for throttle in handler._throttles.values():
        throttle._left = 5.0
    flood(1)
    assert printed()[-1].endswith('flood 0 (and 90 more like this)')


def test_a_throttle_lets_through_one_a_second_and_says_what_it_held_back():
    class Clock:
        now = 50.0

        def __call__(self):
            return self.now

    clock = Clock()
    throttle = Throttle(clock)
    assert [throttle.pass_one() for _ in range(12)] == [0] * 10 + [None] * 2
    clock.now += 1.0
    assert [throttle.pass_one() for _ in range(2)] == [2, None]
    clock.now += 60.0
    assert [throttle.pass_one() for _ in range(11)] == [1] + [0] * 9 + [None]


def test_levels_between_those_of_ros_are_rounded_down(printed):
    set_logger_level('camws_test_logs', LoggingSeverity.INFO)
    logging.getLogger('camws_bridge.api').log(25, 'shown')
    logging.getLogger('camws_bridge.api').log(5, 'hidden')
    logging.getLogger('camws_bridge.api').log(60, 'shown, too')
    assert [line[1:6].strip(']') for line in printed()] == ['INFO', 'ERROR']
