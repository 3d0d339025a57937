"""
Following markers from image to image.

A search of the whole image costs several times more than a look where the markers must be by now:
regions of interest around the last corners, moved by their last motion. The whole image is
searched first, every so many images, whenever a marker is not where it should be, and for a while
after one was lost.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import math
from typing import Protocol

import cv2
import numpy as np

from camws_bridge.models import Array, Detection, FloatArray
from camws_bridge.vision.detection import MarkerDetector

# A region is the marker's box and this share of its side (and px) all round: as far as it may
# move unforeseen and still be seen whole, with the white around it.
_MARGIN_SHARE, _MARGIN_PX = 0.3, 6.0
# It grows with the marker's speed, since who moves may turn.
_MARGIN_OF_SPEED = 0.75
# A detection belongs to a track when it is at most this share of the side from where it should be.
_NEAR_SHARE = 1.0
# Regions are shrunk until sides are about this long (px): corners are refined elsewhere.
_ENOUGH_SIDE = 44.0
# Regions that together cover more than this share of the image are no shortcut.
_MOST_OF_IMAGE = 0.5

Box = tuple[int, int, int, int]     # x0, y0, x1, y1


@dataclass(frozen=True, slots=True)
class TrackingOptions:
    """
    How markers are followed.

    ``enabled``: False searches the whole image every time. It is also searched every
    ``search_every`` images, and in each of ``search_after_loss`` images after a loss.
    ``error_correction_rate`` is that of OpenCV's detector where a marker is known to be.
    """

    enabled: bool = True
    search_every: int = 10
    search_after_loss: int = 30
    error_correction_rate: float = 0.9


# Returns for each marker where it is expected the one that is there, or None.
Follow = Callable[[Sequence[Detection]], 'list[Detection | None]']


@dataclass(frozen=True, slots=True, eq=False)
class _Track:
    marker_id: int
    corners: FloatArray
    velocity: FloatArray        # px per image

    @property
    def side(self) -> float:
        return float(np.sqrt(np.sum((self.corners - np.roll(self.corners, 1, axis=0)) ** 2,
                                    axis=1)).max())

    @property
    def shortest_side(self) -> float:
        return float(np.sqrt(np.sum((self.corners - np.roll(self.corners, 1, axis=0)) ** 2,
                                    axis=1)).min())

    def predicted(self) -> _Track:
        return _Track(self.marker_id, self.corners + self.velocity, self.velocity)

    def region(self, shape: Sequence[int]) -> Box:
        margin = (_MARGIN_SHARE * self.side + _MARGIN_PX
                  + _MARGIN_OF_SPEED * float(np.abs(self.velocity).max()))
        low, high = self.corners.min(axis=0) - margin, self.corners.max(axis=0) + margin
        return (max(0, int(low[0])), max(0, int(low[1])),
                min(shape[1], int(high[0]) + 1), min(shape[0], int(high[1]) + 1))

    def distance(self, found: Detection) -> float:
        x, y = (found.corners - self.corners).sum(axis=0).tolist()
        return math.hypot(x, y) / 4


class Searcher(Protocol):
    """What looks through whole images."""

    def detect(self, gray: Array) -> tuple[Detection, ...]:
        """Return every marker in an image (h, w, uint8), by id; an id may stand twice."""


class Tracker:
    """
    Finds markers in image after image; remembers where they were.

    ``search`` looks through whole images; ``follow`` may be less strict, since it looks only
    where a marker is known to be and only that marker's id counts.
    """

    def __init__(self, search: Searcher, follow: MarkerDetector,
                 options: TrackingOptions | None = None) -> None:
        """Start without any track."""
        self._searcher, self._follower = search, follow
        self._options = options or TrackingOptions()
        self._tracks: list[_Track] = []
        self._shape: tuple[int, ...] = ()
        self._since_search = 0
        self._lost: set[int] = set()
        self._patience = 0
        self.searched = 0       # whole images searched so far

    def detect(self, gray: Array, follow: Follow | None = None) -> tuple[Detection, ...]:
        """
        Return every marker of the next image (h, w, uint8), by id; an id may stand twice.

        ``follow`` is asked first for markers that are expected; detectors look for the others.
        """
        if not self._options.enabled:
            return self._search_all(gray)
        if gray.shape != self._shape:
            self._shape, self._tracks, self._lost = gray.shape, [], set()
        expected = [track.predicted() for track in self._tracks]
        if self._must_search(expected):
            found = self._search_all(gray)
            missed = [track for track in expected
                      if not any(_is_same(track, detection) for detection in found)]
            found = _united(found, self._follow(gray, missed, follow))
        else:
            found = self._follow(gray, expected, follow)
            if len(found) < len(expected):
                found = _united(found, self._search_all(gray))
        found = tuple(sorted(found, key=lambda detection: detection.marker_id))
        self._remember(found)
        return found

    def correct(self, refined: Sequence[Detection | None]) -> None:
        """Take better corners of what ``detect`` just returned, in the same order; forget None."""
        self._tracks = [_Track(track.marker_id, found.corners, track.velocity)
                        for track, found in zip(self._tracks, refined) if found is not None]

    def ids(self) -> list[int]:
        """Return the ids of the markers that are followed."""
        return [track.marker_id for track in self._tracks]

    def _must_search(self, expected: Sequence[_Track]) -> bool:
        if not expected or self._patience > 0:
            return True
        return self._since_search + 1 >= self._options.search_every

    def _search_all(self, gray: Array) -> tuple[Detection, ...]:
        self.searched += 1
        self._since_search = -1
        return self._searcher.detect(gray)

    def _follow(self, gray: Array, expected: Sequence[_Track], follow: Follow | None
                ) -> tuple[Detection, ...]:
        """Return the expected markers that stand near where they are expected."""
        if not expected:
            return ()
        found: list[Detection | None] = [None] * len(expected)
        if follow is not None:
            found = follow([Detection(track.marker_id, track.corners) for track in expected])
        missed = [track for track, detection in zip(expected, found) if detection is None]
        regions, seen = self._regions(missed), []
        if sum(map(_area, regions)) > _MOST_OF_IMAGE * self._shape[0] * self._shape[1]:
            regions = []
        for region in regions:
            inside = [track for track in missed if _is_in(track, region)]
            if inside:
                seen += self._look(gray, region, inside)
        return (*(detection for detection in found if detection is not None),
                *_matched(missed, seen))

    def _look(self, gray: Array, region: Box, tracks: Sequence[_Track]) -> list[Detection]:
        x0, y0, x1, y1 = region
        part = gray[y0:y1, x0:x1]
        side = min(track.shortest_side for track in tracks)
        scale = max(1, int(side / _ENOUGH_SIDE))
        if scale > 1:
            size = (max(1, (x1 - x0) // scale), max(1, (y1 - y0) // scale))
            part = part[:size[1] * scale, :size[0] * scale]
            part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        # Pixel centres stand at integers: shrunk pixel 0 has its centre between those it covers.
        offset = np.array([x0, y0]) + (scale - 1) / 2
        return [Detection(found.marker_id, found.corners * scale + offset)
                for found in self._follower.detect(np.ascontiguousarray(part), 2 * side / scale)]

    def _regions(self, expected: Sequence[_Track]) -> list[Box]:
        regions: list[Box] = []
        for track in expected:
            region = track.region(self._shape)
            # Regions that overlap are one: nothing is looked at twice.
            while overlapping := [other for other in regions if _overlap(region, other)]:
                regions = [other for other in regions if other not in overlapping]
                region = _hull([region, *overlapping])
            if region[0] < region[2] and region[1] < region[3]:
                regions.append(region)
        return regions

    def _remember(self, found: Sequence[Detection]) -> None:
        before, self._tracks = self._tracks, []
        seen = {detection.marker_id for detection in found}
        lost = {track.marker_id for track in before} - seen
        if lost:
            self._patience = self._options.search_after_loss
        elif self._patience:
            self._patience -= 1
        self._lost = (self._lost | lost) - seen
        if not self._lost:
            self._patience = 0
        elif not self._patience:
            # It is gone for good; should it come back, the next search of all finds it.
            self._lost = set()
        self._since_search += 1
        for detection in sorted(found, key=lambda detection: detection.marker_id):
            olds = [track for track in before if track.marker_id == detection.marker_id]
            velocity = np.zeros(2)
            if olds:
                old = olds[0] if len(olds) == 1 else min(
                    olds, key=lambda track: track.distance(detection))
                velocity = (detection.corners - old.corners).sum(axis=0) / 4
            self._tracks.append(_Track(detection.marker_id, detection.corners, velocity))


def _matched(expected: Sequence[_Track], seen: Sequence[Detection]) -> tuple[Detection, ...]:
    found: list[Detection] = []
    for track in expected:
        near = [detection for detection in seen
                if _is_same(track, detection) and not any(detection is other for other in found)]
        if near:
            found.append(min(near, key=track.distance))
    return tuple(found)


def _is_same(track: _Track, detection: Detection) -> bool:
    return (track.marker_id == detection.marker_id
            and track.distance(detection) <= _NEAR_SHARE * track.side)


def _united(found: Sequence[Detection], more: Sequence[Detection]) -> tuple[Detection, ...]:
    """Return all of ``found`` and what is new in ``more``."""
    tracks = [_Track(detection.marker_id, detection.corners, np.zeros(2)) for detection in found]
    return (*found, *(detection for detection in more
                      if not any(_is_same(track, detection) for track in tracks)))


def _is_in(track: _Track, region: Box) -> bool:
    x, y = track.corners.mean(axis=0)
    return bool(region[0] <= x < region[2] and region[1] <= y < region[3])


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _hull(boxes: Sequence[Box]) -> Box:
    return (min(box[0] for box in boxes), min(box[1] for box in boxes),
            max(box[2] for box in boxes), max(box[3] for box in boxes))
