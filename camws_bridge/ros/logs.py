"""Python's logs of the package in the node's log, so that --log-level counts for them."""
from __future__ import annotations

import logging
import re

from rclpy.impl.rcutils_logger import RcutilsLogger


# Where a token may stand in what is logged; nothing of ours logs one, this is for the rest.
_TOKEN = re.compile(r'(\btoken=|\bcamws\.token\.|\bbearer\s+)[^\s&"\',;]+', re.IGNORECASE)


def hide_tokens(text: str) -> str:
    """Return a text in which tokens of clients are left out."""
    return _TOKEN.sub(r'\1***', text)


class _Forward(logging.Handler):
    def __init__(self, logger: RcutilsLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        message = hide_tokens(self.format(record))
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
