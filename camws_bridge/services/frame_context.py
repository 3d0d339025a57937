"""What the products of one frame share, each made once, when the first product asks for it."""
from __future__ import annotations

from collections.abc import Callable, Hashable
import threading
from typing import Any, TypeVar

from camws_bridge.models import Array, Frame, Variant
from camws_bridge.settings import Settings
from camws_bridge.vision import encoding, pixel_formats

T = TypeVar('T')


class _Cell:
    """What is made under one key: once, by whoever asks first; the others wait for it."""

    __slots__ = ('is_made', 'lock', 'value')

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_made = False
        self.value: Any = None


class FrameContext:
    """
    One frame, the settings in force for it, and a memory of what was made of it.

    Several threads may make products of it side by side.
    """

    def __init__(self, frame: Frame, settings: Settings) -> None:
        """Start with nothing made."""
        self.frame = frame
        self.settings = settings
        self._lock = threading.Lock()
        self._cells: dict[Hashable, _Cell] = {}
        self._claimed: set[Variant] = set()

    def add_depth(self, frame: Frame) -> None:
        """Take the same frame again, now with its depth image; what was made stays."""
        with self._lock:
            self.frame = frame
            # What could not be made may be possible now.
            self._cells = {key: cell for key, cell in self._cells.items()
                           if not cell.is_made or cell.value is not None}

    def claim(self, variant: Variant) -> bool:
        """Return True to the first who wants to make the message of a variant."""
        with self._lock:
            is_first = variant not in self._claimed
            self._claimed.add(variant)
            return is_first

    def is_claimed(self, variant: Variant) -> bool:
        """Tell whether the message of a variant is made or being made."""
        return variant in self._claimed

    def give_back(self, variant: Variant) -> None:
        """Take a claim back: there was nothing to be made of it yet."""
        with self._lock:
            self._claimed.discard(variant)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` returned the first time ``key`` was asked for."""
        with self._lock:
            cell = self._cells.get(key)
            if cell is None:
                cell = self._cells[key] = _Cell()
        with cell.lock:
            if not cell.is_made:
                cell.value = make()
                cell.is_made = True
            made: T = cell.value
            return made

    def made(self, key: Hashable) -> Any:
        """Return what was made under ``key``; None when nothing was."""
        cell = self._cells.get(key)
        return cell.value if cell else None

    @property
    def viewable(self) -> Array:
        """The picture as BGR (h, w, 3) or gray (h, w), uint8; read only."""
        return self.once('viewable', self._make_viewable)

    @property
    def gray(self) -> Array:
        """The brightness (h, w), uint8; read only."""
        return self.once('gray', self._make_gray)

    def _make_viewable(self) -> Array:
        frame = self.frame
        if frame.pixels is not None:
            return pixel_formats.to_viewable(frame.pixels, frame.encoding)
        assert frame.encoded is not None
        return encoding.decode(frame.encoded.data)

    def _make_gray(self) -> Array:
        frame = self.frame
        if frame.pixels is not None:
            return pixel_formats.to_gray(frame.pixels, frame.encoding)
        assert frame.encoded is not None
        # JPEG stores brightness apart from colour: decoding it alone costs half.
        return encoding.decode(frame.encoded.data, gray=True)
