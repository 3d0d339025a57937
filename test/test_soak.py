"""The parts of scripts/soak that need no bridge: what counts as a trend, the bytes it sends."""
from __future__ import annotations

from pathlib import Path
import random
import sys

import pytest

# The benchmarks are no package that is installed.
sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.soak import frames
from benchmarks.soak.main import main
from benchmarks.soak.trend import complain, find_trend, Limit

TIMES = [5.0 * number for number in range(36)]
MEMORY = Limit('memory', 'MB', 8.0, 0.04)


def noise(seed=1, size=2.0):
    lot = random.Random(seed)
    return [lot.gauss(0.0, size) for _ in TIMES]


def test_a_leak_is_found_under_noise_and_named():
    values = [130.0 + 0.1 * at + more for at, more in zip(TIMES, noise())]
    assert find_trend(TIMES, values).growth == pytest.approx(17.5, abs=3.0)
    assert complain(MEMORY, TIMES, values).startswith('memory grew by 1')


@pytest.mark.parametrize('seed', range(10))
def test_what_only_varies_is_no_trend(seed):
    values = [130.0 + more for more in noise(seed, 10.0)]
    assert complain(MEMORY, TIMES, values) == ''


def test_bursts_are_no_trend():
    # A third of the time twice as much, and most of it towards the end.
    values = [200.0 if number % 3 == 2 or number > 30 else 100.0 for number in range(36)]
    assert complain(MEMORY, TIMES, values) == ''


def test_growth_within_the_limit_is_none_and_the_limit_follows_the_level():
    slow = [0.04 * at for at in TIMES]
    assert complain(MEMORY, TIMES, [100.0 + more for more in slow]) == ''
    fast = [0.1 * at for at in TIMES]
    assert complain(MEMORY, TIMES, [100.0 + more for more in fast])
    assert complain(MEMORY, TIMES, [1000.0 + more for more in fast]) == ''


def test_too_little_says_nothing():
    assert complain(MEMORY, [0.0, 5.0], [1.0, 1000.0]) == '' == complain(MEMORY, [], [])


@pytest.mark.parametrize('text', ['0', 'x', '-1', '1e9'])
def test_a_wrong_duration_is_one_clear_error(text, capsys):
    with pytest.raises(SystemExit) as ended:
        main([text])
    assert ended.value.code == 2 and f"'{text}' is not allowed" in capsys.readouterr().err


@pytest.mark.parametrize('length', [0, 125, 126, 65535, 65536])
def test_a_frame_is_read_as_it_was_written(length):
    data = bytes(number % 251 for number in range(length))
    written = frames.frame(data, frames.BINARY, masked=False)
    found, used = frames.parse(written + b'more')
    assert found == frames.Frame(frames.BINARY, data) and used == len(written)
    assert frames.parse(written[:-1]) == (None, 0)
    # RFC 6455 section 5.3: masking twice is no masking.
    masked = frames.frame(data, frames.BINARY)
    assert len(masked) == len(written) + 4 and (length == 0 or masked[-length:] != data)
    assert frames._masked(frames._masked(data)) == data


def test_the_code_of_a_close_frame():
    found, _ = frames.parse(frames.frame(b'\x03\xe8bye', frames.CLOSE, masked=False))
    assert found.close_code == 1000
    assert frames.Frame(frames.CLOSE, b'').close_code is None
    assert frames.Frame(frames.TEXT, b'\x03\xe8').close_code is None
