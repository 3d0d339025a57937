"""
The AprilTag library (pupil-apriltags) in a process of its own.

Once in some thousand pictures its process dies of a damaged heap; so it can neither damage what
else is measured nor end the benchmark.
"""
from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from importlib import import_module
from multiprocessing import get_context
import sys
from typing import Any

import numpy as np

from camws_bridge.models import Array, FloatArray

Tags = list[tuple[int, FloatArray]]


class TagFinder:
    """Finds tags of the family 36h11 with the library that lies in a folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._pool: ProcessPoolExecutor | None = None

    def find(self, image: Array) -> Tags:
        """
        Return ids and corners (4 x 2, in the library's order and pixels) of a picture's tags.

        A picture on which the process dies twice has none.
        """
        for _ in range(2):
            if self._pool is None:
                # Not forked: a copy of this process would have its threads' locks, but no threads.
                self._pool = ProcessPoolExecutor(1, get_context('spawn'))
            try:
                return self._pool.submit(_find, self._folder, image).result()
            except BrokenProcessPool:
                self.close()
        return []

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _find(folder: str, image: Array) -> Tags:
    return [(int(tag.tag_id), np.array(tag.corners)) for tag in _detector(folder).detect(image)]


@cache
def _detector(folder: str) -> Any:
    sys.path.append(folder)
    # Its default halves the picture, which costs recall of small markers; corners are refined in
    # the whole picture anyway.
    return import_module('pupil_apriltags').Detector(
        families='tag36h11', nthreads=1, quad_decimate=1.0)
