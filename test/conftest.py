"""Fixtures that start the real thing once for all tests that use it."""
from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path

# Before rclpy is imported anywhere: never another robot's traffic, and large images get through.
_PROFILE = Path(__file__).parents[1] / 'config/fastdds_large_images.xml'
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
os.environ.setdefault('FASTDDS_DEFAULT_PROFILES_FILE', str(_PROFILE))
os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))

from processes import DemoBridge  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(scope='session')
def demo_bridge() -> Iterator[DemoBridge]:
    demo = DemoBridge()
    yield demo
    demo.stop()
