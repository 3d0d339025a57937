"""The parts of benchmarks/streaming that need neither ROS nor a quiet machine."""
from __future__ import annotations

from pathlib import Path
import shutil
import sys

import pytest

# The benchmarks are no package that is installed.
sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.harness.native import build, Group, Load, run_load
from benchmarks.harness.processes import Child, cpu_seconds, rss_bytes

_BYTES = 34_000
pytestmark = pytest.mark.skipif(shutil.which('cc') is None, reason='there is no C compiler (cc)')


@pytest.fixture(scope='module')
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('native')
    return {name: build(name, folder) for name in ('load_client', 'floor_server')}


@pytest.fixture
def floor(programs):
    with Child([str(programs['floor_server']), str(_BYTES), '100']) as child:
        yield child, int(child.wait_for(r'^listening (\d+)$')[1])


def run(port, *groups, seconds=0.5):
    return run_load('127.0.0.1', port, Load(groups, 0.1, seconds))['groups']


def test_every_client_of_the_floor_reads_every_frame(floor):
    child, port = floor
    seen = run(port, Group('all', 5))['all']
    assert seen['clients'] == 5 and seen['closed'] == 0
    # 8 bytes in front of the header, and the header's 192.
    assert seen['bytes'] == seen['messages'] * (_BYTES + 200)
    # Frames that overtake one another would be counted as skipped by all.
    assert seen['messages'] + seen['skipped'] == pytest.approx(5 * seen['source_frames'], abs=5)
    assert 0 < seen['age_ms']['p50'] <= seen['age_ms']['p99'] <= seen['age_ms']['max']
    assert cpu_seconds(child.pid) >= 0 and rss_bytes(child.pid) > 0


def test_a_client_that_never_reads_gets_nothing(floor):
    seen = run(floor[1], Group('healthy'), Group('stalled', 2, stalled=True))
    assert seen['healthy']['messages'] > 0
    assert seen['stalled'] == seen['stalled'] | {'messages': 0, 'closed': 0, 'age_ms': None}


def test_a_client_with_a_rate_reads_no_faster(floor):
    seen = run(floor[1], Group('slow', rate=500_000, rcvbuf=16384), seconds=1.0)['slow']
    assert 0 < seen['bytes'] < 700_000


def test_a_page_shows_one_message_after_the_other(floor):
    seen = run(floor[1], Group('page', ack=100.0), seconds=1.0)['page']
    # The floor knows no acks: what is not shown in time gets old.
    assert seen['age_ms']['p50'] > 100 and seen['messages'] > 20


def test_a_socket_that_is_closed_is_reported(programs):
    with Child([str(programs['floor_server']), str(_BYTES), '100']) as child:
        port = int(child.wait_for(r'^listening (\d+)$')[1])
        load = Load([Group('left')], 0.1, 0.5)
        seen = run_load('127.0.0.1', port, load, on_start=child.stop)['groups']['left']
    assert seen['closed'] == 1 and seen['sockets'][0]['close_code'] == 1006


def test_programs_are_built_once(programs, tmp_path):
    made = build('floor_server', tmp_path)
    before = made.stat().st_mtime_ns
    assert build('floor_server', tmp_path) == made and made.stat().st_mtime_ns == before
