"""Addresses of a backend, its protocol, and the names of its components."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mcp import Client
from mcp.server.mcpserver import MCPServer
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.differential.backend import Backend, Call
from tests.proxy.runtime.dns import Dns
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.serving import LIVE, Gate, serving
from tests.support.authority import Mounted

pytestmark = LIVE


async def _answer(call: Call) -> None:
    raise NotImplementedError


def _server() -> Gate:
    """A server of the legacy era that does not care for the path."""
    return Gate(Backend("legacy", _answer))


async def test_the_backend_is_the_server_at_its_url(peer: Any, proxy: Any) -> None:
    servers = [await peer(name) for name in ("one", "other")]
    names = []
    for _, url in servers:
        running = await proxy({"name": "p", "url": url})
        await running.until("p", "Healthy")
        (backend,) = (await running.report()).backends
        assert backend.server is not None
        names.append(backend.server.name)
    assert names == ["one", "other"]


@pytest.mark.parametrize(
    ("service", "host", "path"),
    [
        ({"name": "peer"}, "peer.team.svc", "/mcp"),
        ({"name": "other"}, "other.team.svc", "/mcp"),
        ({"name": "peer", "namespace": "far"}, "peer.far.svc", "/mcp"),
        ({"name": "peer", "path": "/v1/tools"}, "peer.team.svc", "/v1/tools"),
    ],
)
async def test_a_service_is_called_by_its_name_namespace_port_and_path(
    proxy: Any,
    stack: Any,
    monkeypatch: pytest.MonkeyPatch,
    service: dict[str, Any],
    host: str,
    path: str,
) -> None:
    Dns(monkeypatch).known.add(host)
    server = _server()
    port = urlsplit(await stack.enter_async_context(serving(server))).port
    running = await proxy({"name": "p", "service": {**service, "port": port}})
    await running.until("p", "Healthy")
    assert {(item.headers["host"], item.path) for item in server.seen} == {(f"{host}:{port}", path)}


async def test_headers_are_those_of_the_spec_of_secrets_and_of_config_maps(
    proxy: Any, stack: Any, tmp_path: Path
) -> None:
    values = Mounted(tmp_path)
    values.write("secret/weather/token", "Bearer s3cret")
    values.write("configmap/settings/region", "north")
    server = _server()
    base = await stack.enter_async_context(serving(server))
    headers = [
        {"name": "X-Tenant", "value": "a"},
        {
            "name": "Authorization",
            "valueFrom": {"secretKeyRef": {"name": "weather", "key": "token"}},
        },
        {
            "name": "X-Region",
            "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "region"}},
        },
    ]
    backend = {"name": "p", "url": f"{base}/mcp", "headers": headers}
    running = await proxy(backend, options={"values": tmp_path})
    await running.until("p", "Healthy")
    names = ("x-tenant", "authorization", "x-region")
    result = {tuple(item.headers.get(name) for name in names) for item in server.seen}
    assert result == {("a", "Bearer s3cret", "north")}


@pytest.mark.parametrize(
    ("value", "outward"),
    [({}, "p_echo"), ({"prefix": "my"}, "my_echo"), ({"prefix": ""}, "echo")],
)
async def test_components_have_the_name_of_their_backend_or_its_prefix(
    peer: Any, proxy: Any, value: dict[str, Any], outward: str
) -> None:
    _, url = await peer()
    running = await proxy({"name": "p", "url": url, **value})
    await running.until("p", "Healthy")
    async with Client(running.url, mode="legacy") as client:
        assert outward in [tool.name for tool in (await client.list_tools()).tools]
        assert not (await client.call_tool(outward, {})).is_error


class Both:
    """A server whose one URL takes streamable HTTP and HTTP+SSE."""

    def __init__(self) -> None:
        server = MCPServer("both", version="1.0", log_level="WARNING")
        self._new: ASGIApp = server.streamable_http_app()
        self._old: ASGIApp = server.sse_app(sse_path="/mcp", message_path="/messages/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        old = scope["type"] == "http" and (
            scope["method"] == "GET" or scope["path"].startswith("/messages")
        )
        await (self._old if old else self._new)(scope, receive, send)


@pytest.mark.parametrize(
    ("transport", "spoken"),
    [("auto", "streamable-http"), ("streamable-http", "streamable-http"), ("sse", "sse")],
)
async def test_the_transport_is_the_one_that_is_named(
    proxy: Any, stack: Any, transport: str, spoken: str
) -> None:
    base = await stack.enter_async_context(serving(Both()))
    running = await proxy({"name": "p", "url": f"{base}/mcp", "transport": transport})
    await running.until("p", "Healthy")
    (backend,) = (await running.report()).backends
    assert backend.transport == spoken


@pytest.mark.parametrize(
    ("protocol", "spoken"),
    [
        ("auto", "2026-07-28"),
        ("modern", "2026-07-28"),
        ("2026-07-28", "2026-07-28"),
        ("legacy", "2025-11-25"),
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
    ],
)
async def test_a_backend_is_used_with_the_configured_protocol(
    peer: Any, proxy: Any, protocol: str, spoken: str
) -> None:
    server, url = await peer("p")
    running = await proxy({"name": "p", "url": url, "protocol": protocol})
    await running.until("p", "Healthy")
    (backend,) = (await running.report()).backends
    assert backend.protocol_version == spoken
    for mode in ("legacy", "2026-07-28"):
        server.gate.seen.clear()
        async with Client(running.url, mode=mode) as client:
            assert not (await client.call_tool("p_echo", {})).is_error
        (call,) = [item for item in server.gate.seen if item.rpc == "tools/call"]
        expected = spoken if protocol != "auto" else {"legacy": "2025-11-25"}.get(mode, mode)
        assert call.headers["mcp-protocol-version"] == expected


@pytest.mark.parametrize(("protocol", "era"), [("modern", "legacy"), ("legacy", "modern")])
async def test_a_backend_of_another_era_than_its_protocol_is_unhealthy(
    proxy: Any, stack: Any, protocol: str, era: str
) -> None:
    base = await stack.enter_async_context(serving(Peer("p", era).gate))
    running = await proxy({"name": "p", "url": f"{base}/mcp", "protocol": protocol})
    await running.until("p", "Unhealthy")
    (backend,) = (await running.report()).backends
    assert backend.reason == "NotMCP"
