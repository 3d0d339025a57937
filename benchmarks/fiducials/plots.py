"""The error of corners against a marker's size and against its tilt: data and pictures."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
import sys
from typing import Any

import numpy as np

from benchmarks.fiducials.scoring import corner_error, Sample

_LEAST_MARKERS = 4
_ERRORS, _SIZES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2), (20, 30, 50, 100, 200)
_COLOURS = {'ours': '#d62728', 'NONE': '#8c8c8c', 'SUBPIX': '#1f77b4', 'CONTOUR': '#2ca02c',
            'AprilTag': '#9467bd'}


@dataclass(frozen=True)
class Curve:
    """A method's median and 95th percentile (px) in each bin; NaN where too little was found."""

    middles: tuple[float, ...]
    medians: tuple[float, ...]
    p95: tuple[float, ...]


@dataclass(frozen=True)
class Chart:
    """One picture: curves by method over an axis."""

    name: str
    label: str
    logarithmic: bool
    curves: Mapping[str, Curve]


def charts(study: Mapping[str, Sequence[Sample]]) -> list[Chart]:
    """Return the error against the size and against the tilt."""
    sizes = np.geomspace(20, 200, 9)
    tilts = np.linspace(0, 75, 9)
    return [
        Chart('pose_error_size', 'side of the marker, px (tilt 0 to 75°)', True,
              _curves(study, sizes, lambda sample: sample.size)),
        Chart('pose_error_tilt', 'tilt, degrees (side 20 to 200 px)', False,
              _curves(study, tilts, lambda sample: sample.tilt))]


def draw(charts: Sequence[Chart], folder: Path, packages: str) -> list[Path]:
    """Write the charts as SVG files; ``packages`` is where matplotlib lies."""
    if packages not in sys.path:
        # Behind .venv: what is in both, .venv has in the version the bridge runs with.
        sys.path.append(packages)
    matplotlib: Any = import_module('matplotlib')
    # The same picture for the same numbers, with text that is text.
    matplotlib.rcParams.update({'svg.hashsalt': 'camws_bridge', 'svg.fonttype': 'none'})
    figures: Any = import_module('matplotlib.figure')
    paths = []
    for chart in charts:
        figure = figures.Figure(figsize=(6.4, 3.8), layout='constrained')
        _plot(figure.add_subplot(), chart)
        paths.append(folder / f'{chart.name}.svg')
        figure.savefig(paths[-1], metadata={'Date': None})
    return paths


def _plot(axes: Any, chart: Chart) -> None:
    for name, curve in chart.curves.items():
        colour = _COLOURS.get(name)
        axes.plot(curve.middles, curve.medians, 'o-', color=colour, label=name, markersize=4)
        axes.plot(curve.middles, curve.p95, ':', color=colour, linewidth=1)
    axes.set_yscale('log')
    axes.set_ylim(0.008, 4)
    axes.set_yticks(_ERRORS, [str(tick) for tick in _ERRORS])
    if chart.logarithmic:
        axes.set_xscale('log')
        axes.set_xticks(_SIZES, [str(tick) for tick in _SIZES])
    axes.minorticks_off()
    axes.set_xlabel(chart.label)
    axes.set_ylabel('error of corners, px')
    axes.set_title('median (solid) and 95th percentile (dotted)', fontsize=9)
    axes.grid(True, alpha=0.25)
    axes.legend(fontsize=8, ncols=len(chart.curves))


def _curves(study: Mapping[str, Sequence[Sample]], edges: np.ndarray[Any, Any],
            key: Callable[[Sample], float]) -> dict[str, Curve]:
    middles = tuple(((edges[1:] + edges[:-1]) / 2).tolist())
    curves = {}
    for name, samples in study.items():
        errors = []
        for low, high in zip(edges, edges[1:]):
            found = [sample for sample in samples
                     if low <= key(sample) < high and sample.corners is not None]
            errors.append(corner_error(found if len(found) >= _LEAST_MARKERS else []))
        medians, p95 = zip(*errors)
        curves[name] = Curve(middles, medians, p95)
    return curves
