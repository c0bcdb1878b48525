"""Requests to the token endpoint of one backend's authorization server, and their pace."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from urllib.parse import urlencode

from mcpproxy.backoff import Backoff
from mcpproxy.limits.tokens import TOKEN_REQUESTS, TOKEN_TIME
from mcpproxy.proxy.core.errors import BackendError, MissingReference
from mcpproxy.proxy.issuers.documents import IssuerError, IssuerResponse
from mcpproxy.proxy.upstream.credentials.access_tokens import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    AccessToken,
    ServerFailed,
    parse_token_response,
    repeated,
    unavailable,
)
from mcpproxy.proxy.upstream.credentials.client_proof import ClientProof, Form
from mcpproxy.proxy.upstream.credentials.token_server import TokenServer, TokenServerFinder

_FORM: Final = ((b"content-type", b"application/x-www-form-urlencoded"),)
BuildForm = Callable[[TokenServer], Form]
"""Returns the parameters of a request that do not depend on the client."""
T = TypeVar("T")
Parse = Callable[[IssuerResponse, float, TokenServer], T]
"""Returns the token in a response to a request that was sent at a time. Raises BackendError, or
ServerFailed."""


class TokenEndpoint:
    """Token endpoint of one backend's authorization server.

    While requests of every kind fail, the server gets one request at a time, with growing pauses.
    """

    def __init__(
        self,
        finder: TokenServerFinder,
        proof: ClientProof,
        on_result: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_result` is called with issued, refused or unavailable for each request."""
        self._finder = finder
        self._proof = proof
        self._on_result = on_result
        self._clock = clock
        self._turns = asyncio.Semaphore(TOKEN_REQUESTS.value)
        self._trial = asyncio.Lock()
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._last: BackendError | None = None
        """The error of the last request, if it concerns all requests."""

    async def request(self, build: BuildForm, lifetime: float | None = None) -> AccessToken:
        """Return a new token. Raise BackendError.

        `lifetime` is that of a token whose response states none, in seconds.
        """

        def parse(response: IssuerResponse, sent: float, server: TokenServer) -> AccessToken:
            return parse_token_response(response, sent, lifetime)

        return await self.request_as(build, parse)

    async def request_as(self, build: BuildForm, parse: Parse[T]) -> T:
        """Return what `parse` reads in the response. Raise BackendError."""
        token = await self._in_turn(lambda: self._send(build, parse))
        self._succeeded()
        self._on_result("issued")
        return token

    async def server(self) -> TokenServer:
        """Return the authorization server. Raise BackendError."""
        return await self._in_turn(self._finder.find)

    async def _in_turn(self, action: Callable[[], Awaitable[T]]) -> T:
        """Run an action when it may send a request. Raise BackendError."""
        if self._turns.locked():
            TOKEN_REQUESTS.record()
        async with self._turns:
            if not self._backoff.failures:
                return await self._counted(action)
            async with self._trial:
                if self._last is not None and self._backoff.is_waiting(self._clock()):
                    raise repeated(self._last)
                return await self._counted(action)

    async def _counted(self, action: Callable[[], Awaitable[T]]) -> T:
        """Run an action, and record its failure. Raise BackendError."""
        try:
            async with asyncio.timeout(TOKEN_TIME.value):
                return await action()
        except TimeoutError:
            TOKEN_TIME.record()
            raise self._failed(unavailable(f"no response within {TOKEN_TIME.value} s")) from None
        except ServerFailed as failure:
            raise self._failed(failure.error, failure.retry_after) from None
        except IssuerError as error:
            raise self._failed(unavailable(str(error))) from None
        except MissingReference as error:
            raise self._failed(error.unsent()) from None
        except BackendError:
            # The server works, and refused this request alone.
            self._succeeded()
            self._on_result("refused")
            raise

    async def _send(self, build: BuildForm, parse: Parse[T]) -> T:
        server = await self._finder.find()
        headers, form = self._proof.prove(server)
        body = urlencode({**build(server), **form}).encode("ascii")
        sent = self._clock()
        response = await self._finder.http.send(b"POST", server.token_url, (*_FORM, *headers), body)
        return parse(response, sent, server)

    def _failed(self, error: BackendError, retry_after: float = 0.0) -> BackendError:
        self._finder.forget()
        self._last = error
        now = self._clock()
        if not self._backoff.is_waiting(now):
            # Requests that were sent together fail together, and count once.
            self._backoff.record_failure(now, least=retry_after)
        self._on_result("refused" if error.reason == "TokenRefused" else "unavailable")
        return error

    def _succeeded(self) -> None:
        self._backoff.reset()
        self._last = None
