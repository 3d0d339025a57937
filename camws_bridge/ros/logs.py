"""Python's logs of the package in the node's log, so that --log-level counts for them."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable
import logging
import re
import time

from rclpy.impl.rcutils_logger import RcutilsLogger


# Where a token may stand in what is logged; nothing of ours logs one, this is for the rest.
_TOKEN = re.compile(r'(\btoken=|\bcamws\.token\.|\bbearer\s+)[^\s&"\',;]+', re.IGNORECASE)


def hide_tokens(text: str) -> str:
    """Return a text in which tokens of clients are left out."""
    return _TOKEN.sub(r'\1***', text)


# What one place in the code may log at once, and how many lines a second after that.
_BURST, _RATE = 10.0, 1.0


class Throttle:
    """Lets through so much of what comes from one place, and counts the rest."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives monotonic seconds."""
        self._clock = clock
        self._left, self._held_back, self._since = _BURST, 0, clock()

    def pass_one(self) -> int | None:
        """Return how many were held back before this one; None: this one is, too."""
        now = self._clock()
        self._left = min(_BURST, self._left + _RATE * (now - self._since))
        self._since = now
        if self._left < 1.0:
            self._held_back += 1
            return None
        self._left -= 1.0
        held_back, self._held_back = self._held_back, 0
        return held_back


class _Forward(logging.Handler):
    def __init__(self, logger: RcutilsLogger) -> None:
        super().__init__()
        self._logger = logger
        self._throttles: defaultdict[Hashable, Throttle] = defaultdict(Throttle)

    def emit(self, record: logging.LogRecord) -> None:
        # rcutils' levels are Python's.
        if not self._logger.is_enabled_for(max(10, min(50, record.levelno // 10 * 10))):
            return
        kind = record.exc_info[0] if record.exc_info else None
        held_back = self._throttles[record.pathname, record.lineno, kind].pass_one()
        if held_back is None:
            return
        message = hide_tokens(self.format(record))
        if held_back:
            message += f' (and {held_back} more like this)'
        # One call for each level: rclpy remembers the level of a place in the code.
        if record.levelno >= logging.ERROR:
            self._logger.error(message)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(message)
        elif record.levelno >= logging.INFO:
            self._logger.info(message)
        else:
            self._logger.debug(message)


def forward_logs(logger: RcutilsLogger) -> None:
    """Send what the package and tornado log to ``logger``."""
    for name in ('camws_bridge', 'tornado', 'asyncio'):
        python_logger = logging.getLogger(name)
        python_logger.handlers = [_Forward(logger)]
        python_logger.propagate = False
    # rclpy decides what is shown.
    logging.getLogger('camws_bridge').setLevel(logging.DEBUG)
