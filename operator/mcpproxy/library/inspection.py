"""Requests of the program itself to a running server, on behalf of a caller."""

from typing import Any

import mcp_types as t
from mcp import MCPError
from msgspec import Raw

from mcpproxy.library.access import identified
from mcpproxy.proxy.embed import (
    LATEST_LEGACY,
    ClientIdentity,
    ComponentKind,
    Gateway,
    Identity,
    NullContext,
    RpcError,
    jsonrpc,
    relay_request,
)

CALL = "tools/call"


def client_of(gateway: Gateway, identity: Identity) -> ClientIdentity:
    """Return the client for requests on behalf of a caller."""
    return gateway.restrict(identified(ClientIdentity(LATEST_LEGACY), identity))


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
    await gateway.wait_for_route(CALL, params)
    try:
        caller = NullContext(client_of(gateway, identity))
        answer = await relay_request(gateway, request, CALL, params, caller)
        error = jsonrpc.error_of(answer, understood=True)
    except RpcError as raised:
        gateway.record_refusal(raised, request)
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
        listing = await gateway.listing(kind, None, modern=False, client=client)
    except RpcError as error:
        raise MCPError(error.code, error.message, error.data) from None
    items: list[dict[str, Any]] = jsonrpc.decode(listing)[kind.member]
    return items


def describe_failures(gateway: Gateway) -> list[str]:
    """Return a message for each backend that cannot be used."""
    states = [backend.status() for backend in gateway.backends.values()]
    return [f"{state.name} is {state.state}: {state.message}" for state in states if state.message]
