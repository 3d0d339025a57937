"""The one hand-over primitive of the bridge: only the newest value waits."""
from __future__ import annotations

from collections.abc import Callable, Hashable
import threading
from typing import Generic, TypeVar

K = TypeVar('K', bound=Hashable)
T = TypeVar('T')


class LatestSlots(Generic[K, T]):
    """
    Holds at most one value by key; a new one replaces what was not yet taken.

    Safe to use from several threads.
    """

    def __init__(self, age: Callable[[T], int] | None = None) -> None:
        """Start empty; with ``age`` (greater is newer) an older value never replaces a newer."""
        self._age = age
        self._lock = threading.Lock()
        self._values: dict[K, T] = {}

    def put(self, key: K, value: T) -> tuple[bool, T | None]:
        """
        Leave ``value`` for the taker.

        Returns whether all slots were empty before, so that the taker must be woken, and the
        value that will not be taken (None: the slot was empty).
        """
        with self._lock:
            was_empty = not self._values
            replaced = self._values.get(key)
            if replaced is not None and self._age and self._age(replaced) > self._age(value):
                return was_empty, value
            self._values[key] = value
            return was_empty, replaced

    def take_all(self) -> dict[K, T]:
        """Return what waits and empty all slots."""
        with self._lock:
            values, self._values = self._values, {}
            return values


class LatestSlot(Generic[T]):
    """One slot: see LatestSlots."""

    def __init__(self) -> None:
        """Start empty."""
        self._slots: LatestSlots[None, T] = LatestSlots()

    def put(self, value: T) -> T | None:
        """Leave ``value`` for the taker; return the value it replaced, if any."""
        return self._slots.put(None, value)[1]

    def take(self) -> T | None:
        """Return the value and empty the slot; None when there is none."""
        return self._slots.take_all().get(None)
