"""Finding ArUco and AprilTag markers in a gray image."""
from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from camws_bridge.models import Array, Detection
from camws_bridge.vision.cells import CellReader

# The share of the bits that a dictionary can correct which is corrected.
CORRECTION_RATE = 0.6
# What every supported OpenCV needs to find all markers: 4.12 to 5.0 drop a whole group of
# candidates when its largest lies near the image's edge, and 5.0's own bit threshold costs recall.
# Two windows of the adaptive threshold find what OpenCV's three do, in less time.
_ROBUST = {'minMarkerDistanceRate': 0.05, 'minDistanceToBorder': 1, 'validBitIdThreshold': 0.5,
           'adaptiveThreshWinSizeMin': 7, 'adaptiveThreshWinSizeMax': 23,
           'adaptiveThreshWinSizeStep': 16, 'adaptiveThreshConstant': 7.0,
           'perspectiveRemovePixelPerCell': 4, 'perspectiveRemoveIgnoredMarginPerCell': 0.25,
           'errorCorrectionRate': CORRECTION_RATE,
           # OpenCV's own 0.3 leaves a window of 1 px on small markers, which doubles the error
           # of their corners (the spelling is OpenCV's).
           'relativeCornerRefinmentWinSize': 0.7}
# Images whose gray values deviate by less than this are dark; the constant of their threshold is
# lowered by as much, down to this share of it.
_DARK, _LEAST_CONSTANT = 14.0, 0.75
_REFINEMENTS = {
    'none': cv2.aruco.CORNER_REFINE_NONE,
    'subpix': cv2.aruco.CORNER_REFINE_SUBPIX,
    'contour': cv2.aruco.CORNER_REFINE_CONTOUR,
}


def check_opencv() -> None:
    """Raise RuntimeError when this OpenCV is too old for us."""
    if not hasattr(cv2, 'aruco') or not hasattr(cv2.aruco, 'ArucoDetector'):
        raise RuntimeError(
            f'OpenCV {cv2.__version__} has no cv2.aruco.ArucoDetector: OpenCV 4.8 or newer with '
            'the aruco module is needed (pip install "opencv-contrib-python-headless>=4.8")')


def dictionary_names() -> tuple[str, ...]:
    """Return the names of OpenCV's predefined marker dictionaries."""
    return tuple(sorted(name for name in dir(cv2.aruco) if name.startswith('DICT_')))


def get_dictionary(name: str) -> cv2.aruco.Dictionary:
    """Return OpenCV's dictionary of that name; raises ValueError that lists the names."""
    if name not in dictionary_names():
        raise ValueError(f"'{name}' is not a marker dictionary; allowed: "
                         f'{", ".join(dictionary_names())}')
    return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))


def check_parameters(parameters: Mapping[str, float]) -> None:
    """Raise ValueError for what is no attribute of this OpenCV's DetectorParameters."""
    target = cv2.aruco.DetectorParameters()
    for name, value in parameters.items():
        if name.startswith('_') or not isinstance(getattr(target, name, None), (int, float)):
            allowed = sorted(known for known in dir(target) if not known.startswith('_')
                             and isinstance(getattr(target, known), (int, float)))
            raise ValueError(f"'{name}' is no parameter of OpenCV {cv2.__version__}'s detector; "
                             f'allowed: {", ".join(allowed)}')
        try:
            _set(target, name, value)
            # OpenCV looks at most of them only when it is at work.
            cv2.aruco.ArucoDetector(get_dictionary('DICT_4X4_50'), target).detectMarkers(
                np.zeros((64, 64), np.uint8))
        except (cv2.error, TypeError, OverflowError) as error:
            raise ValueError(f"'{name}:{value:g}' is not allowed: {error}") from None


def _set(parameters: cv2.aruco.DetectorParameters, name: str, value: float) -> None:
    # OpenCV tells whole numbers and flags from others.
    kind = type(getattr(parameters, name))
    if kind is not float and value != int(value):
        raise TypeError(f'{name} takes whole numbers')
    setattr(parameters, name, kind(value))


class MarkerDetector:
    """cv2.aruco.ArucoDetector with parameters that work out of the box."""

    def __init__(self, dictionary: str, refinement: str = 'subpix', min_perimeter_px: float = 44.0,
                 parameters: Mapping[str, float] | None = None) -> None:
        """
        Make the detector.

        ``refinement`` is none, subpix or contour; ``min_perimeter_px`` the shortest marker outline
        looked at; ``parameters`` are attributes of cv2.aruco.DetectorParameters.
        """
        self._parameters = cv2.aruco.DetectorParameters()
        for name, value in {**_ROBUST, **(parameters or {})}.items():
            # Not every supported OpenCV has every parameter.
            if hasattr(self._parameters, name):
                _set(self._parameters, name, value)
        self._parameters.cornerRefinementMethod = _REFINEMENTS[refinement]
        self._min_perimeter_px = min_perimeter_px
        self._perimeter_rate = 0.0
        known = get_dictionary(dictionary)
        self._detector = cv2.aruco.ArucoDetector(known, self._parameters)
        self._cells = CellReader(known, self._parameters.markerBorderBits)

    def detect(self, gray: Array, min_perimeter_px: float | None = None
               ) -> tuple[Detection, ...]:
        """
        Return every marker in an image (h, w, uint8), by id; an id may stand twice.

        ``min_perimeter_px`` replaces the detector's own for this image.
        """
        if not gray.size:
            return ()
        self._look_for((min_perimeter_px or self._min_perimeter_px) / max(gray.shape))
        corners, ids, _ = self._detector.detectMarkers(gray)
        if ids is None:
            return ()
        found = [Detection(int(marker_id), np.asarray(quad, np.float64).reshape(4, 2))
                 for marker_id, quad in zip(np.ravel(ids), corners)]
        # OpenCV 5 takes the white around a marker for another marker now and then.
        has_border = self._cells.has_border(
            gray, np.array([detection.corners for detection in found]),
            [detection.marker_id for detection in found], self._parameters.detectInvertedMarker)
        found = [detection for detection, is_one in zip(found, has_border) if is_one]
        return tuple(sorted(_each_once(found), key=lambda detection: detection.marker_id))

    def set_threshold_constant(self, constant: float) -> None:
        """Change the constant of the adaptive threshold (gray values)."""
        if constant != self._parameters.adaptiveThreshConstant:
            self._parameters.adaptiveThreshConstant = constant
            self._detector.setDetectorParameters(self._parameters)

    def _look_for(self, perimeter_rate: float) -> None:
        # OpenCV takes the shortest perimeter relative to the image's longer side.
        if perimeter_rate != self._perimeter_rate:
            self._perimeter_rate = perimeter_rate
            self._parameters.minMarkerPerimeterRate = min(1.0, perimeter_rate)
            self._detector.setDetectorParameters(self._parameters)


def _each_once(found: list[Detection]) -> list[Detection]:
    """Leave out the smaller of two outlines of one marker, such as its border's inner one."""
    if len({detection.marker_id for detection in found}) == len(found):
        return found
    kept: list[Detection] = []
    for detection in sorted(found, key=_perimeter, reverse=True):
        centre = detection.corners.mean(axis=0)
        if not any(other.marker_id == detection.marker_id
                   and np.abs(other.corners.mean(axis=0) - centre).max() < _perimeter(other) / 16
                   for other in kept):
            kept.append(detection)
    return kept


class PyramidDetector:
    """
    Finds small markers in the image and large ones in the image at half size.

    Of the windows of the adaptive threshold, the smallest is used in the image itself and half
    the largest in the smaller one, where it costs a quarter. In dark images, of little contrast,
    the constant of the threshold is lowered. Corners are as coarse as pixels of two: refine them.
    """

    def __init__(self, dictionary: str, min_perimeter_px: float = 44.0,
                 parameters: Mapping[str, float] | None = None) -> None:
        """Make the detector; ``min_perimeter_px`` and ``parameters`` as in MarkerDetector."""
        given = {**_ROBUST, **(parameters or {})}
        small, large = given['adaptiveThreshWinSizeMin'], given['adaptiveThreshWinSizeMax']
        half = max(3, int(large / 2) // 2 * 2 + 1)
        self._fine, self._coarse = (
            MarkerDetector(dictionary, 'none', min_perimeter_px, {
                **given, 'adaptiveThreshWinSizeMin': window, 'adaptiveThreshWinSizeMax': window})
            for window in (small, half))
        self._constant = given['adaptiveThreshConstant']

    def detect(self, gray: Array) -> tuple[Detection, ...]:
        """Return every marker in an image (h, w, uint8), by id; an id may stand twice."""
        height, width = gray.shape
        if min(height, width) < 2:
            return ()
        half = cv2.resize(gray[:height // 2 * 2, :width // 2 * 2], (width // 2, height // 2),
                          interpolation=cv2.INTER_AREA)
        contrast = float(half[::4, ::4].std())
        constant = self._constant * min(1.0, max(_LEAST_CONSTANT, contrast / _DARK))
        for detector in (self._fine, self._coarse):
            detector.set_threshold_constant(constant)
        # Pixel 0 of the smaller image covers pixels 0 and 1 of the other.
        large = [Detection(found.marker_id, found.corners * 2 + 0.5)
                 for found in self._coarse.detect(half)]
        found = [*self._fine.detect(gray)]
        found += [one for one in large if not any(_is_same(one, other) for other in found)]
        return tuple(sorted(found, key=lambda detection: detection.marker_id))


def _is_same(a: Detection, b: Detection) -> bool:
    if a.marker_id != b.marker_id:
        return False
    gap = np.abs((a.corners - b.corners).sum(axis=0)).max() / 4
    return bool(gap < max(_perimeter(a), _perimeter(b)) / 16)


def _perimeter(detection: Detection) -> float:
    return float(cv2.arcLength(detection.corners.astype(np.float32), True))
