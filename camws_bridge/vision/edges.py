"""
Corners of markers by the marker's own edges.

The gray values along each outer edge are sampled across it, where they step from black to white a
point is set (the centroid of the gradient), a straight line is fitted to an edge's points, and
neighbouring lines are intersected. Lines are straight without the lens only: positions along and
across an edge are counted in undistorted coordinates, and each sample is taken where the lens
shows it, so that nothing needs to be undistorted afterwards. All markers of an image are done at
once.

Formulae: edge points as centroids of the gradient (Steger 1998 discusses their bias), lines by
iteratively reweighted least squares (Huber 1981; weights of Geman and McClure 1987).
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cv2
import numpy as np

from camws_bridge.models import Array, CameraModel, FloatArray
from camws_bridge.vision.camera import project_points, undistort_points
from camws_bridge.vision.geometry import square_to_quad

# Points along an edge, the share left out at each end, and gray values across it.
_ALONG, _LEFT_OUT, _ACROSS = 28, 0.06, 15
# Half a profile's length, in modules (a marker's black border is one module wide) and in px.
_REACH_MODULES, _REACH_LEAST, _REACH_MOST = 0.45, 1.2, 3.0
# Neighbouring points are averaged, by a triangle as wide to each side: less noise, no less edge.
_SMOOTHED = 3
# Gradients below this share of the steepest are noise, not edge.
_FLOOR = 0.15
# A point counts whose step is this share of its marker's, and this many gray values.
_LEAST_STEP, _LEAST_CONTRAST = 0.4, 8.0
# An edge counts that this share of its points support, scattered by no more than so many px.
_LEAST_SUPPORT, _LARGEST_SCATTER = 0.5, 0.5
# Points further off a line than so many times half of the others weigh little.
_ROUGH = 3.0
# Corners that move further than the larger of these (px, share of the side) were no such corners.
_FARTHEST_PX, _FARTHEST_SHARE = 4.0, 0.12
# Where that gives no corner: further passes, the share of points that is enough in them, and the
# share of the side that a corner may move.
_PATIENT_PASSES, _PATIENT_SUPPORT, _FARTHEST_PATIENT = 2, 0.2, 0.4
# A step's width as measured is less than its own, since the window ends: at most this share of
# the reach, however wide it is; no less than this share of it is believed.
_WIDEST, _LEAST_OF_WIDTH = 0.45, 0.12
# A border narrow for its blur is seen too narrow: by so many px times the cube of the step's width
# in modules, on rendered truth the same for all blurs.
_BLUR_BIAS, _LARGEST_BLUR_BIAS = 0.45, 0.09
# How far an edge's end may be off across the edge, measured on rendered truth. Its variance is
# the sum of this much (px) squared; of what such blur leaves, by the square of the step's width
# in modules; and of the squared scatter of the edge's points times a factor, which grows for
# short edges and (beyond so many px of scatter) in noise, some of whose points are left out. And
# the standard deviation of corners that are not given by edges.
_SIGMA_LEAST, _VARIANCE_BY_SCATTER, _SHORT_PX, _NOISY = 0.01, 0.85, 20.0, 0.06
_SIGMA_OF_BLUR, _LARGEST_SIGMA_OF_BLUR, _SIGMA_UNREFINED = 0.35, 0.16, 1.0
# Modules (px) and points of inner edges from which on a marker tells the edge shift.
_LEAST_MODULE, _LEAST_INNER_POINTS = 4.0, 8
# The edge shift (px): how large it may be before anything is known, how far it drifts from image
# to image, and how well one marker tells it.
_SHIFT_PRIOR, _SHIFT_DRIFT, _SHIFT_NOISE, _LARGEST_SHIFT = 0.15, 0.005, 0.04, 0.8

# The first, coarse pass does with half of the points.
_COARSE, _FINE = (np.linspace(_LEFT_OUT, 1 - _LEFT_OUT, count) for count in (_ALONG // 2, _ALONG))
_NODES = np.array([0.0, 0.15, 0.5, 0.85, 1.0])
_ACROSS_AT = np.linspace(-1.0, 1.0, _ACROSS)
_BETWEEN = ((_ACROSS_AT[1:] + _ACROSS_AT[:-1]) / 2).astype(np.float32)
_BETWEEN_SQUARED = _BETWEEN ** 2
_NEXT = np.array([1, 2, 3, 0])
_PREVIOUS = np.array([3, 0, 1, 2])
# OpenCV's type stubs do not know that two maps may be one of two channels.
_NO_MAP: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class RefinedCorners:
    """
    The corners of n markers, and how far they are to be trusted.

    ``corners`` is n x 4 x 2 (px of the image, lens included), ``covariance`` n x 4 x 2 x 2 (px
    squared) that of each corner's coordinates. ``by_edges`` (n x 4, bool) tells which corners
    are intersections of fitted edges; the others fall back. ``residual`` (n) is the root mean
    square distance (px) of the edges' points from their lines, NaN without any edge.
    """

    corners: FloatArray
    covariance: FloatArray
    by_edges: Array
    residual: FloatArray


class _Lens:
    """Takes points between the image (px) and undistorted coordinates in about the same px."""

    def __init__(self, camera: CameraModel | None) -> None:
        self._camera = camera if camera is not None and camera.is_distorted else None
        if camera is not None:
            self._focal = np.array([camera.k[0, 0], camera.k[1, 1]])

    def undistort(self, pixels: FloatArray) -> FloatArray:
        if self._camera is None:
            return pixels
        rays = undistort_points(self._camera, pixels)
        points: FloatArray = (rays * self._focal).reshape(pixels.shape)
        return points

    def distort(self, points: FloatArray) -> FloatArray:
        if self._camera is None:
            return points
        rays = np.ones((points.size // 2, 3))
        rays[:, :2] = points.reshape(-1, 2) / self._focal
        return project_points(self._camera, rays).reshape(points.shape)

    def step_across(self, quads: FloatArray, along: FloatArray, normals: FloatArray,
                    shares: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray | float]:
        """
        Return pixels at ``shares`` of each edge and what a step across the edge does to them.

        ``quads``, ``along`` and ``normals`` are n x 4 x 2 (undistorted); the step's direction is
        a unit vector (px), the last value its length.
        """
        if self._camera is None:
            points = quads[:, :, None] + shares[:, None] * along[:, :, None]
            return points, normals[:, :, None], 1.0
        # Along one edge a lens is smooth: a polynomial through a few points is exact enough.
        nodes = quads[:, :, None] + _NODES[:, None] * along[:, :, None]
        pixels, ahead = _polynomials(len(shares)) @ self.distort(
            np.stack([nodes, nodes + normals[:, :, None]]))
        step = ahead - pixels
        length = np.sqrt(step[..., 0] ** 2 + step[..., 1] ** 2)
        return pixels, step / length[..., None], length


@dataclass(frozen=True, slots=True, eq=False)
class _Edges:
    """Lines fitted to the edges of n markers, in undistorted coordinates."""

    starts: FloatArray      # n x 4 x 2: a point of each line
    ends: FloatArray
    good: Array             # n x 4
    scatter: FloatArray     # n x 4, px
    blur: FloatArray        # n x 4: the width of the step from black to white, in modules


@cache
def _polynomials(count: int) -> FloatArray:
    """Return (count x nodes) what takes values at _NODES to values at the shares of an edge."""
    shares = np.linspace(_LEFT_OUT, 1 - _LEFT_OUT, count)
    return np.array(np.vander(shares, len(_NODES)) @ np.linalg.inv(np.vander(_NODES)))


def refine_corners(gray: Array, corners: FloatArray, camera: CameraModel | None = None,
                   shift: float = 0.0, modules: int = 7, reach_px: float = _REACH_MOST,
                   fall_back: bool = True) -> RefinedCorners:
    """
    Return the corners of markers by their edges.

    ``gray`` is h x w, uint8; ``corners`` n x 4 x 2 (px), clockwise, within half a module (a
    marker's side has ``modules``) and ``reach_px`` of the truth. ``shift`` (px) is how far white
    grows over black in this image (see ``measure_shift``). Without ``camera`` lines are fitted in
    the image as it is, distorted or not. Where the edges do not support it (blur, occlusion,
    another shape), a corner is OpenCV's cornerSubPix's, or without ``fall_back`` the one given.
    """
    corners = np.asarray(corners, np.float64).reshape(-1, 4, 2)
    if not len(corners):
        return RefinedCorners(corners, np.zeros((0, 4, 2, 2)), np.zeros((0, 4), bool),
                              np.zeros(0))
    lens = _Lens(camera)
    start = lens.undistort(corners)
    usable = np.isfinite(start).all(axis=(1, 2))
    if not usable.all():
        # What the lens model cannot undistort is fitted in the image as it is.
        lens, start = _Lens(None), corners
    module = _sides(corners).min(axis=1) / modules
    reach = np.clip(module * _REACH_MODULES, _REACH_LEAST, reach_px)
    # Corners that are none give numbers that are none, which are sorted out in the end.
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        refined = _refine(gray, lens, corners, start, reach, shift, modules)
        weak = np.asarray(~refined.by_edges.all(axis=1))
        if weak.any():
            _take_better(refined, weak, _refine(gray, lens, corners[weak], start[weak],
                                                reach[weak], shift, modules, patient=True))
    return _with_subpix(gray, refined) if fall_back and not refined.by_edges.all() else refined


def _refine(gray: Array, lens: _Lens, corners: FloatArray, start: FloatArray, reach: FloatArray,
            shift: float, modules: int, patient: bool = False) -> RefinedCorners:
    """
    Fit lines to the edges between ``start`` (n x 4 x 2, undistorted corners), coarse to fine.

    With ``patient`` a few points are enough to turn an edge towards where it goes on, pass by
    pass: so it is found from the part that starts right when a corner starts far off, covered or
    blurred.
    """
    edges = _fit(gray, lens, start, reach, _COARSE, modules, 0.0)
    for _ in range(_PATIENT_PASSES if patient else 0):
        edges = _fit(gray, lens, _intersect(edges, start), reach, _COARSE, modules, 0.0,
                     _PATIENT_SUPPORT)
    reach = np.minimum(reach, _REACH_MOST)
    edges = _fit(gray, lens, _intersect(edges, start), reach, _FINE, modules, shift)
    return _checked(lens, corners, start, edges,
                    _FARTHEST_PATIENT if patient else _FARTHEST_SHARE)


def _take_better(refined: RefinedCorners, chosen: Array, again: RefinedCorners) -> None:
    """Put into ``refined`` what was done again for chosen markers, where more edges came of it."""
    better = again.by_edges.sum(axis=1) > refined.by_edges[chosen].sum(axis=1)
    rows = np.flatnonzero(chosen)[better]
    for name in ('corners', 'covariance', 'by_edges', 'residual'):
        getattr(refined, name)[rows] = getattr(again, name)[better]


def measure_shift(gray: Array, corners: FloatArray, camera: CameraModel | None, modules: int,
                  shift: float = 0.0) -> FloatArray:
    """
    Return by how far (px) white grows over black at the edges of each of n markers.

    A camera whose gray values are not proportional to light (gamma), glare or ink that spreads
    move every edge by as much, outer ones inwards and the border's inner ones outwards: the
    border is measured between both. ``corners`` (n x 4 x 2) are those that ``refine_corners``
    found with ``shift``. NaN where a marker is too small for it, or has no white by its border.

    Formula: where the corners came in by s, the border's inner edge is expected in by 2 s / N and
    seen out by s, which is a gap of g = 2 s / N - 2 s (``modules`` N).
    """
    corners = np.asarray(corners, np.float64).reshape(-1, 4, 2)
    shifts = np.full(len(corners), np.nan)
    module = _sides(corners).min(axis=1) / modules if len(corners) else np.zeros(0)
    large = module >= _LEAST_MODULE
    if not large.any():
        return shifts
    lens = _Lens(camera)
    quads = lens.undistort(corners[large])
    inner = _border_inside(modules)
    mapped = inner @ square_to_quad(quads)[:, None].transpose(0, 1, 3, 2)
    points = mapped[..., :2] / mapped[..., 2:]
    along = quads[:, _NEXT] - quads
    inwards = along[..., ::-1] * (-1.0, 1.0)
    inwards /= np.sqrt(np.sum(inwards ** 2, axis=-1, keepdims=True))
    pixels, ahead = lens.distort(np.stack([points, points + inwards[:, :, None]]))
    step = ahead - pixels
    step /= np.sqrt(np.sum(step ** 2, axis=-1, keepdims=True))
    reach = np.minimum(module[large] * _REACH_MODULES, _REACH_MOST)
    offset, weight, _ = _edge_points(gray, pixels, step, reach)
    for row, index in enumerate(np.flatnonzero(large)):
        seen = offset[row][weight[row] > 0]
        if len(seen) >= _LEAST_INNER_POINTS:
            gap = float(np.median(seen))
            shifts[index] = (shift * (1 - 2 / modules) - gap) / (2 - 2 / modules)
    return shifts


@cache
def _border_inside(modules: int) -> FloatArray:
    """Return points (4 x m x 3, homogeneous, unit square) on the border's inner edges."""
    cells = np.arange(1, modules - 1)[:, None] + (0.3, 0.5, 0.7)
    x = cells.ravel() / modules
    near, one = np.full_like(x, 1 / modules), np.ones_like(x)
    return np.stack([np.column_stack(side) for side in (
        (x, near, one), (1 - near, x, one), (1 - x, 1 - near, one), (near, 1 - x, one))])


class EdgeShift:
    """
    Learns the edge shift that the markers of a camera's images have in common.

    A Kalman filter of one number: it begins at 0, trusts a measurement by how many markers made
    it, and forgets slowly, since exposure and focus change.
    """

    def __init__(self) -> None:
        """Begin with nothing learned."""
        self.px = 0.0
        self._variance = _SHIFT_PRIOR ** 2

    @property
    def sigma(self) -> float:
        """How well the shift is known (px)."""
        return float(np.sqrt(self._variance))

    def learn(self, shifts: FloatArray) -> None:
        """Take what ``measure_shift`` found in one image."""
        known = shifts[np.isfinite(shifts)]
        known = known[np.abs(known) < _LARGEST_SHIFT]
        if not len(known):
            return
        self._variance = min(self._variance + _SHIFT_DRIFT ** 2, _SHIFT_PRIOR ** 2)
        noise = _SHIFT_NOISE ** 2 / len(known)
        gain = self._variance / (self._variance + noise)
        self.px += gain * (float(np.median(known)) - self.px)
        self._variance *= 1 - gain


def _fit(gray: Array, lens: _Lens, quads: FloatArray, reach: FloatArray, shares: FloatArray,
         modules: int, shift: float, least_support: float = _LEAST_SUPPORT) -> _Edges:
    """Fit a line to each edge of quads (n x 4 x 2, undistorted) that are nearly right."""
    along = quads[:, _NEXT] - quads
    length = np.sqrt(along[..., 0] ** 2 + along[..., 1] ** 2) + 1e-9
    # Outwards, since corners go clockwise and y goes down.
    normals = along[..., ::-1] * (1.0, -1.0) / length[..., None]
    pixels, step, scale = lens.step_across(quads, along, normals, shares)
    offset, weight, width = _edge_points(gray, pixels, step, reach)
    # The border's other edge, where white begins again, comes near when the step is wide.
    border = (length[:, _PREVIOUS] + length[:, _NEXT]) / (2 * modules)
    blur = width / np.maximum(
        1 - (width / (_WIDEST * reach[:, None])) ** 2, _LEAST_OF_WIDTH) / border
    inwards = np.minimum(_BLUR_BIAS * blur ** 3, _LARGEST_BLUR_BIAS)
    offset = (offset + shift + inwards[..., None]) / scale
    at, tilt, support, scatter = _lines(shares - 0.5, offset, weight)
    good = (support >= least_support) & (scatter <= _LARGEST_SCATTER)
    # Offsets at both ends: the line is at + tilt * (share of the edge - 1/2).
    at, tilt = np.where(good, at, 0.0), np.where(good, tilt, 0.0)
    starts = quads + (at - tilt / 2)[..., None] * normals
    ends = quads[:, _NEXT] + (at + tilt / 2)[..., None] * normals
    return _Edges(starts, ends, good, scatter, blur)


def _edge_points(gray: Array, pixels: FloatArray, step: FloatArray, reach: FloatArray
                 ) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    Return how far (px) along ``step`` the edge is met, and the weight of each point.

    The third value (n x 4, px) is the standard deviation of the step from black to white.
    """
    profiles, inside = _profiles(gray, pixels, step, reach)
    gradient = _smoothing(profiles.shape[2]) @ np.diff(profiles, axis=-1)
    # Dark inside, bright outside; the other way round for an inverted marker.
    rise = gradient.sum(axis=(1, 2, 3))
    gradient *= np.where(rise < 0, -1, 1).astype(np.float32)[:, None, None, None]
    steepest = gradient.max(axis=-1, keepdims=True)
    gradient -= _FLOOR * steepest
    np.maximum(gradient, 0, out=gradient)
    centre = np.zeros((*gradient.shape[:-1], 1), np.float32)
    for width in (2.0, 1.0):
        # A window that ends smoothly, about where the edge was found: its own place weighs less.
        window = (_BETWEEN - centre) / np.float32(width)
        window = np.maximum(1 - window * window, 0) * gradient
        mass = window.sum(axis=-1, keepdims=True) + np.float32(1e-6)
        centre = (window @ _BETWEEN)[..., None] / mass
    height = mass[..., 0]
    typical = np.abs(rise)[:, None, None] / (4 * height.shape[2])
    weight = (height > _LEAST_STEP * np.minimum(typical, 255)) & (height > _LEAST_CONTRAST)
    weight &= inside & (np.abs(centre[..., 0]) < 0.8)
    offset = centre[..., 0] * reach[:, None, None]
    second = (window @ _BETWEEN_SQUARED) / mass[..., 0] - centre[..., 0] ** 2
    width = np.sqrt(np.maximum(second.mean(axis=-1), 0)) * reach[:, None]
    return offset.astype(np.float64), weight.astype(np.float64), width.astype(np.float64)


@cache
def _smoothing(count: int) -> Array:
    """Return (count x count) what averages each point of an edge with its neighbours."""
    gap = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    weights = np.maximum(_SMOOTHED - gap, 0)
    smoothing: Array = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return smoothing


def _profiles(gray: Array, pixels: FloatArray, step: FloatArray, reach: FloatArray
              ) -> tuple[Array, Array]:
    """Return gray values (n x 4 x along x across, float32) across edges, and who is inside."""
    markers = len(pixels)
    reach = reach[:, None, None, None]
    half = (step * reach).astype(np.float32)
    middle = pixels.astype(np.float32)
    at = middle[..., None, :] + half[..., None, :] * _ACROSS_AT.astype(np.float32)[:, None]
    flat = at.reshape(markers * at.shape[1], -1, 2)
    values = cv2.remap(gray, flat, _NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    height, width = gray.shape
    far = np.abs(half)
    inside = np.all((middle >= far) & (middle + far <= (width - 1, height - 1)), axis=-1)
    return values.reshape(at.shape[:-1]).astype(np.float32), np.asarray(inside)


def _lines(x: FloatArray, offset: FloatArray, weight: FloatArray
           ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """
    Fit offset = at + tilt * x to every edge, robustly.

    Returns at, tilt, the share of points that support the line, and their scatter, each n x 4.
    """
    robust = weight
    scale = 1.0
    middle = len(x) // 2
    for _ in range(4):
        total = robust.sum(axis=-1) + 1e-9
        mean_x, mean_y = robust @ x / total, (robust * offset).sum(axis=-1) / total
        dx = x - mean_x[..., None]
        spread = robust * dx
        tilt = ((spread * offset).sum(axis=-1)) / ((spread * dx).sum(axis=-1) + 1e-9)
        residual = offset - mean_y[..., None] - tilt[..., None] * dx
        squared = residual * residual
        scatter = np.sqrt((robust * squared).sum(axis=-1) / total)
        scale = np.maximum(0.12, np.minimum(3.0 * scatter, 0.5 * scale))
        # Half of the points agree within this: where an edge is rough all along (stairs of a
        # picture made smaller, sharpening, bent paper), narrow limits would follow one stair.
        half = np.partition(np.where(weight > 0, squared, np.inf), middle, axis=-1)[..., middle]
        scale = np.maximum(scale, np.minimum(_ROUGH * np.sqrt(half), _LARGEST_SCATTER))
        close = 1 / (1 + squared / (scale * scale)[..., None])
        robust = weight * close * close
    support = robust.sum(axis=-1) / len(x)
    return mean_y - tilt * mean_x, tilt, support, scatter


def _intersect(edges: _Edges, otherwise: FloatArray) -> FloatArray:
    """Return the corners (n x 4 x 2) where each line meets the one before it."""
    start, end = edges.starts[:, _PREVIOUS], edges.ends[:, _PREVIOUS]
    before, after = end - start, edges.ends - edges.starts
    cross = before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]
    gap = edges.starts - start
    share = gap[..., 0] * after[..., 1] - gap[..., 1] * after[..., 0]
    parallel = np.abs(cross) < 1e-9
    share = share / np.where(parallel, 1.0, cross)
    return np.where(parallel[..., None], otherwise, start + share[..., None] * before)


def _checked(lens: _Lens, corners: FloatArray, start: FloatArray, edges: _Edges,
             farthest_share: float) -> RefinedCorners:
    """Keep intersections that the edges support; others stay as they were."""
    met = _intersect(edges, start)
    sides = _sides(corners)
    farthest = np.maximum(_FARTHEST_PX, farthest_share * np.minimum(sides, sides[:, _PREVIOUS]))
    moved = np.linalg.norm(met - start, axis=-1)
    by_edges = edges.good & edges.good[:, _PREVIOUS] & (moved <= farthest)
    found = lens.distort(met)
    by_edges &= np.isfinite(found).all(axis=-1)
    squared = np.where(edges.good, edges.scatter ** 2, 0.0)
    count = edges.good.sum(axis=1)
    residual = np.where(count > 0, np.sqrt(squared.sum(axis=1) / np.maximum(count, 1)), np.nan)
    refined = np.where(by_edges[..., None], found, corners)
    covariance = np.where(by_edges[..., None, None], _covariance(refined, edges),
                          _SIGMA_UNREFINED ** 2 * np.eye(2))
    return RefinedCorners(refined, covariance, by_edges, residual)


def _covariance(corners: FloatArray, edges: _Edges) -> FloatArray:
    """
    Return the covariances (n x 4 x 2 x 2, px squared) of corners where two edges meet.

    An edge says where a corner is across itself, so that both say it all where they are square to
    each other, and less along the bisector of an acute angle: N^-1 S N^-T with the edges' normals
    N and their variances S.
    """
    along = corners[:, _NEXT] - corners
    length = np.sqrt(np.sum(along ** 2, axis=-1)) + 1e-9
    normals = along[..., ::-1] * (1.0, -1.0) / length[..., None]
    blurred = np.minimum(_SIGMA_OF_BLUR * edges.blur ** 2, _LARGEST_SIGMA_OF_BLUR)
    scattered = edges.scatter ** 2 * (1 + (edges.scatter / _NOISY) ** 2)
    variance = _SIGMA_LEAST ** 2 + blurred ** 2 + (
        _VARIANCE_BY_SCATTER * scattered * (1 + _SHORT_PX / length))
    first, second = normals[:, _PREVIOUS], normals
    cross = first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
    cross = np.where(np.abs(cross) < 0.05, 0.05, cross)
    # Where one line moves across itself, the corner slides along the other.
    slides = (second[..., ::-1] * (1.0, -1.0), first[..., ::-1] * (-1.0, 1.0))
    covariance = np.zeros((*corners.shape, 2))
    for slide, own in zip(slides, (variance[:, _PREVIOUS], variance)):
        slide = slide / cross[..., None]
        covariance += own[..., None, None] * slide[..., :, None] * slide[..., None, :]
    return covariance


def _with_subpix(gray: Array, refined: RefinedCorners) -> RefinedCorners:
    """Refine by cornerSubPix the corners that edges did not give."""
    corners, fallen = refined.corners.copy(), ~refined.by_edges
    window = np.clip(np.round(_sides(refined.corners).min(axis=1) / 7 * 0.7), 2, 5)
    for size in np.unique(window[fallen.any(axis=1)]).astype(int):
        chosen = fallen & (window == size)[:, None]
        corners[chosen] = subpix(gray, corners[chosen], int(size))
    return replace(refined, corners=corners)


def subpix(gray: Array, corners: FloatArray, window: int) -> FloatArray:
    """Return corners (n x 2, px) by cv2.cornerSubPix; those that leave the window stay."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01)
    height, width = gray.shape
    known = np.isfinite(corners).all(axis=1) & (corners >= 0).all(axis=1)
    known &= (corners[:, 0] <= width - 1) & (corners[:, 1] <= height - 1)
    moved = corners.copy()
    if known.any():
        moved[known] = cv2.cornerSubPix(
            gray, corners[known].astype(np.float32).reshape(-1, 1, 2), (window, window),
            (-1, -1), criteria).reshape(-1, 2)
    stays = np.abs(moved - corners).max(axis=1, initial=0.0) > window
    return np.where(stays[:, None], corners, moved)


def _sides(corners: FloatArray) -> FloatArray:
    """Return the lengths (n x 4) of the sides that begin at each corner."""
    along = corners[:, _NEXT] - corners
    length: FloatArray = np.sqrt(along[..., 0] ** 2 + along[..., 1] ** 2)
    return length
