"""Finding ArUco and AprilTag markers in a gray image."""
from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from camws_bridge.models import Array, Detection

# What every supported OpenCV needs to find all markers: 4.12 to 5.0 drop a whole group of
# candidates when its largest lies near the image's edge, and 5.0's own bit threshold costs recall.
_ROBUST = {'minMarkerDistanceRate': 0.05, 'minDistanceToBorder': 1, 'validBitIdThreshold': 0.5,
           # OpenCV's own 0.3 leaves a window of 1 px on small markers, which doubles the error
           # of their corners (the spelling is OpenCV's).
           'relativeCornerRefinmentWinSize': 0.7}
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


class MarkerDetector:
    """cv2.aruco.ArucoDetector with parameters that work out of the box."""

    def __init__(self, dictionary: str, refinement: str = 'subpix', min_perimeter_px: float = 52.0,
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
                setattr(self._parameters, name, value)
        self._parameters.cornerRefinementMethod = _REFINEMENTS[refinement]
        self._min_perimeter_px = min_perimeter_px
        self._image_side = 0
        self._detector = cv2.aruco.ArucoDetector(get_dictionary(dictionary), self._parameters)

    def detect(self, gray: Array) -> tuple[Detection, ...]:
        """Return every marker in an image (h, w, uint8), by id; an id may stand twice."""
        self._adapt_to_size(max(gray.shape))
        corners, ids, _ = self._detector.detectMarkers(gray)
        if ids is None:
            return ()
        found = (Detection(int(marker_id), np.asarray(quad, np.float64).reshape(4, 2))
                 for marker_id, quad in zip(np.ravel(ids), corners))
        return tuple(sorted(found, key=lambda detection: detection.marker_id))

    def _adapt_to_size(self, side: int) -> None:
        # OpenCV takes the shortest perimeter relative to the image's longer side.
        if side != self._image_side:
            self._image_side = side
            self._parameters.minMarkerPerimeterRate = min(1.0, self._min_perimeter_px / side)
            self._detector.setDetectorParameters(self._parameters)
