"""Tokens on behalf of callers: those of each principal, exchanged for the ones that it sent."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from mcpproxy.limits.tokens import CALLERS, EXCHANGES, TOKENS_OF_CALLER
from mcpproxy.proxy.core.errors import NoCallerToken
from mcpproxy.proxy.core.exchange import BackendCredentials, ClientIdentity
from mcpproxy.proxy.core.identity import PROXY, Identity
from mcpproxy.proxy.core.rate_limiter import SharedRate
from mcpproxy.proxy.fair_shares import FairShares
from mcpproxy.proxy.upstream.credentials.access_tokens import AccessToken, Line, unavailable
from mcpproxy.proxy.upstream.credentials.token_slot import TokenSlot

BURST: Final = 8
LONGEST_WAIT: Final = 5.0
"""Seconds that an exchange waits because its principal had too many."""
_NO_TOKEN: Final = (
    "the backend is called on behalf of the caller, whose credentials are not a token that can be"
    " exchanged; use a token of an issuer of spec.authentication"
)

Exchange = Callable[[Identity], Awaitable[AccessToken]]
"""Exchanges the token of a caller. Raises BackendError."""


class CallerToken:
    """The exchanged token for one set of claims of one principal."""

    by_caller = True
    latest = None

    def __init__(
        self,
        subject: Identity,
        exchange: Exchange,
        pace: SharedRate,
        refresh_before: float,
        clock: Callable[[], float],
    ) -> None:
        self.subject = subject
        self._exchange = exchange
        self._pace = pace
        self.slot = TokenSlot(self._fetch, refresh_before, clock)
        self.header, self.obtain, self.refused = (
            self.slot.header,
            self.slot.obtain,
            self.slot.refused,
        )
        self.close = self.slot.close

    def of(self, client: ClientIdentity) -> BackendCredentials:
        """Return the same credentials: they belong to one principal."""
        return self

    def use(self, subject: Identity) -> None:
        """Exchange this token of the same principal from now on, unless the current one is valid
        for longer."""
        if (subject.expires or 0.0) >= (self.subject.expires or 0.0):
            self.subject = subject

    async def _fetch(self) -> AccessToken:
        wait = self._pace.take(1)
        if wait:
            EXCHANGES.record()
            if wait > LONGEST_WAIT:
                raise unavailable("the caller had too many tokens exchanged; try later")
            await asyncio.sleep(wait)
        return await self._exchange(self.subject)


class _Caller:
    """The tokens of one principal, by the claims that decide what they permit."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.tokens: dict[bytes, CallerToken] = {}
        """Tokens by their claims, the one that was used last at the end."""
        self.latest: CallerToken | None = None
        """The token that was used last."""
        self.pace = SharedRate(EXCHANGES.value, BURST, clock)

    def use(self, token: CallerToken, claims: bytes) -> CallerToken:
        """Make a token the one that was used last, and return it."""
        self.tokens.pop(claims, None)
        self.tokens[claims] = self.latest = token
        return token


class ExchangedTokens:
    """The credentials of all callers of one backend.

    Tokens of one principal are never used for another one, and neither are those of a token with
    other rights of the same principal.
    """

    by_caller = True

    def __init__(
        self,
        exchange: Exchange,
        own: BackendCredentials,
        refresh_before: float,
        *others: BackendCredentials,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`own` are the credentials of the proxy's own requests. `refresh_before` is in seconds.

        `others` are closed together with these.
        """
        self._others = others
        self._exchange = exchange
        self._own = own
        self._refresh_before = refresh_before
        self._clock = clock
        self._callers: dict[str, _Caller] = {}
        self._shares: FairShares[str] = FairShares(CALLERS.value)
        self._latest = ""
        """The principal that was served last."""
        self.latest: CallerToken | None = None
        """The token that was returned last."""

    def of(self, client: ClientIdentity) -> BackendCredentials:
        """Return the credentials of a caller, or the proxy's own for a request of no caller."""
        identity, principal, token = client.identity, client.principal, self.latest
        if token is not None and token.subject is identity and principal == self._latest:
            # Most requests have the token of the request before.
            return token
        if identity is PROXY:
            return self._own
        if not identity.token or not principal:
            return _NOBODY
        caller = self._callers.get(principal)
        if caller is None:
            caller = self._add(principal, client.network)
        elif principal != self._latest:
            self._shares.touch(principal)
        token = self.latest = self._token_of(caller, identity)
        self._latest = principal
        return token

    def _token_of(self, caller: _Caller, identity: Identity) -> CallerToken:
        token = caller.latest
        if token is not None and token.subject is identity:
            return token
        claims = identity.rights
        token = caller.tokens.get(claims)
        if token is None:
            token = self._create_token(caller, identity)
        elif token.subject is not identity:
            token.use(identity)
        return caller.use(token, claims)

    def _add(self, principal: str, network: str) -> _Caller:
        if self._shares.is_full:
            CALLERS.record()
            idlest = self._shares.choose()
            if idlest is not None:
                self._shares.discard(idlest)
                del self._callers[idlest]
        self._shares.add(principal, (network,))
        caller = self._callers[principal] = _Caller(self._clock)
        return caller

    def _create_token(self, caller: _Caller, identity: Identity) -> CallerToken:
        if len(caller.tokens) >= TOKENS_OF_CALLER.value:
            TOKENS_OF_CALLER.record()
            del caller.tokens[next(iter(caller.tokens))]
        return CallerToken(identity, self._exchange, caller.pace, self._refresh_before, self._clock)

    def header(self) -> Line | None:
        """Return the header field of the proxy's own requests."""
        return self._own.header()

    async def obtain(self) -> Line | None:
        """Return the header field of the proxy's own requests. Raise BackendError."""
        return await self._own.obtain()

    def refused(self, line: Line) -> bool:
        """Discard the credentials of the proxy's own requests."""
        return self._own.refused(line)

    def serve_anyone(self) -> bool:
        """Return True if the token of some caller is still valid."""
        return any(token.slot.is_valid for token in self._tokens())

    def _tokens(self) -> list[CallerToken]:
        return [token for caller in self._callers.values() for token in caller.tokens.values()]

    async def close(self) -> None:
        """End all work in the background."""
        every = (self._own, *self._others, *self._tokens())
        await asyncio.gather(*(credentials.close() for credentials in every))


class _NoToken:
    """The credentials of a caller that has no token to exchange."""

    by_caller = True
    latest = None

    def of(self, client: ClientIdentity) -> BackendCredentials:
        return self

    def header(self) -> Line | None:
        return None

    async def obtain(self) -> Line:
        raise NoCallerToken(_NO_TOKEN).unsent()

    def refused(self, line: Line) -> bool:
        return False

    async def close(self) -> None: ...


_NOBODY: Final = _NoToken()
