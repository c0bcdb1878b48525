"""MCP endpoint over streamable HTTP, for both eras.

Each request passes the checks of its path, Host and Origin. The header Mcp-Protocol-Version then
decides which era handles it.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from mcpproxy.api.constants import LIMITS_PATH, WATCHES_PATH
from mcpproxy.limits.clients import SESSION_IDLE
from mcpproxy.proxy.core.tokens.session_token import LIFETIME
from mcpproxy.proxy.downstream.access.principals import Principals
from mcpproxy.proxy.downstream.batches import BatchEndpoint
from mcpproxy.proxy.downstream.cors import CorsPolicy, HeaderFields
from mcpproxy.proxy.downstream.host_origin import HostOriginPolicy
from mcpproxy.proxy.downstream.landing import LandingPage, is_browser_visit
from mcpproxy.proxy.downstream.legacy.get_stream import SessionStreamContext
from mcpproxy.proxy.downstream.legacy.http import LegacyEndpoint
from mcpproxy.proxy.downstream.legacy.sessions import SessionRegistry
from mcpproxy.proxy.downstream.modern.http import ModernEndpoint
from mcpproxy.proxy.downstream.modern.input_required import SuspendedCalls
from mcpproxy.proxy.downstream.peers.forwarding import PRINCIPAL, PeerForwarder
from mcpproxy.proxy.downstream.peers.identity_header import IDENTITY, decode_identity
from mcpproxy.proxy.downstream.request_context import (
    RequestContext,
    RequestHandler,
    error_body,
)
from mcpproxy.proxy.downstream.stream_shares import OpenStreams
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.server.request import Request, RequestHead
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol.batches import is_batch
from mcpproxy.proxy.protocol.revisions import LEGACY

REAP_EVERY: Final = 30.0
MAX_SHOWN: Final = 200
"""Characters of a refused Origin that the response quotes."""
_LEGACY: Final = frozenset(revision.encode() for revision in LEGACY)


class Endpoint:
    """Application that serves one gateway on one path."""

    def __init__(
        self,
        gateway: Gateway,
        guard: HostOriginPolicy,
        address: str,
        path: str,
        principals: Principals | None = None,
        public_url: str | None = None,
    ) -> None:
        """`address` is where other instances reach this process; `path` is that of the endpoint.

        `public_url` is `spec.publicUrl`, at whose path the endpoint is served as well.
        """
        public_path = path if public_url is None else unquote(urlsplit(public_url).path)
        self._gateway, sealer = gateway, gateway.routing.sealer
        self.guard = guard
        self._cors = CorsPolicy(guard, gateway.aggregate.passed)
        self._principals = principals or Principals()
        self._path = path.rstrip("/")
        self._paths = {self._path, public_path.rstrip("/")}
        self._landing = LandingPage(gateway.aggregate.name, public_url, path)
        self.peers = PeerForwarder(sealer, address, self._path or "/", gateway.aggregate.passed)
        self.live = SessionRegistry(sealer, self.peers.owner, SESSION_IDLE.value)
        parking = SuspendedCalls(sealer, self.peers.owner, time.time)
        self._streams = OpenStreams()
        self._legacy = LegacyEndpoint(gateway, sealer, self.live, self.peers, self._streams)
        self._batches = BatchEndpoint(self._legacy, self.peers)
        self._modern = ModernEndpoint(gateway, parking, self.peers, self._streams)
        self._parking = parking
        self._reaper: asyncio.Task[None] | None = None
        gateway.provide_session_contexts(lambda client: SessionStreamContext(client, self.live))
        gateway.metrics.sessions.set_function(lambda: len(self.live))
        gateway.metrics.parked.set_function(lambda: parking.count)

    def start(self) -> None:
        """Start to remove expired sessions, and to work together with other instances."""
        self._reaper = asyncio.create_task(self._reap())
        self._gateway.connect(self.peers)
        if self._gateway.kept_results is not None:
            self._gateway.kept_results.serve_as(self.peers.owner)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_EVERY)
            self.live.reap(asyncio.get_running_loop().time(), LIFETIME)

    def end_revoked(self, issuer: str, subject: str | None) -> None:
        """End the streams of callers whose credentials may count no longer."""
        self._legacy.relayed.end_revoked(issuer, subject)
        self._streams.end_revoked(issuer, subject)

    def drain(self) -> None:
        """End the streams of notifications; calls in flight continue."""
        self._legacy.end_streams()
        self._streams.end()

    async def leave(self) -> None:
        """Tell the instances that work together with this one that it ends."""
        await self._gateway.leave()

    def close(self) -> None:
        """Cancel parked calls, and close connections to other instances."""
        self._parking.close()
        self.peers.close()
        self.live.close()
        if self._reaper is not None:
            self._reaper.cancel()

    def screened(self, inbound: Request) -> HttpError | None:
        if inbound.path.rstrip("/") not in self._paths:
            return HttpError(404, f"no such path; the endpoint is {self._path}")
        host, origin = inbound.headers.get(b"host"), inbound.headers.get(b"origin")
        if not self.guard.admits_host(host):
            return misdirected()
        if not self.guard.admits_origin(origin, host):
            return _foreign(origin or b"")
        if self._cors.preflight(inbound.head) is not None:
            # Browsers send no credentials with a preflight.
            inbound.head.attach(RequestContext(inbound.head))
            return None
        try:
            inbound.head.attach(self.identify(inbound))
        except HttpError as refusal:
            return refusal
        return None

    def identify(self, inbound: Request) -> RequestContext:
        """Return the context of a request, with its sender. Raises HttpError."""
        return RequestContext(inbound.head, self._principals.identify(inbound.head))

    def response_headers(self, inbound: Request) -> HeaderFields:
        return self._cors.headers_for(inbound.head)

    def error_body(self, error: HttpError) -> bytes:
        return error_body(error)

    def at_once(self, inbound: Request, reply: ResponseWriter) -> bool:
        if self._gateway.tracing is not None:
            self._gateway.tracing.receive(inbound.headers)
        handler = self._find_handler(inbound.head)
        if self._gateway.tracing is None:
            inbound.head.handle_with(handler)
        return handler(inbound, reply)

    def _find_handler(self, head: RequestHead) -> RequestHandler:
        context: RequestContext = head.context
        version = head.headers.get(h.PROTOCOL_VERSION)
        if head.method != "POST" or not context.carries_message:
            handler: RequestHandler = needs_task
        elif version is None or version in _LEGACY:
            handler = self._legacy.at_once
        else:
            handler = self._modern.at_once
        handler = self.guarded(handler, context)
        # Requests of programs have no Origin, and cost nothing here.
        shared = self._cors.headers_for(head)
        return _with_headers(handler, shared) if shared else handler

    def guarded(self, handler: RequestHandler, context: RequestContext) -> RequestHandler:
        """Return a handler that serves the requests with one head as long as that is permitted."""
        return handler

    def serve(self, inbound: Request, reply: ResponseWriter) -> Coroutine[Any, Any, None]:
        preflight = self._cors.preflight(inbound.head)
        if preflight is not None:
            return reply.empty(204, *preflight)
        return self.serve_era(inbound, reply)

    def serve_era(self, inbound: Request, reply: ResponseWriter) -> Coroutine[Any, Any, None]:
        """Answer a request that is not a preflight."""
        if is_browser_visit(inbound.head):
            return self._landing.show(inbound.head, reply)
        version = inbound.headers.get(h.PROTOCOL_VERSION)
        if version is None or version in _LEGACY:
            if inbound.method == "POST" and is_batch(inbound.body):
                return self._batches.serve(inbound, reply)
            return self._legacy.serve(inbound, reply)
        return self._modern.serve(inbound, reply)


class PeerEndpoint:
    """Application that serves requests from instances that have proven the sealing key."""

    def __init__(self, front: Endpoint, gateway: Gateway) -> None:
        self._front = front
        self._gateway = gateway

    def screened(self, inbound: Request) -> HttpError | None:
        # The instance that received the request has checked it.
        head = inbound.head
        principal = head.headers.get(PRINCIPAL, b"").decode("latin-1")
        identity = decode_identity(head.headers.get(IDENTITY))
        head.attach(RequestContext(head, principal, handed_over=True, identity=identity))
        return None

    def response_headers(self, inbound: Request) -> HeaderFields:
        # The instance that received the request adds the headers for pages of other origins.
        return ()

    def error_body(self, error: HttpError) -> bytes:
        return error_body(error)

    def at_once(self, inbound: Request, reply: ResponseWriter) -> bool:
        if self._gateway.tracing is not None:
            self._gateway.tracing.receive(inbound.headers)
        return False

    def serve(self, inbound: Request, reply: ResponseWriter) -> Coroutine[Any, Any, None]:
        if inbound.path == LIMITS_PATH:
            return self._answer_about_limits(inbound, reply)
        if inbound.path == WATCHES_PATH:
            return self._answer_about_watches(inbound, reply)
        return self._front.serve_era(inbound, reply)

    async def _answer_about_limits(self, inbound: Request, reply: ResponseWriter) -> None:
        """Answer another instance that counts calls together with this one."""
        limits = self._gateway.limits
        try:
            body = None if limits is None else await limits.answer_instance(inbound.body)
        except ValueError as error:
            raise HttpError(400, f"the message about limits is malformed: {error}") from None
        if body is None:
            raise HttpError(404, "this instance does not count calls together with others")
        await reply.finish(body)

    async def _answer_about_watches(self, inbound: Request, reply: ResponseWriter) -> None:
        """Answer another instance that tells which backends it watches."""
        watches = self._gateway.watches
        if watches is None:
            raise HttpError(404, "this instance watches all backends itself")
        try:
            body = watches.answer(inbound.body)
        except ValueError as error:
            raise HttpError(400, f"the message about watches is refused: {error}") from None
        await reply.finish(body)


def misdirected() -> HttpError:
    """Return the response to a request whose Host header does not name this server."""
    return HttpError(
        421,
        "the Host header does not name this server; set spec.publicUrl to the URL that clients use,"
        " or add the host to spec.allowedHosts or --allowed-host",
    )


def _foreign(origin: bytes) -> HttpError:
    shown = origin[:MAX_SHOWN].decode("latin-1")
    return HttpError(
        403,
        f"the Origin {shown!r} is not allowed; add its scheme, host and port to"
        " spec.allowedOrigins or --allowed-origin",
    )


def _with_headers(handler: RequestHandler, shared: HeaderFields) -> RequestHandler:
    """Return a handler that adds the headers with which a page may read the response."""

    def answer(inbound: Request, reply: ResponseWriter) -> bool:
        reply.add_headers(shared)
        return handler(inbound, reply)

    return answer


def needs_task(inbound: Request, reply: ResponseWriter) -> bool:
    """Handle requests that can't be answered without a task."""
    return False
