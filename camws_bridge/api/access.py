"""Who may come in: addresses, names, origins, tokens; and how a client of ours is known."""
from __future__ import annotations

from collections.abc import Callable, Collection
import logging

from tornado.httputil import HTTPServerRequest

from camws_bridge.api.addresses import client_address, is_proxied
from camws_bridge.api.limits import Limits
from camws_bridge.api.origins import is_loopback, Origins
from camws_bridge.api.refusals import Refusal
from camws_bridge.tokens import digest_of, EVERYBODY, Token, TokenStore, UNGUESSABLE
from camws_bridge.api.watched_files import WatchedFiles
from camws_bridge.metrics import Metrics
from camws_bridge.parameter import SettingsError
from camws_bridge.settings import Settings
from camws_bridge.websockets.stream_status import CATALOGUE

log = logging.getLogger(__name__)

# What a token must allow besides streams: this one for /metrics.
METRICS = 'metrics'
_ALLOWABLE = (*CATALOGUE, 'camera_info', METRICS)
_SUBPROTOCOL = 'camws.token.'
# Shorter ones can be guessed in the time a bridge runs (characters).
_SHORT_TOKEN = 16

_NO_TOKEN = Refusal(401, 'unauthorized', 'a token is needed, and none was given')
_WRONG_TOKEN = Refusal(401, 'unauthorized', 'the token is wrong')
_WRONG_HOST = Refusal(403, 'forbidden', 'the bridge does not know itself by this name; see '
                      'parameter allowed_origins')
_WRONG_ORIGIN = Refusal(403, 'forbidden', 'this origin is not allowed; see parameter '
                        'allowed_origins')


class Refused(Exception):
    """A request does not come in; ``refusal`` says why."""

    def __init__(self, refusal: Refusal) -> None:
        """Take what is answered."""
        super().__init__(refusal.message)
        self.refusal = refusal


class Access:
    """
    Checks requests against limits, origins and tokens. Used on the loop's thread.

    A token comes as ``Authorization: Bearer``, as ``?token=``, or as the WebSocket subprotocol
    ``camws.token.<token>``, since browsers cannot set headers.
    """

    def __init__(self, settings: Callable[[], Settings], metrics: Metrics) -> None:
        """Read the tokens; raises SettingsError for a tokens file that cannot be used."""
        now = settings()
        self.limits = Limits(settings, metrics)
        self.origins = Origins(now.allowed_origins, now.host)
        self._settings = settings
        self._tokens = TokenStore(now.auth.token, now.auth.tokens_file)
        self._file = WatchedFiles([now.auth.tokens_file])
        self._warn_of_patterns()

    @property
    def needs_token(self) -> bool:
        """Tell whether clients must show a token."""
        return self._tokens.is_needed

    def warnings(self) -> list[str]:
        """Return what whoever starts the bridge should know, one line each."""
        settings = self._settings()
        lines = []
        if not is_loopback(settings.host):
            missing = [] if self.needs_token else ['everybody who reaches this port can connect '
                                                   '(no auth.tokens_file)']
            if not settings.tls.certfile:
                missing.append('nothing is encrypted (no tls.certfile)')
            if missing:
                lines.append(f'host {settings.host}: {"; ".join(missing)}')
        if 0 < len(settings.auth.token) < _SHORT_TOKEN:
            lines.append(f'auth.token is shorter than {_SHORT_TOKEN} characters: it can be '
                         'guessed')
        return lines

    # -- requests -----------------------------------------------------------------------------

    def address_of(self, request: HTTPServerRequest) -> str:
        """Return the address of the client, behind a trusted proxy, too."""
        return client_address(request, self._settings().trusted_proxies)

    def admit(self, request: HTTPServerRequest) -> Token | None:
        """
        Return the token a request shows, None if it shows none though one is needed.

        Raises Refused for who may not come in whatever they show.
        """
        address = self.address_of(request)
        if is_proxied(request, self._settings().trusted_proxies):
            refusal = self.limits.pass_on(address)
            if refusal is not None:
                raise Refused(refusal)
        self._check_page(request)
        return self._identify(request, address)

    def refuse_without_token(self) -> Refused:
        """Return what is raised where a token is needed and none was shown."""
        self.limits.count('token_missing')
        return Refused(_NO_TOKEN)

    def refuse_stream(self, name: str) -> Refused:
        """Return what is raised for a stream that a token is not for."""
        self.limits.count('stream')
        return Refused(Refusal(403, 'stream_not_allowed', f'your token is not for {name}'))

    def is_origin_allowed(self, request: HTTPServerRequest) -> bool:
        """Tell whether the page that sends this request may: own host, or allowed_origins."""
        return self._page_problem(request) is None

    def _check_page(self, request: HTTPServerRequest) -> None:
        problem = self._page_problem(request)
        if problem is not None:
            self.limits.count('origin' if problem is _WRONG_ORIGIN else 'host')
            raise Refused(problem)

    def _page_problem(self, request: HTTPServerRequest) -> Refusal | None:
        host, origin = request.headers.get('Host', ''), request.headers.get('Origin')
        if not self.origins.is_allowed(origin, host):
            return _WRONG_ORIGIN
        # A token is known by no page from elsewhere, whatever name that has pointed here.
        # Who names no host at all is no browser.
        if host and not self.needs_token and not self.origins.is_own_host(host):
            return _WRONG_HOST
        return None

    def _identify(self, request: HTTPServerRequest, address: str) -> Token | None:
        if not self.needs_token:
            return EVERYBODY
        shown = _shown_tokens(request)
        for text in shown:
            token = self._find(text, address)
            if token is not None:
                return token
        if not shown:
            return None
        wait = max(self.limits.wrong_token(address) for _ in shown)
        if wait:
            self.limits.count('token_rate')
            raise Refused(Refusal(429, 'too_many_wrong_tokens',
                                  'too many wrong tokens came from your address', wait))
        self.limits.count('token_wrong')
        raise Refused(_WRONG_TOKEN)

    def _find(self, text: str, address: str) -> Token | None:
        """
        Return the token that was shown, if it is one.

        An address that has used up its wrong tokens is not told of others that could be guessed;
        who is behind the same address and shows a long one, or one shown before, comes in.
        """
        digest = digest_of(text)
        may_look = (len(text) >= UNGUESSABLE or self.limits.may_guess(address)
                    or self.limits.knows_token(address, digest))
        token = self._tokens.find(digest) if may_look else None
        if token is not None:
            self.limits.right_token(address, digest)
        return token

    # -- while they are connected -------------------------------------------------------------

    def why_not(self, token: Token, names: Collection[str]) -> str:
        """Return why a token no longer allows what it did; empty if it does."""
        if not self.needs_token or token in self._tokens.tokens:
            return ''
        now = self._tokens.find(token.digest)
        if now is None:
            return 'the token was removed'
        if not all(map(now.allows, names)):
            return 'the token is no longer for this stream'
        return ''

    def look_for_changes(self) -> None:
        """Read the file of tokens again if it has changed; called regularly."""
        if self._file.has_changed():
            self.reload()

    def reload(self) -> None:
        """Read the file of tokens again; a broken one is logged, and changes nothing."""
        if not self._tokens.path:
            return
        self._file.take_as_known()
        try:
            self._tokens.reload()
        except SettingsError as error:
            log.error('the tokens stay as they were: %s', error)
            return
        log.info('%d token(s) in force', len(self._tokens.tokens))
        self._warn_of_patterns()

    def _warn_of_patterns(self) -> None:
        for token in self._tokens.tokens:
            for pattern in token.streams:
                if not any(Token('', b'', (pattern,)).allows(name) for name in _ALLOWABLE):
                    log.warning("token '%s' is for '%s', which is no stream; there are: %s",
                                token.name, pattern, ', '.join(_ALLOWABLE))


def _shown_tokens(request: HTTPServerRequest) -> list[str]:
    """Return what may be a token: at most one from each place, or one request guesses many."""
    tokens = [value.decode('utf-8', 'replace')
              for value in request.query_arguments.get('token', [])[-1:]]
    scheme, _, value = request.headers.get('Authorization', '').partition(' ')
    if scheme.lower() == 'bearer':
        tokens.append(value.strip())
    offered = [name.strip() for name in
               request.headers.get('Sec-WebSocket-Protocol', '').split(',')]
    tokens += [name.removeprefix(_SUBPROTOCOL) for name in offered
               if name.startswith(_SUBPROTOCOL)][-1:]
    return list(filter(None, dict.fromkeys(tokens)))
