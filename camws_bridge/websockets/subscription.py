"""
A client's place in the streams: which variant it gets, and what becomes of that over time.

Used on the loop's thread.
"""
from __future__ import annotations

from camws_bridge.metrics import Metrics
from camws_bridge.models import Variant
from camws_bridge.websockets.adaptation import Adaptation, Delivery, rungs
from camws_bridge.websockets.options import ClientOptions, OptionError
from camws_bridge.websockets.stream_client import StreamClient, Transport
from camws_bridge.websockets.streaming_service import StreamingService
from camws_bridge.websockets.variants import choose_variant


class TooManyVariantsError(OptionError):
    """So many different settings of the stream are in use that another one cannot be had."""


class Subscription:
    """
    One client of one stream, from ``open`` to ``close``.

    ``options`` is what was asked for; an adaptive client may be given less (``in_force``).
    """

    def __init__(self, streaming: StreamingService, metrics: Metrics, transport: Transport,
                 stream_id: str, options: ClientOptions, framed: bool = False,
                 content_type: str | None = None) -> None:
        """
        Choose the variant; nothing is sent before ``open``.

        ``framed`` and ``content_type`` as in ``choose_variant``. Raises TooManyVariantsError.
        """
        self.options = options
        self._streaming, self._metrics = streaming, metrics
        self._framed, self._content_type = framed, content_type
        self._adaptation = Adaptation()
        self.variant = Variant(stream_id)
        self.variant = self._variant_for(options)
        self.client = StreamClient(transport, stream_id, options, metrics, streaming.wake)

    @property
    def stream_id(self) -> str:
        """The stream that is watched."""
        return self.variant.stream_id

    @property
    def in_force(self) -> ClientOptions:
        """What the client gets now."""
        return self.client.options

    def open(self) -> None:
        """Subscribe: the newest message there is goes out at once."""
        self._streaming.connect(self.variant, self.client)

    def close(self) -> None:
        """Unsubscribe."""
        self._streaming.disconnect(self.variant, self.client)

    def configure(self, options: ClientOptions) -> None:
        """Change what the client asks for; raises TooManyVariantsError and changes nothing."""
        variant = self._variant_for(options)
        self.options = options
        self._adaptation = Adaptation()
        self._switch(options, variant)

    def adapt(self, now: float) -> bool:
        """
        Give an adaptive client less, or more again, if it is time to (seconds, monotonic clock).

        Return whether ``in_force`` has changed.
        """
        frame = self._streaming.newest_frame
        if not self.options.adaptive or frame is None:
            return False
        steps = rungs(self.options, *self._streaming.own_size(self.stream_id))
        delivery = Delivery(self.client.busy_seconds(now), frame.seq, self.client.sent)
        before = self._adaptation.level
        if not self._adaptation.update(now, delivery, steps):
            return False
        options = steps[self._adaptation.level][0]
        try:
            self._switch(options, self._variant_for(options))
        except TooManyVariantsError:
            self._adaptation.level = before
            return False
        went_down = self._adaptation.level > before
        self._metrics.adaptations.labels('down' if went_down else 'up').inc()
        return True

    def _variant_for(self, options: ClientOptions) -> Variant:
        variant = choose_variant(self.stream_id, options, self._framed, self._content_type)
        if not self._streaming.has_room_for(variant):
            raise TooManyVariantsError(
                f'too many different settings of {self.stream_id} are in use')
        return variant

    def _switch(self, options: ClientOptions, variant: Variant) -> None:
        is_other = variant != self.variant
        self.client.configure(options, is_other)
        if is_other:
            self._streaming.disconnect(self.variant, self.client)
            self.variant = variant
            self._streaming.connect(variant, self.client)
