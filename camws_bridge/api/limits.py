"""How much one address, and all together, may take."""
from __future__ import annotations

from collections.abc import Callable
import time

from camws_bridge.api.addresses import is_among, visitor_key
from camws_bridge.api.refusals import Refusal
from camws_bridge.api.visitors import Bucket, Visitor, Visitors
from camws_bridge.metrics import Metrics
from camws_bridge.settings import LimitSettings, Settings

_CONNECT_BURST, _MESSAGE_BURST = 4.0, 2.0
_WRONG_TOKEN_BURST = 10.0
# Refused connections of one address that are told why, a second; a flood is not worth words.
_ANSWERS = 10.0
# A token file may hold more; who knows so many from one address is no guesser.
_MOST_KNOWN = 64


class Seat:
    """The place of one streaming client; given back once, however often it is left."""

    def __init__(self, leave: Callable[[], None]) -> None:
        """``leave`` gives it back."""
        self._leave: Callable[[], None] | None = leave

    def leave(self) -> None:
        """Give the place back."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class MessageLimit:
    """How fast one WebSocket client may send."""

    def __init__(self, limits: Limits) -> None:
        """Start with all that is allowed at once."""
        self._limits = limits
        self._bucket = Bucket()

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self._limits.settings.messages_per_second

    def take(self) -> bool:
        """Count a message; False when it is one too many."""
        if self._bucket.take(self._limits.clock(), self.rate, _MESSAGE_BURST * self.rate):
            self._limits.count('message_rate')
            return False
        return True


class Limits:
    """Counts who is there, and says who is one too many. Used on the loop's thread."""

    def __init__(self, settings: Callable[[], Settings], metrics: Metrics,
                 clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives monotonic seconds."""
        self.visitors = Visitors()
        self.clock = clock
        self._all_settings = settings
        self._metrics = metrics
        self._connections = 0
        self._clients = 0

    @property
    def settings(self) -> LimitSettings:
        """The limits now in force."""
        return self._all_settings().limits

    def count(self, reason: str) -> None:
        """Count a refusal."""
        self._metrics.refused.labels(reason).inc()

    # -- connections --------------------------------------------------------------------------

    def connect(self, address: str) -> Refusal | None:
        """Count a new connection; a refusal says why it must be closed, and counts nothing."""
        visitor = self._find(address)
        refusal = self._too_many(visitor, address) or self._too_fast(visitor, address)
        if refusal is not None:
            self.count(refusal.code)
            return refusal
        self._change(visitor, connections=1)
        return None

    def is_worth_an_answer(self, address: str) -> bool:
        """Tell whether a refused connection should be told why: the first ones of a flood."""
        return not self._find(address).answers.take(self.clock(), _ANSWERS, 2 * _ANSWERS)

    def disconnect(self, address: str) -> None:
        """Forget a connection that ``connect`` has counted."""
        self._change(self._find(address), connections=-1)

    def pass_on(self, address: str) -> Refusal | None:
        """Count a request that a proxy has passed on for an address as a connection of its."""
        refusal = self._too_fast(self._find(address), address)
        if refusal is not None:
            self.count(refusal.code)
        return refusal

    def _too_many(self, visitor: Visitor, address: str) -> Refusal | None:
        limits = self.settings
        if self._connections - self._clients >= limits.connections:
            return Refusal(503, 'connections', 'too many connections are open', 1.0)
        own = visitor.connections - visitor.clients
        if own >= limits.connections_per_address and not self._is_exempt(address):
            return Refusal(429, 'connections_per_address',
                           'too many connections of your address are open', 1.0)
        return None

    def _too_fast(self, visitor: Visitor, address: str) -> Refusal | None:
        if self._is_exempt(address):
            return None
        rate = self.settings.connects_per_second
        wait = visitor.connects.take(self.clock(), rate, max(1.0, _CONNECT_BURST * rate))
        if not wait:
            return None
        return Refusal(429, 'connects_per_second', 'your address connects too often', wait)

    def _is_exempt(self, address: str) -> bool:
        settings = self._all_settings()
        return is_among(address, settings.limits.exempt + settings.trusted_proxies)

    # -- clients ------------------------------------------------------------------------------

    def take_seat(self, address: str) -> Seat | str:
        """Count a streaming client; a text says why there is no room for it."""
        if self._clients >= self._all_settings().max_clients:
            self.count('clients')
            return 'too many clients'
        visitor = self._find(address)
        if (visitor.clients >= self.settings.clients_per_address
                and not self._is_exempt(address)):
            self.count('clients_per_address')
            return 'too many clients from your address'
        self._change(visitor, clients=1)
        return Seat(lambda: self._change(visitor, clients=-1))

    # -- tokens -------------------------------------------------------------------------------

    def may_guess(self, address: str) -> bool:
        """Tell whether an address has wrong tokens left."""
        return not self._find(address).wrong_tokens.wait(
            self.clock(), self._guess_rate, _WRONG_TOKEN_BURST)

    def wrong_token(self, address: str) -> float:
        """Count a wrong token; return 0.0, or how long to wait if there were too many (s)."""
        return self._find(address).wrong_tokens.take(
            self.clock(), self._guess_rate, _WRONG_TOKEN_BURST)

    def right_token(self, address: str, digest: bytes) -> None:
        """Remember that an address knows a token."""
        known = self._find(address).known
        if len(known) < _MOST_KNOWN:
            known.add(digest)

    def knows_token(self, address: str, digest: bytes) -> bool:
        """Tell whether an address has shown a token before."""
        return digest in self._find(address).known

    @property
    def _guess_rate(self) -> float:
        return self.settings.wrong_tokens_per_minute / 60.0

    # -- counting -----------------------------------------------------------------------------

    def _find(self, address: str) -> Visitor:
        return self.visitors.find(visitor_key(address))

    def _change(self, visitor: Visitor, connections: int = 0, clients: int = 0) -> None:
        visitor.connections += connections
        visitor.clients += clients
        self._connections += connections
        self._clients += clients
        self.visitors.changed(visitor)
        self._metrics.connections.set(self._connections)
