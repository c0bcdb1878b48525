"""A sign-in, performed by the SDK's OAuth client.

The SDK finds the authorization server, registers a client, builds the authorization request,
checks the response to it (state, issuer) and requests tokens. It does so as the authentication of
a request, which is never sent here: its response is the refusal that the backend has sent before.
"""

import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final
from urllib.parse import urlsplit

import httpx2
from mcp.client.auth import OAuthFlowError, OAuthRegistrationError
from mcp.client.auth.oauth2 import OAuthContext
from pydantic import ValidationError

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.tokens import SIGN_IN_PAUSE
from mcpproxy.proxy.core.errors import BackendError, SignInNeeded
from mcpproxy.proxy.issuers.documents import IssuerError
from mcpproxy.proxy.protocol.revisions import LATEST_MODERN
from mcpproxy.proxy.upstream.credentials.access_tokens import (
    LONGEST,
    SHORTEST,
    AccessToken,
    bearer_line,
    unavailable,
)
from mcpproxy.proxy.upstream.sign_in.browser import Browser, SignInFailed
from mcpproxy.proxy.upstream.sign_in.callback import CallbackPort
from mcpproxy.proxy.upstream.sign_in.provider import SignInProvider
from mcpproxy.proxy.upstream.sign_in.requests import NamedServers
from mcpproxy.proxy.upstream.sign_in.settings import Challenge, SignIn
from mcpproxy.proxy.upstream.sign_in.store import SignInFile

_SOON: Final = 5.0
"""Seconds before its expiration at which a stored token is not used."""
_WORDS: Final = 200
_STATE: Final = re.compile(r"^State parameter mismatch")


class SignInFlow:
    """Sign-ins of the user to one backend, and the refreshing of their tokens."""

    def __init__(
        self, name: str, url: str, settings: SignIn, file: SignInFile, servers: NamedServers
    ) -> None:
        """`url` is that of the backend."""
        self._url = url
        self._settings = settings
        self._file = file
        self._servers = servers
        self._browser = Browser(name, servers.may_use)
        self._provider = SignInProvider(url, settings, self._browser.open, self._browser.result)
        self._provider.load(file.read(), servers.may_use)
        self._is_new = True
        self._error: SignInNeeded | None = None
        self._failed_at = 0.0

    @property
    def _context(self) -> OAuthContext:
        return self._provider.context

    async def obtain(self, challenge: Challenge | None, *, refused: bool) -> AccessToken:
        """Return a token that was stored or refreshed, or let the user sign in.

        `refused` says that the backend refused the last token. Raise BackendError.
        """
        is_new, self._is_new = self._is_new, False
        step_up = challenge is not None and challenge.is_step_up
        try:
            if not step_up and (token := self._valid()) and not refused:
                if is_new:
                    return token
                if not self._context.can_refresh_token():
                    raise unavailable("no refresh token was issued")
            if not step_up and self._context.can_refresh_token() and await self._refreshed():
                return self._token()
            await self._sign_in(challenge or Challenge())
        except IssuerError as error:
            raise unavailable(str(error)) from None
        except BackendError:
            raise
        except Exception as error:
            # A server may send anything, and not all of it is expected by the SDK.
            raise unavailable(f"a response cannot be used: {type(error).__name__}") from None
        return self._token()

    def _valid(self) -> AccessToken | None:
        """Return the current token, unless it expires soon."""
        expires = self._context.token_expiry_time
        if self._context.current_tokens is None or (expires and expires - time.time() < _SOON):
            return None
        return self._token()

    def _token(self) -> AccessToken:
        tokens, expires = self._context.current_tokens, self._context.token_expiry_time
        assert tokens is not None
        try:
            line = bearer_line(tokens.access_token)
        except ValueError as error:
            raise unavailable(str(error)) from None
        seconds = LONGEST if expires is None else expires - time.time()
        now = time.monotonic()
        return AccessToken(line, now, now + min(max(seconds, SHORTEST), LONGEST))

    def _flow(self) -> tuple[httpx2.Request, AsyncGenerator[httpx2.Request, httpx2.Response]]:
        version = {"mcp-protocol-version": LATEST_MODERN}
        request = httpx2.Request("POST", self._url, headers=version)
        return request, self._provider.async_auth_flow(request)

    async def _refreshed(self) -> bool:
        """Refresh the token; False if the server refuses to. Raise IssuerError."""
        self._provider.expire()
        tokens = self._context.current_tokens
        request, flow = self._flow()
        async with aclosing(flow):
            outgoing = await anext(flow)
            assert outgoing is not request
            response = await self._servers.send(outgoing)
            if response.status_code >= 500 or response.status_code == 429:
                raise IssuerError(f"{outgoing.url}: HTTP {response.status_code}")
            await flow.asend(response)
        if not self._context.is_token_valid():
            return False
        if tokens is not self._context.current_tokens:
            self._file.write(self._provider.stored())
        return True

    async def _sign_in(self, challenge: Challenge) -> None:
        """Let the user sign in. Raise BackendError or IssuerError."""
        if self._error is not None and time.monotonic() - self._failed_at < SIGN_IN_PAUSE.value:
            SIGN_IN_PAUSE.record()
            raise SignInNeeded(str(self._error)).unsent()
        self._error = None
        with self._browser.waiting(self._callback_port()) as port:
            self._provider.prepare(port.uri, step_up=challenge.is_step_up)
            try:
                await self._run(challenge)
            except (OAuthFlowError, SignInFailed, ValidationError) as error:
                raise self._failed(error) from None
        self._file.write(self._provider.stored())

    async def _run(self, challenge: Challenge) -> None:
        header = challenge.with_scopes(self._settings.scopes)
        request, flow = self._flow()
        async with aclosing(flow):
            outgoing = await anext(flow)
            assert outgoing is request
            outgoing = await flow.asend(
                httpx2.Response(
                    challenge.status, headers=[(b"www-authenticate", header)], request=request
                )
            )
            while outgoing is not request:
                outgoing = await flow.asend(await self._servers.send(outgoing))

    def _failed(self, error: Exception) -> BackendError:
        if isinstance(error, OAuthRegistrationError) and not self._settings.client_id:
            why = "no client was registered; register one there, and set oauth.clientId"
        elif isinstance(error, SignInFailed):
            why = str(error)
        elif _STATE.match(str(error)):
            why = "the response has another state"
        else:
            why = clean_text(" ".join(str(error).split()), _WORDS)
        needed = SignInNeeded(f"the sign-in failed: {why}; restart mcpproxy to sign in again")
        if self._browser.was_opened:
            self._error, self._failed_at = needed, time.monotonic()
        return needed.unsent()

    def _callback_port(self) -> CallbackPort:
        """Bind the port of the redirect URI. Raise SignInNeeded."""
        port = self._settings.callback_port
        host = "localhost" if port else "127.0.0.1"
        port = port or urlsplit(self._provider.registered_uri).port or 0
        try:
            return CallbackPort(port, host)
        except OSError as error:
            if self._settings.callback_port:
                raise SignInNeeded(
                    f"oauth.callbackPort {port}: {error.strerror}; end the program that uses it"
                ).unsent() from None
        # Another process uses the port that was registered, so another client must be.
        self._provider.forget_client()
        return CallbackPort(0, host)
