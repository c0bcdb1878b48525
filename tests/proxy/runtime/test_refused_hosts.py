"""Backends that refuse the host, and those to which no connection comes about, by their address."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mcpproxy.api.v1alpha1.status import BackendStatus
from mcpproxy.limits import backends as limits
from mcpproxy.proxy.http1.client import client as client_module
from mcpproxy.proxy.upstream import http_errors
from tests.proxy.runtime.dns import Dns
from tests.proxy.runtime.serving import LIVE, Proxy, free_port, serving
from tests.proxy.upstream.test_bounds import smaller

pytestmark = LIVE

HOST = "weather.team.svc"


class Refusing:
    """Answers every request alike."""

    def __init__(self, response: ASGIApp) -> None:
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._response(scope, receive, send)


async def refused(
    app: ASGIApp, proxy: Any, stack: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[BackendStatus, int]:
    """A backend behind a Service's name, as the pod reports it once checked; and its port."""
    Dns(monkeypatch).known.add(HOST)
    port = int((await stack.enter_async_context(serving(app))).rpartition(":")[2])
    running: Proxy = await proxy({"name": "p", "service": {"name": "weather", "port": port}})
    (backend,) = (await running.report()).backends
    return backend, port


async def test_a_server_of_the_sdk_that_does_not_know_the_name_is_reported_with_the_remedy(
    proxy: Any, stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = TransportSecuritySettings(allowed_hosts=["localhost:*"], allowed_origins=[])
    app = MCPServer("strict").streamable_http_app(transport_security=local)
    result, port = await refused(app, proxy, stack, monkeypatch)
    assert (result.state, result.reason) == ("Unhealthy", "HostRefused")
    assert result.message == (
        f"HTTP 421 (Invalid Host header): the backend does not serve the host {HOST}:{port};"
        " add it, with its port, to the allowed hosts of the server"
    )


TYPESCRIPT = {"jsonrpc": "2.0", "error": {"code": -32000, "message": "Invalid Host: weather"}}


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (Response("Invalid Host header", 421), "HostRefused"),
        (PlainTextResponse("", 421), "HostRefused"),
        (JSONResponse(TYPESCRIPT, 403), "HostRefused"),
        (PlainTextResponse("Forbidden: invalid Host header", 403), "HostRefused"),
        (PlainTextResponse("Forbidden: no scope", 403), "Unauthorized"),
        (Response("<p>invalid host</p>", 403, media_type="text/html"), "Unauthorized"),
        (JSONResponse({"error": "insufficient_scope"}, 403), "Unauthorized"),
    ],
    ids=["421", "421-empty", "403-json", "403-text", "403-other", "403-html", "403-scope"],
)
async def test_a_refused_host_is_distinguished_from_refused_credentials(
    proxy: Any, stack: Any, monkeypatch: pytest.MonkeyPatch, response: ASGIApp, reason: str
) -> None:
    result, _ = await refused(Refusing(response), proxy, stack, monkeypatch)
    assert result.reason == reason


async def test_no_more_than_the_beginning_of_a_refusal_is_repeated_in_printable_characters(
    proxy: Any, stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = Response("Invalid\r\n\x1b[31mHost " + "x" * 100_000, 421)
    result, _ = await refused(Refusing(body), proxy, stack, monkeypatch)
    assert result.message is not None
    assert result.message.startswith("HTTP 421 (Invalid \ufffd[31mHost xxx")
    assert len(result.message) < 250


async def test_a_refusal_whose_body_never_comes_is_reported_without_it(
    proxy: Any, stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-length", b"9")]
        await send({"type": "http.response.start", "status": 421, "headers": headers})
        await asyncio.Event().wait()

    limit = smaller(monkeypatch, http_errors, limits.REFUSAL_TIME, "REFUSAL_TIME", 0)
    reached = limit.reached
    result, _ = await refused(silent, proxy, stack, monkeypatch)
    assert result.reason == "HostRefused"
    assert result.message is not None
    assert result.message.startswith("HTTP 421: the backend does not serve")
    assert limit.reached > reached


async def test_a_refused_connection_is_reported_with_its_address_which_clients_do_not_learn(
    proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Dns(monkeypatch).known.add(HOST)
    port = free_port()
    running = await proxy({"name": "p", "service": {"name": "weather", "port": port}})
    (backend,) = (await running.report()).backends
    assert (backend.reason, backend.message) == (
        "Unreachable",
        f"{HOST}:{port}: connection refused",
    )
    async with Client(running.url, mode="legacy") as client:
        with pytest.raises(MCPError, match="backend p: connection refused") as caught:
            await client.call_tool("p_x", {})
    assert HOST not in str(caught.value)


async def test_a_name_that_does_not_resolve_is_reported_with_it(
    proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Dns(monkeypatch)
    running = await proxy({"name": "p", "service": {"name": "absent", "port": 8080}})
    (backend,) = (await running.report()).backends
    assert backend.message == ("absent.team.svc:8080: the host name does not resolve")


SEVERAL: Mapping[str, str] = {
    "Multiple exceptions: [Errno 111] Connect call failed ('::1', 9, 0, 0),"
    " [Errno 111] Connect call failed ('127.0.0.1', 9)": "connection refused",
    "Multiple exceptions: [Errno 113] Connect call failed ('fd00::1', 9, 0, 0),"
    " [Errno 101] Connect call failed ('10.0.0.1', 9)": "no connection: Network is unreachable",
    "strange": "no connection: OSError",
}


@pytest.mark.parametrize(("text", "why"), SEVERAL.items())
async def test_errors_are_equal_for_names_with_one_and_with_several_addresses(
    text: str, why: str
) -> None:
    assert client_module._why(OSError(text)) == why
