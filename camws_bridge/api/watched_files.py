"""Notices that files have changed, by looking now and then."""
from __future__ import annotations

from collections.abc import Iterable
import os

_Signature = tuple[tuple[int, int, int] | None, ...]


class WatchedFiles:
    """
    Some files, looked at by ``has_changed``.

    A change counts when two looks in a row see the same: a file that is being written is left
    alone until that is done.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        """Take the files as they are now for known."""
        self._paths = tuple(path for path in paths if path)
        self._known = self._seen = self._look()

    def has_changed(self) -> bool:
        """Tell, once, that a change has come to rest."""
        now = self._look()
        at_rest, self._seen = now == self._seen, now
        if not at_rest or now == self._known:
            return False
        self._known = now
        return True

    def take_as_known(self) -> None:
        """Take the files as they are now for known: they have just been read."""
        self._known = self._seen = self._look()

    def _look(self) -> _Signature:
        return tuple(map(_signature, self._paths))


def _signature(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
