"""Callbacks whose failure does not end the ROS thread."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
import logging
import time

from prometheus_client import Counter
from rclpy.executors import Executor, ExternalShutdownException

log = logging.getLogger(__name__)

# So many failures of callbacks within so many seconds are the end.
_FAILURES, _WITHIN = 20, 10.0


def guarded(place: str, call: Callable[[], None], errors: Counter) -> Callable[[], None]:
    """Return ``call`` as one that logs its exceptions and counts them under ``place``."""
    def run() -> None:
        try:
            call()
        except Exception as error:  # without its executor the bridge is blind
            errors.labels(place).inc()
            log.error('%s failed: %s', place, error, exc_info=error)
    return run


def spin(executor: Executor, clock: Callable[[], float] = time.monotonic) -> None:
    """
    Spin until the executor is shut down, and go on after a callback has failed.

    Raises the last exception when they come too fast for going on to be of any use.
    """
    failures: deque[float] = deque(maxlen=_FAILURES)
    while True:
        try:
            executor.spin()
            return
        except ExternalShutdownException:
            return
        except Exception as error:  # one callback's failure is not the end of all others
            failures.append(clock())
            if len(failures) == _FAILURES and failures[-1] - failures[0] < _WITHIN:
                raise
            log.error('a callback failed: %s', error, exc_info=error)
