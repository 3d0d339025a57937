"""Fixtures that start the real thing once for all tests that use it."""
from __future__ import annotations

from collections.abc import Iterator
import importlib.util
import os
from pathlib import Path
import re

# Before rclpy is imported anywhere: never another robot's traffic, and large images get through.
_PROFILE = Path(__file__).parents[1] / 'config/fastdds_large_images.xml'
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
os.environ.setdefault('FASTDDS_DEFAULT_PROFILES_FILE', str(_PROFILE))
os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))

from processes import DemoBridge  # noqa: E402
import pytest  # noqa: E402

# A ROS 2 installation may lack these; what needs them is left out then, and the header says so.
_OPTIONAL = {'hypothesis': 'hypothesis|builders', 'websockets': 'websockets'}


def _is_missing(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    # A folder of that name on the path is no library.
    return spec is None or spec.origin is None


_MISSING = [name for name in _OPTIONAL if _is_missing(name)]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    if collection_path.suffix != '.py' or not _MISSING:
        return None
    names = '|'.join(_OPTIONAL[name] for name in _MISSING)
    needs = re.search(rf'^(from|import) ({names})\b', collection_path.read_text(), re.MULTILINE)
    return True if needs else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have those come last after which DDS takes longer to discover others for a while."""
    items.sort(key=lambda item: item.path.parent.name == 'faults'
               or item.path.name == 'test_bridge_node.py')


def pytest_report_header() -> str:
    missing = ', '.join(_MISSING)
    return f'not installed, and the tests that need it left out: {missing}' if missing else ''


@pytest.fixture(scope='session')
def demo_bridge() -> Iterator[DemoBridge]:
    demo = DemoBridge()
    yield demo
    demo.stop()
