"""What a client measured against the demo camera's truth, in numbers and in one summary."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import math
from typing import Any

import numpy as np

from camws_bridge.models import FloatArray
from camws_bridge.vision.geometry import difference, from_quaternion
# The share of frames whose truth may be missing.
_UNMATCHED = 0.1


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far poses may be from the truth (millimetres, degrees)."""

    median_mm: float
    median_deg: float
    worst_mm: float = math.inf
    worst_deg: float = math.inf


# What OpenCV's SUBPIX corners give at 640 x 480 over the worst 100 frames of the path (board
# 1.7 mm, single markers 4.5 mm), with some room: a short check sees only a part of the path.
BOARD = Tolerance(2.5, 0.3, 5.0, 1.5)
# Of a single small marker far away the worst says nothing about the code.
MARKERS = Tolerance(6.0, 2.0)


@dataclass(slots=True)
class Errors:
    """
    The errors of one kind of pose.

    A marker whose tilt is ambiguous says so itself: it is counted, and its angle left out.
    """

    millimetres: list[float] = field(default_factory=list)
    degrees: list[float] = field(default_factory=list)
    ambiguous: int = 0

    def add(self, measured: FloatArray, true: FloatArray, ambiguous: bool) -> None:
        """Add one pose (4x4) and its truth."""
        distance, angle = difference(true, measured)
        self.millimetres.append(1000 * distance)
        if ambiguous:
            self.ambiguous += 1
        else:
            self.degrees.append(math.degrees(angle))

    def problems(self, name: str, tolerance: Tolerance) -> list[str]:
        """Return what is wrong, one text each."""
        if not self.millimetres:
            return [f'{name}: no pose received that could be compared with the truth']
        return [f'{name}: {which} error {found:.2f} {unit} is more than {allowed:g} {unit}'
                for which, found, allowed, unit in (
                    ('median', _median(self.millimetres), tolerance.median_mm, 'mm'),
                    ('worst', _worst(self.millimetres), tolerance.worst_mm, 'mm'),
                    ('median', _median(self.degrees), tolerance.median_deg, 'deg'),
                    ('worst', _worst(self.degrees), tolerance.worst_deg, 'deg'))
                if found > allowed]

    def summary(self) -> str:
        """Return medians and worst in one line."""
        text = (f'position median {_median(self.millimetres):.2f} worst '
                f'{_worst(self.millimetres):.2f} mm, angle median {_median(self.degrees):.3f} '
                f'worst {_worst(self.degrees):.3f} deg ({len(self.millimetres)} poses')
        return text + (f', {self.ambiguous} ambiguous)' if self.ambiguous else ')')


@dataclass(slots=True)
class Report:
    """All that was measured; fill it with ``add_frame`` and ``add_latency``."""

    frames: int = 0
    without_truth: int = 0
    board: Errors = field(default_factory=Errors)
    markers: Errors = field(default_factory=Errors)
    latencies_ms: list[float] = field(default_factory=list)

    def add_frame(self, transforms: Mapping[str, Any], truth: Mapping[str, FloatArray] | None
                  ) -> None:
        """
        Compare one ``transforms_camera`` object with the truth of its stamp.

        ``truth`` holds poses (4x4) in the camera's frame by child frame; None: never arrived.
        """
        self.frames += 1
        if truth is None:
            self.without_truth += 1
            return
        for transform in transforms['transforms']:
            true = truth.get(transform['child_frame_id'])
            errors = {'board': self.board, 'marker': self.markers}.get(transform['kind'])
            if true is not None and errors is not None:
                errors.add(pose_of(transform['transform']), true, transform['ambiguous'])

    def problems(self) -> list[str]:
        """Return why the check fails; empty when it does not."""
        if self.frames and self.frames == self.without_truth:
            return ["no truth arrived: is the demo camera's ~/truth topic the one looked at?"]
        if self.without_truth > _UNMATCHED * self.frames:
            return [f'{self.without_truth} of {self.frames} frames have no truth']
        return [*self.board.problems('board', BOARD),
                *self.markers.problems('single markers', MARKERS)]

    def summary(self) -> str:
        """Return the whole report, a few lines."""
        p50, p95 = (np.percentile(self.latencies_ms, (50, 95)) if self.latencies_ms
                    else (math.nan, math.nan))
        unmatched = f' ({self.without_truth} without truth)' if self.without_truth else ''
        return (f'frames: {self.frames}{unmatched}\n'
                f'board: {self.board.summary()}\n'
                f'single markers: {self.markers.summary()}\n'
                f'publish-to-client latency: p50 {p50:.1f} p95 {p95:.1f} ms')


def pose_of(transform: Mapping[str, Any]) -> FloatArray:
    """Return the 4x4 matrix of a transform as the wire writes it."""
    translation, rotation = transform['translation'], transform['rotation']
    return from_quaternion([translation[axis] for axis in 'xyz'],
                           [rotation[axis] for axis in 'xyzw'])


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else math.nan


def _worst(values: Sequence[float]) -> float:
    return max(values, default=math.nan)
