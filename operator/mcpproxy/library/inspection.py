"""Requests of the program itself to a running server, on behalf of a caller."""

import contextlib
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import mcp_types as t
from mcp import MCPError
from msgspec import Raw

from mcpproxy.library.access import identified
from mcpproxy.library.components.components import RemoteComponent
from mcpproxy.library.visibility import LABEL_OF
from mcpproxy.proxy.embed import (
    ANONYMOUS,
    LATEST_LEGACY,
    PROMPTS,
    RESOURCES,
    TEMPLATES,
    TOOLS,
    ClientIdentity,
    ComponentKind,
    Gateway,
    Identity,
    NullContext,
    RpcError,
    jsonrpc,
    relay_request,
)

if TYPE_CHECKING:
    from mcpproxy.library.server import Server

CALL = "tools/call"


def client_of(gateway: Gateway, identity: Identity) -> ClientIdentity:
    """Return the client for requests on behalf of a caller."""
    return gateway.routing.restrict(identified(ClientIdentity(LATEST_LEGACY), identity))


async def call_tool(
    gateway: Gateway, name: str, arguments: dict[str, Any], identity: Identity
) -> t.CallToolResult:
    """Call a tool on behalf of a caller. Raise MCPError."""
    params = jsonrpc.decode_object(jsonrpc.encode({"name": name, "arguments": arguments}))
    request = {
        "id": Raw(b'"call"'),
        "method": jsonrpc.encode_raw(CALL),
        "params": jsonrpc.encode_raw(params),
    }
    await gateway.routing.wait_for_route(CALL, params)
    try:
        caller = NullContext(client_of(gateway, identity))
        answer = await relay_request(gateway, request, CALL, params, caller)
        error = jsonrpc.error_of(answer, understood=True)
    except RpcError as raised:
        gateway.routing.record_refusal(raised, request)
        error = raised
    if error is not None:
        raise MCPError(error.code, error.message, error.data)
    return t.CallToolResult.model_validate(jsonrpc.decode(answer["result"]), by_name=False)


async def list_components(
    gateway: Gateway, kind: ComponentKind, identity: Identity
) -> list[dict[str, Any]]:
    """Return the components that a caller may use. Raise MCPError."""
    client = client_of(gateway, identity)
    try:
        listing = await gateway.aggregate.listing(kind, None, modern=False, client=client)
    except RpcError as error:
        raise MCPError(error.code, error.message, error.data) from None
    items: list[dict[str, Any]] = jsonrpc.decode(listing)[kind.member]
    return items


def describe_failures(gateway: Gateway) -> list[str]:
    """Return a message for each backend that cannot be used."""
    states = [backend.status() for backend in gateway.backends.values()]
    return [f"{state.name} is {state.state}: {state.message}" for state in states if state.message]


class InspectableServer(ABC):
    """The part of a server with which the program itself lists and calls components."""

    name: str

    @property
    @abstractmethod
    def gateway(self) -> Gateway:
        """The running gateway. Raise RuntimeError if the server is not running."""

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Run."""

    @abstractmethod
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""

    async def list_tools(
        self, *, identity: Identity = ANONYMOUS, strict: bool = False
    ) -> list[RemoteComponent]:
        """Return the tools.

        Raise MCPError if none are known because backends have failed; with `strict`, also if a
        part of them is not known, or is out of date, because one backend has failed.
        """
        return await self._list(TOOLS, identity, strict)

    async def list_prompts(
        self, *, identity: Identity = ANONYMOUS, strict: bool = False
    ) -> list[RemoteComponent]:
        """Return the prompts. Raise MCPError as `list_tools` does."""
        return await self._list(PROMPTS, identity, strict)

    async def list_resources(
        self, *, identity: Identity = ANONYMOUS, strict: bool = False
    ) -> list[RemoteComponent]:
        """Return the resources. Raise MCPError as `list_tools` does."""
        return await self._list(RESOURCES, identity, strict)

    async def list_resource_templates(
        self, *, identity: Identity = ANONYMOUS, strict: bool = False
    ) -> list[RemoteComponent]:
        """Return the resource templates. Raise MCPError as `list_tools` does."""
        return await self._list(TEMPLATES, identity, strict)

    async def get_tool(self, name: str, *, identity: Identity = ANONYMOUS) -> RemoteComponent:
        """Return a tool by its name. Raise LookupError."""
        return await self._get(TOOLS, name, identity)

    async def get_prompt(self, name: str, *, identity: Identity = ANONYMOUS) -> RemoteComponent:
        """Return a prompt by its name. Raise LookupError."""
        return await self._get(PROMPTS, name, identity)

    async def get_resource(self, uri: str, *, identity: Identity = ANONYMOUS) -> RemoteComponent:
        """Return a resource by its URI. Raise LookupError."""
        return await self._get(RESOURCES, uri, identity)

    async def get_resource_template(
        self, uri_template: str, *, identity: Identity = ANONYMOUS
    ) -> RemoteComponent:
        """Return a resource template by its URI template. Raise LookupError."""
        return await self._get(TEMPLATES, uri_template, identity)

    async def call_tool(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        identity: Identity = ANONYMOUS,
    ) -> t.CallToolResult:
        """Call a tool. Server requests during the call are refused. Raise MCPError."""
        async with self:
            return await call_tool(self.gateway, name, arguments or {}, identity)

    async def _list(
        self, kind: ComponentKind, identity: Identity, strict: bool = False
    ) -> list[RemoteComponent]:
        async with self:
            items = await list_components(self.gateway, kind, identity)
            failures = describe_failures(self.gateway) if strict else []
        if failures:
            raise MCPError(t.INTERNAL_ERROR, "; ".join(failures))
        origin = cast("Server", self)
        return [RemoteComponent(kind, item, origin, str(item[kind.key])) for item in items]

    async def _get(
        self, kind: ComponentKind, identifier: str, identity: Identity
    ) -> RemoteComponent:
        async with self:
            with contextlib.suppress(MCPError):
                for component in await self._list(kind, identity):
                    if component.identifier == identifier:
                        return component
            failures = describe_failures(self.gateway)
        missing = f"server {self.name} has no {LABEL_OF[kind]} {identifier}"
        raise LookupError("; ".join([missing, *failures]))
