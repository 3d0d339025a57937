"""
The event bus: who makes something known does not know who listens.

Handlers run at once, on the thread of the publisher, in the order of subscription.
"""
from __future__ import annotations

from collections.abc import Callable
import logging
from typing import Any, Generic, TypeVar

from camws_bridge.models import Array, Frame, TransformsSnapshot

T = TypeVar('T')
log = logging.getLogger(__name__)


class Event(Generic[T]):
    """A name for something that happens, typed by the value that goes with it."""

    def __init__(self, name: str) -> None:
        """Name the event as it shall appear in logs."""
        self.name = name


# A camera image arrived (ROS thread), with its depth image if that came before it.
IMAGE_RECEIVED: Event[Frame] = Event('IMAGE_RECEIVED')
# The depth image of an earlier frame arrived: that frame again, now with depth (ROS thread).
DEPTH_PAIRED: Event[Frame] = Event('DEPTH_PAIRED')
# All poses of one image are known (processing thread).
TRANSFORMS_COMPUTED: Event[TransformsSnapshot] = Event('TRANSFORMS_COMPUTED')
# The overlay was drawn for a ROS subscriber: the frame and its BGR picture (processing thread).
OVERLAY_DRAWN: Event[tuple[Frame, Array]] = Event('OVERLAY_DRAWN')
# Somebody came or went: what is wanted may have changed (the loop's thread).
DEMAND_CHANGED: Event[None] = Event('DEMAND_CHANGED')


class EventBus:
    """Connects publishers and handlers; one failing handler never stops the others."""

    def __init__(self, on_error: Callable[[Event[Any], Exception], None] | None = None) -> None:
        """``on_error`` is told of a handler's exception (default: it is logged)."""
        self._handlers: dict[Event[Any], tuple[Callable[[Any], None], ...]] = {}
        self._on_error = on_error or _log_error

    def subscribe(self, event: Event[T], handler: Callable[[T], None]) -> None:
        """Call ``handler`` with the value of every later ``event``."""
        self._handlers[event] = (*self._handlers.get(event, ()), handler)

    def publish(self, event: Event[T], value: T) -> None:
        """Hand ``value`` to every handler; their exceptions go to ``on_error``."""
        for handler in self._handlers.get(event, ()):
            try:
                handler(value)
            except Exception as error:  # the boundary that keeps handlers apart
                self._on_error(event, error)


def _log_error(event: Event[Any], error: Exception) -> None:
    log.error('a handler of %s failed: %s', event.name, error, exc_info=error)
