"""Backends whose sessions answer as a test says, without a transport."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import Raw

from mcpproxy.api.defaults import BackendSettings, default_settings
from mcpproxy.library.sessions.backend_factory import default_health
from mcpproxy.proxy.bootstrap import build_backend_context
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity, NullContext
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.connect.negotiation import Connector
from mcpproxy.proxy.upstream.context import BackendEvents
from mcpproxy.proxy.upstream.monitor.list_cache import ListCache
from mcpproxy.proxy.upstream.monitor.requester import Requester
from mcpproxy.proxy.upstream.transports.session import (
    OnMessage,
    ServerDescription,
    UpstreamRequest,
    UpstreamSession,
)
from tests.proxy.upstream.stage import ANN, FakeLink

Answer = dict[str, Any] | Exception | asyncio.Event
ALL: dict[str, Any] = {"tools": {}, "prompts": {}, "resources": {}}


def listed(member: str, *names: str, **more: Any) -> dict[str, Any]:
    """The result of a list."""
    key = {"tools": "name", "prompts": "name", "resources": "uri"}.get(member, "uriTemplate")
    return {"result": {member: [{key: name} for name in names], **more}}


def refused(code: int = -32603, message: str = "database is locked") -> dict[str, Any]:
    """An error response."""
    return {"error": {"code": code, "message": message}}


class PlainLink(FakeLink):
    """A session with a backend."""

    def __init__(self, backend: "PlainConnector", client: ClientIdentity = ANN) -> None:
        super().__init__(client)
        capabilities = jsonrpc.encode_raw(backend.capabilities)
        self.server = ServerDescription("2025-11-25", {"capabilities": capabilities})
        self.backend = backend

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        backend, method = self.backend, outgoing.method
        backend.asked.append(method)
        backend.cursors.append(jsonrpc.decode((outgoing.params or {}).get("cursor")))
        backend.on_request(method)
        answer = backend.answers.get(method, {"result": {}})
        if callable(answer):
            answer = answer(backend.cursors[-1])
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = backend.answers.get(method + " later", {"result": {}})
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return {
            "id": Raw(b"1"),
            **{name: jsonrpc.encode_raw(content) for name, content in answer.items()},
        }

    async def listen(
        self,
        session_context: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        self.backend.listens += 1
        self.backend.announced = announced
        ready()
        if self.backend.breaks is None:
            await self.closed.wait()
            return
        self.alive = not self.backend.ends
        raise self.backend.breaks


class PlainConnector(Connector):
    """A backend, as the connector that opens its sessions."""

    def __init__(self, capabilities: Any = None, **answers: Any) -> None:
        super().__init__()
        self.capabilities = {"tools": {}} if capabilities is None else capabilities
        self.answers: dict[str, Any] = {
            name.replace("_list", "/list").replace("_templates", "/templates"): answer
            for name, answer in answers.items()
        }
        self.asked: list[str] = []
        self.cursors: list[Any] = []
        """Seconds that each request takes."""
        self.on_request: Callable[[str], None] = lambda method: None
        self.announced: OnMessage
        self.opened = self.listens = 0
        self.breaks: Exception | None = None
        """Error with which the change stream ends."""
        self.ends = False
        """True if the session ends with the change stream."""
        self.error: BackendError | None = None
        """Error of opening a session."""
        self.gate = asyncio.Event()
        """Set once sessions can be opened."""
        self.gate.set()
        self.transport = "streamable-http"

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        self.opened += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return PlainLink(self, client)


def gateway_of(**connectors: PlainConnector) -> Gateway:
    """A gateway to these backends, which has not started; their names have no prefix."""
    context = build_backend_context(default_health(), RuntimeOptions(), Path.cwd())
    backends = []
    for name, connector in connectors.items():
        settings = replace(default_settings(), prefix="", cache_ttl=300.0)
        backends.append(Backend(name, settings, lambda _, o=connector: o, context))  # type: ignore[misc]
    return Gateway("g", "1", backends, context)


def list_cache(settings: BackendSettings, catalog: Catalog, events: BackendEvents) -> ListCache:
    """The lists of backend `b`, whose sessions are never lost."""

    async def reopen(lost: UpstreamSession) -> UpstreamSession:
        return lost

    asker = Requester(NullContext(ANN))
    return ListCache("b", settings, catalog, asker, events, reopen, lambda: None)


async def turns(number: int = 500) -> None:
    """Run everything that does not wait for time to pass."""
    for _ in range(number):
        await asyncio.sleep(0)
