"""What the products of one frame share, each made once, when the first product asks for it."""
from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from camws_bridge.models import Array, Frame, Variant
from camws_bridge.settings import Settings
from camws_bridge.vision import encoding, pixel_formats

T = TypeVar('T')


class FrameContext:
    """
    One frame, the settings in force for it, and a memory of what was made of it.

    Used by the processing thread only.
    """

    def __init__(self, frame: Frame, settings: Settings) -> None:
        """Start with nothing made."""
        self.frame = frame
        self.settings = settings
        # The variants whose messages of this frame are on their way.
        self.handed_over: set[Variant] = set()
        self._made: dict[Hashable, Any] = {}

    def add_depth(self, frame: Frame) -> None:
        """Take the same frame again, now with its depth image; what was made stays."""
        self.frame = frame
        # What could not be made may be possible now.
        self._made = {key: made for key, made in self._made.items() if made is not None}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` returned the first time ``key`` was asked for."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    def made(self, key: Hashable) -> Any:
        """Return what was made under ``key``; None when nothing was."""
        return self._made.get(key)

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
