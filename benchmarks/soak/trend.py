"""Whether what is measured grows, or only varies."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import statistics

from scipy.stats import theilslopes

_CONFIDENCE = 0.95
# Fewer say nothing.
_LEAST = 6


@dataclass(frozen=True)
class Limit:
    """
    By how much something may grow over the whole of the time that is looked at.

    ``absolute`` in its own unit; ``share`` of its median; whichever is more.
    """

    name: str
    unit: str
    absolute: float
    share: float = 0.0


@dataclass(frozen=True)
class Trend:
    """
    How much something grew over the time that was looked at, in its own unit.

    ``growth`` is the likeliest, ``least`` the lower end of the 95 % interval.
    """

    growth: float
    least: float


def find_trend(times: Sequence[float], values: Sequence[float]) -> Trend:
    """
    Return the growth along the line of Theil and Sen: the median of the slopes of all pairs.

    A third of the values may be outliers (a burst, a busy machine) without a say in it. Too few
    values have no trend.
    """
    if len(values) < _LEAST:
        return Trend(0.0, 0.0)
    slope, _, low, _ = theilslopes(values, times, _CONFIDENCE)
    span = times[-1] - times[0]
    return Trend(float(slope) * span, float(low) * span)


def complain(limit: Limit, times: Sequence[float], values: Sequence[float]) -> str:
    """Return what is wrong with a series of values, empty if it grew no more than it may."""
    allowed = max(limit.absolute, limit.share * statistics.median(values) if values else 0.0)
    trend = find_trend(times, values)
    # Both: growth that is likely too much, and certainly growth.
    if trend.growth <= allowed or trend.least <= 0.0:
        return ''
    return (f'{limit.name} grew by {trend.growth:.1f} {limit.unit} in '
            f'{times[-1] - times[0]:.0f} s; allowed: {allowed:.1f} {limit.unit}')
