"""One bridge process that faults of the ROS side and of data are thrown at, one after another."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope='session')
def shared_bridge() -> Iterator[Any]:
    from faults.robot import FaultyRobot
    robot = FaultyRobot()
    yield robot
    robot.close()


@pytest.fixture(scope='session')
def sides() -> Iterator[Any]:
    """Two contexts, as in the tests of the ROS side."""
    from ros_side import Side
    both = Side(), Side()
    yield both
    for side in both:
        side.close()


@pytest.fixture
def robot(shared_bridge: Any) -> Iterator[Any]:
    """Return the bridge and a robot before it, as well as it was before the last fault."""
    shared_bridge.recover()
    yield shared_bridge
    shared_bridge.check_nothing_is_left()
