"""Sizes of what clients say of themselves."""

import json
from typing import Any

import httpx2
import pytest

from mcpproxy.limits.clients import CLIENT_CAPABILITIES, SESSION_ID
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS
from tests.proxy.runtime.raw import META, MODERN, Raw, error, last, modern, rpc
from tests.proxy.runtime.serving import LIVE

pytestmark = LIVE


def _initialize(capabilities: Any = None, **info: Any) -> Any:
    client = {"name": "c", "version": "1", **info}
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": capabilities or {},
        "clientInfo": client,
    }
    return rpc("initialize", params)


@pytest.mark.parametrize("size", [100, 4_000, 14_000, 50_000, 1_000_000])
async def test_s7_a_session_id_that_is_handed_out_is_accepted(
    peer: Any, proxy: Any, http: httpx2.AsyncClient, size: int
) -> None:
    server, url = await peer("p", "legacy")
    running = await proxy({"name": "p", "url": url, "prefix": ""})
    raw = Raw(running.url, http)
    icon = {"src": "data:image/png;base64," + "A" * size}
    answer = await raw.post(_initialize(icons=[icon]))
    raw.session = answer.headers["mcp-session-id"]
    assert len(raw.session) <= SESSION_ID.value
    called = await raw.post(rpc("tools/call", {"name": "echo", "arguments": {}}))
    assert "result" in last(called)
    sent = [json.loads(r.body)["params"] for r in server.gate.seen if r.rpc == "initialize"]
    assert {"name": "c", "version": "1"}.items() <= sent[-1]["clientInfo"].items()


async def test_initialize_names_the_capabilities_that_are_too_large(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    answer = await Raw(running.url, http).post(_initialize({"experimental": {"a": "b" * 9000}}))
    assert last(answer)["error"]["code"] == INVALID_PARAMS
    assert "params.capabilities" in last(answer)["error"]["message"]
    assert "mcp-session-id" not in answer.headers


async def test_capabilities_of_a_modern_client_are_bounded(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    large = {"experimental": {"a": "b" * CLIENT_CAPABILITIES.value}}
    message = modern("tools/list", _meta={f"{META}clientCapabilities": large})
    about = {"mcp_protocol_version": MODERN, "mcp_method": "tools/list"}
    before = CLIENT_CAPABILITIES.reached
    answer = await Raw(running.url, http).post(message, **about)
    assert error(answer) == (400, INVALID_PARAMS)
    assert CLIENT_CAPABILITIES.reached > before
