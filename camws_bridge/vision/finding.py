"""The front end: image after image to markers with corners as good as their edges allow."""
from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np

from camws_bridge.models import Array, CameraModel, Detection, FloatArray
from camws_bridge.vision.cells import CellReader
from camws_bridge.vision.detection import (
    CORRECTION_RATE, get_dictionary, MarkerDetector, PyramidDetector)
from camws_bridge.vision.edges import EdgeShift, measure_shift, refine_corners, RefinedCorners
from camws_bridge.vision.tracking import Searcher, Tracker, TrackingOptions

# A marker that is followed may be this far (px) from where it is expected.
_FOLLOWED_REACH_PX = 6.0
# The share of a border's cells that may be wrong: OpenCV's own.
_BORDER_RATE = 0.35
# Refined again when what the same image taught about its edge shift differs by more (px).
_SHIFT_CHANGE_PX = 0.02


class MarkerFinder:
    """
    Finds the markers of a camera's images and refines their corners.

    It remembers the last image: markers are followed from image to image, and the edge shift that
    all have in common is learned (see ``vision/edges.py``).
    """

    def __init__(self, dictionary: str, refinement: str = 'edges', min_perimeter_px: float = 44.0,
                 parameters: Mapping[str, float] | None = None,
                 tracking: TrackingOptions | None = None, learn_shift: bool = True) -> None:
        """
        Make the finder.

        ``refinement`` is edges, subpix, contour or none; ``parameters`` are attributes of
        cv2.aruco.DetectorParameters. Without ``learn_shift`` the edge shift is taken for zero.
        """
        tracking = tracking or TrackingOptions()
        self._by_edges = refinement == 'edges'
        own = 'none' if self._by_edges else refinement
        parameters = dict(parameters or {})
        follow = {**parameters, 'errorCorrectionRate': tracking.error_correction_rate}
        self._cells = CellReader(get_dictionary(dictionary),
                                 int(parameters.get('markerBorderBits', 1)))
        # Corners that are refined afterwards may be coarse.
        search: Searcher = (
            PyramidDetector(dictionary, min_perimeter_px, parameters) if self._by_edges
            else MarkerDetector(dictionary, own, min_perimeter_px, parameters))
        self._tracker = Tracker(
            search, MarkerDetector(dictionary, own, min_perimeter_px, follow), tracking)
        self._rates = (float(parameters.get('errorCorrectionRate', CORRECTION_RATE)),
                       tracking.error_correction_rate)
        self._border_rate = float(parameters.get('maxErroneousBitsInBorderRate', _BORDER_RATE))
        self._learn_shift = learn_shift
        self.edge_shift = EdgeShift()

    def find(self, gray: Array, camera: CameraModel | None = None) -> tuple[Detection, ...]:
        """
        Return every marker of the next image (h, w, uint8), by id; an id may stand twice.

        With ``camera`` edges are straight as the lens bends them. Raises ValueError for an image
        of another kind.
        """
        if gray.ndim != 2 or gray.dtype != np.uint8:
            raise ValueError(f'an image of shape {gray.shape}, {gray.dtype} is not allowed; '
                             'allowed: (height, width), uint8')
        known = frozenset(self._tracker.ids())
        found = self._find(gray, camera) if self._by_edges else self._tracker.detect(gray)
        holds = self._holds(gray, found, known)
        self._tracker.correct([one if is_one else None for one, is_one in zip(found, holds)])
        return tuple(one for one, is_one in zip(found, holds) if is_one)

    def _holds(self, gray: Array, found: Sequence[Detection], known: Set[int]) -> Array:
        """
        Tell which detections are the markers they are said to be, by their own corners.

        OpenCV 5 counts a cell that is half white as right, whatever it should be, and finds
        markers in anything that has corners.
        """
        if not found:
            return np.zeros(0, bool)
        searched, followed = self._rates
        return self._cells.holds(
            gray, _stack([one.corners for one in found]), [one.marker_id for one in found],
            np.array([followed if one.marker_id in known else searched for one in found]),
            self._border_rate)

    def _find(self, gray: Array, camera: CameraModel | None) -> Sequence[Detection]:
        """Return all markers, their corners refined by their edges."""
        def follow(expected: Sequence[Detection]) -> list[Detection | None]:
            return self._follow(gray, camera, expected)

        searched = self._tracker.searched
        found = self._tracker.detect(gray, follow)
        raw = [index for index, detection in enumerate(found) if detection.covariance is None]
        refined = list(found)
        for index, detection in zip(raw, self._refine(gray, camera, [found[i] for i in raw])):
            refined[index] = detection
        if self._learn_shift and self._tracker.searched > searched:
            refined = self._learn(gray, camera, refined)
        return refined

    def _follow(self, gray: Array, camera: CameraModel | None, expected: Sequence[Detection]
                ) -> list[Detection | None]:
        """Return the expected markers whose edges and cells are where they are expected."""
        corners = np.array([detection.corners for detection in expected])
        fit = refine_corners(gray, corners, camera, self.edge_shift.px, self._cells.modules,
                             _FOLLOWED_REACH_PX, fall_back=False)
        agrees = self._cells.agrees(gray, fit.corners, [one.marker_id for one in expected])
        agrees &= fit.by_edges.all(axis=1)
        return [detection if agrees[index] else None
                for index, detection in enumerate(_with_corners(expected, fit))]

    def _refine(self, gray: Array, camera: CameraModel | None, found: Sequence[Detection]
                ) -> list[Detection]:
        if not found:
            return []
        corners = np.array([detection.corners for detection in found])
        return _with_corners(found, refine_corners(
            gray, corners, camera, self.edge_shift.px, self._cells.modules))

    def _learn(self, gray: Array, camera: CameraModel | None, found: list[Detection]
               ) -> list[Detection]:
        good = [detection.corners for detection in found if detection.by_edges == 4]
        if not good:
            return found
        before = self.edge_shift.px
        self.edge_shift.learn(measure_shift(
            gray, _stack(good), camera, self._cells.modules, before))
        if abs(self.edge_shift.px - before) < _SHIFT_CHANGE_PX:
            return found
        return self._refine(gray, camera, found)


def _with_corners(found: Sequence[Detection], fit: RefinedCorners) -> list[Detection]:
    counts = fit.by_edges.sum(axis=1)
    return [Detection(detection.marker_id, corners, covariance, residual if count else None, count)
            for detection, corners, covariance, residual, count in zip(
                found, fit.corners, fit.covariance, fit.residual.tolist(), counts.tolist())]


def _stack(corners: Sequence[FloatArray]) -> FloatArray:
    return np.array(corners)
