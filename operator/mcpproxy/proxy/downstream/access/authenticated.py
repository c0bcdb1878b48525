"""The endpoint of a proxy with `spec.authentication`.

The sender of a request is authenticated when its head arrives, and the server caches the head with
the result. Each use of a cached head checks that the result still counts. A proxy without
`authentication` has the plain `Endpoint`, and nothing of this costs it any time.
"""

import hmac
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mcpproxy.proxy.core.access import InsufficientScope
from mcpproxy.proxy.core.identity import ANONYMOUS
from mcpproxy.proxy.downstream.access.principals import AUTHORIZATION
from mcpproxy.proxy.downstream.app import Endpoint, misdirected, needs_task
from mcpproxy.proxy.downstream.landing import is_browser_visit, show_sign_in
from mcpproxy.proxy.downstream.request_context import RequestContext, RequestHandler
from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.server.request import Request, RequestHead
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter

if TYPE_CHECKING:
    from mcpproxy.proxy.authentication.admissions import Admission
    from mcpproxy.proxy.authentication.client_authentication import ClientAuthentication

READINESS: Final = b"mcpproxy-readiness"
"""Header with which the process checks its own endpoint."""
_PUBLIC: Final = (b"access-control-allow-origin", b"*")
_WITH_TOKEN: Final = ("jwt", "serviceAccount")
_METHODS: Final = b"GET, HEAD, OPTIONS"
_PREFLIGHT: Final = (
    _PUBLIC,
    (b"access-control-allow-methods", _METHODS),
    (b"access-control-allow-headers", b"*"),
    (b"access-control-max-age", b"7200"),
)


_METADATA: Final = RequestContext(RequestHead("GET", "", []))
"""Context of all requests for the published metadata."""


@dataclass(frozen=True, slots=True)
class _SignIn:
    """Context of a visit by a browser without credentials."""

    refusal: HttpError


class AuthenticatedEndpoint(Endpoint):
    """Endpoint that serves only callers whom an authenticator admits."""

    def __init__(
        self, *parts: Any, authentication: "ClientAuthentication", readiness: bytes, **options: Any
    ) -> None:
        """`parts` and `options` are those of `Endpoint`.

        Requests with the value `readiness`, which only this process knows, are served as anonymous.
        """
        super().__init__(*parts, **options)
        self._authenticator = authentication.authenticator
        self._challenges = authentication.challenges
        self._metadata = authentication.metadata
        self._readiness = readiness
        # Only a backend that is called on behalf of callers needs their tokens.
        backends = self._gateway.backends.values()
        self._keeps_tokens = any(backend.settings.for_callers for backend in backends)
        from mcpproxy.proxy.authentication.admissions import ANONYMOUS_ADMISSION
        from mcpproxy.proxy.authentication.authenticator import KeysNeeded

        self._anonymous = ANONYMOUS_ADMISSION
        self._keys_needed = KeysNeeded

    def screened(self, inbound: Request) -> HttpError | None:
        if self._metadata is None or not self._metadata.is_at(inbound.path):
            refusal = super().screened(inbound)
            if refusal is not None and _needs_sign_in(refusal, inbound.head):
                inbound.head.attach(_SignIn(refusal))
                return None
            return refusal
        if not self.guard.admits_host(inbound.headers.get(b"host")):
            return misdirected()
        inbound.head.attach(_METADATA)
        return None

    def at_once(self, inbound: Request, reply: ResponseWriter) -> bool:
        if inbound.head.context is _METADATA:
            return self._answer_metadata(inbound, reply)
        if isinstance(inbound.head.context, _SignIn):
            return False
        return super().at_once(inbound, reply)

    def _answer_metadata(self, inbound: Request, reply: ResponseWriter) -> bool:
        """Answer a request for the published metadata, which pages of all origins may read."""
        assert self._metadata is not None
        if inbound.method not in ("GET", "HEAD"):
            return False
        reply.add_headers((_PUBLIC, (b"cache-control", b"max-age=60")))
        reply.complete(self._metadata.body)
        return True

    def identify(self, inbound: Request) -> RequestContext:
        try:
            admission = self._admit(inbound.head, inbound.head.network)
        except self._keys_needed:
            # `serve` waits for the keys.
            return RequestContext(inbound.head)
        return _context(inbound.head, admission, keeps_token=self._keeps_tokens)

    def _admit(self, head: RequestHead, network: str) -> "Admission":
        """Return the admission of a request's sender. Raises HttpError, KeysNeeded."""
        own = head.headers.get(READINESS)
        if own is not None and hmac.compare_digest(own, self._readiness):
            return self._anonymous
        return self._authenticator.admit(head, network)

    def guarded(self, handler: RequestHandler, context: RequestContext) -> RequestHandler:
        if context.admission is None:
            return needs_task
        admission, now = context.admission, self._authenticator.now
        until, proof = admission.until, admission.proof

        def answer(inbound: Request, reply: ResponseWriter) -> bool:
            # As `is_valid`, but without a call for each request.
            return now() < until and not proof.revoked and handler(inbound, reply)

        return answer

    def serve(self, inbound: Request, reply: ResponseWriter) -> Coroutine[Any, Any, None]:
        context: RequestContext | _SignIn = inbound.head.context
        if isinstance(context, _SignIn):
            return show_sign_in(reply, *context.refusal.headers)
        if context is _METADATA:
            preflight = inbound.method == "OPTIONS"
            allow = (b"allow", _METHODS)
            return reply.empty(204, *_PREFLIGHT) if preflight else reply.empty(405, allow)
        admission = context.admission
        if admission is not None and admission.is_valid(self._authenticator.now()):
            return self.serve_era(inbound, reply)
        if self._cors.preflight(inbound.head) is not None:
            return super().serve(inbound, reply)
        return self._serve_newly_admitted(inbound, reply)

    async def serve_era(self, inbound: Request, reply: ResponseWriter) -> None:
        try:
            await super().serve_era(inbound, reply)
        except InsufficientScope as error:
            raise self._challenges.insufficient_scope(error.scopes) from None

    async def _serve_newly_admitted(self, inbound: Request, reply: ResponseWriter) -> None:
        """Authenticate the sender again, or wait for the keys of the token's issuer."""
        head = inbound.head
        try:
            admission = self._admit(head, reply.network)
        except self._keys_needed:
            admission = await self._authenticator.admit_later(head, reply.network)
        head.attach(_context(head, admission, keeps_token=self._keeps_tokens))
        # The handler so far checks the admission before.
        head.forget_handler()
        await self.serve_era(inbound, reply)


def _needs_sign_in(refusal: HttpError, head: RequestHead) -> bool:
    """Return True if a browser gets a page in place of the JSON body of a refusal."""
    return refusal.status == 401 and AUTHORIZATION not in head.headers and is_browser_visit(head)


def _token(head: RequestHead) -> str:
    """Return the verified token in a head."""
    return head.headers[AUTHORIZATION].strip(b" \t").partition(b" ")[2].strip(b" ").decode("ascii")


def _context(
    head: RequestHead, admission: "Admission", *, keeps_token: bool = False
) -> RequestContext:
    identity = admission.identity
    # One object for anonymous callers is compared by identity.
    identity = ANONYMOUS if identity.method == "anonymous" else identity
    if keeps_token and identity.method in _WITH_TOKEN:
        identity = admission.identity_with(_token(head))
    return RequestContext(head, identity.principal, identity=identity, admission=admission)
