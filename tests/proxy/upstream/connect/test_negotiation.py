"""Negotiation of era and transport: once, and only from clear responses."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from starlette.responses import Response

from mcpproxy.proxy.core.errors import (
    BackendError,
    ProtocolError,
    RateLimited,
    TimedOut,
    Unauthorized,
    Unreachable,
)
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.upstream.connect.http_connector import HttpConnector
from mcpproxy.proxy.upstream.transports.session import UpstreamSession
from tests.proxy.runtime.serving import Gate
from tests.proxy.upstream.era_servers import (
    LEGACY,
    MODERN,
    Server,
    connector_of,
    error,
    initialized,
    legacy,
    modern,
    result_of,
    status,
)


async def _revision(connector: HttpConnector, client: ClientIdentity = MODERN) -> str:
    link: UpstreamSession = await connector.open(client)
    await link.close()
    return link.server.revision


async def test_a_modern_backend_is_asked_once_and_keeps_no_sessions() -> None:
    server = Server(modern, status(404))
    async with connector_of(server) as connector:
        for _ in range(3):
            link = await connector.open(MODERN)
            assert (link.server.revision, link.stateful) == ("2026-07-28", False)
        assert connector.transport == "streamable-http"
    assert server.asked.count("server/discover") == 1


REFUSALS = {
    "400": status(400),
    "404": status(404),
    "405": status(405),
    "junk": status(200, "<html>"),
    "method not found": error(-32601),
    "bad request with an error": error(-32600, 400),
    "session missing": error(-32000, 400),
    "no common version": lambda method, message: result_of(
        message, supportedVersions=["2030-01-01"]
    ),
    "odd versions": lambda method, message: result_of(message, supportedVersions="all"),
    "no versions": lambda method, message: result_of(message),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_backend_without_discover_is_used_in_the_legacy_era(
    case: str,
) -> None:
    server = Server(REFUSALS[case], legacy)
    async with connector_of(server) as connector:
        for _ in range(3):
            assert await _revision(connector) == "2025-11-25"
    assert server.asked.count("server/discover") == 1
    assert server.asked.count("initialize") == 3


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (401, Unauthorized),
        (403, Unauthorized),
        (429, RateLimited),
        (500, Unreachable),
        (503, Unreachable),
    ],
)
async def test_a_response_that_proves_no_era_is_an_error_and_not_cached(
    code: int, kind: type[BackendError]
) -> None:
    server = Server(status(code), status(code))
    async with connector_of(server) as connector:
        for client in (MODERN, LEGACY):
            with pytest.raises(kind):
                await connector.open(client)
        server.discover = modern
        assert await _revision(connector) == "2026-07-28"


async def test_a_silent_server_is_an_error_within_the_timeout() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await asyncio.Event().wait()

    async with connector_of(
        silent, timeouts={"connect": "200ms", "initialize": "200ms"}
    ) as connector:
        with pytest.raises(TimedOut):
            await asyncio.wait_for(connector.open(MODERN), 5)
        connector._endpoint.client.close()


async def test_a_backend_may_come_back_in_another_era() -> None:
    server = Server(modern, legacy)
    async with connector_of(server) as connector:
        assert await _revision(connector) == "2026-07-28"
        server.discover = status(404)
        connector.forget()
        assert await _revision(connector) == "2025-11-25"
        server.discover = modern
        connector.forget()
        assert await _revision(connector) == "2026-07-28"


async def test_each_client_is_served_in_its_era_if_the_backend_supports_both() -> None:
    async with connector_of(Server(modern, legacy)) as connector:
        assert await _revision(connector, MODERN) == "2026-07-28"
        assert await _revision(connector, LEGACY) == "2025-11-25"
        older = ClientIdentity("2025-03-26")
        assert await _revision(connector, older) == "2025-03-26"


@pytest.mark.parametrize("protocol", ["modern", "2026-07-28"])
async def test_a_pinned_modern_revision_is_never_abandoned(protocol: str) -> None:
    server = Server(status(404), legacy)
    async with connector_of(server, protocol=protocol) as connector:
        for client in (MODERN, LEGACY):
            with pytest.raises(ProtocolError):
                await connector.open(client)
    assert "initialize" not in server.asked


async def test_a_pinned_legacy_revision_never_probes_the_modern_era() -> None:
    server = Server(modern, legacy)
    async with connector_of(server, protocol="legacy") as connector:
        assert await _revision(connector) == "2025-11-25"
    assert "server/discover" not in server.asked


async def test_a_pinned_revision_is_offered_and_insisted_on() -> None:
    async with connector_of(Server(modern, legacy), protocol="2025-06-18") as connector:
        assert await _revision(connector) == "2025-06-18"

    def newer(method: str, message: Any) -> Response:
        return initialized(message, "2025-11-25")

    async with connector_of(Server(modern, newer), protocol="2025-06-18") as connector:
        with pytest.raises(ProtocolError, match="2025-06-18"):
            await connector.open(LEGACY)


@pytest.mark.parametrize("revision", ["2030-01-01", "", "2026-07-28"])
async def test_an_unknown_revision_is_not_mcp(revision: str) -> None:
    def odd(method: str, message: Any) -> Response:
        return result_of(message, protocolVersion=revision, capabilities={})

    async with connector_of(Server(status(404), odd)) as connector:
        with pytest.raises(ProtocolError):
            await connector.open(LEGACY)


@pytest.mark.parametrize("session", ["a b", "ü", "x" * 3000])
async def test_s7_a_malformed_session_id_is_refused(session: str) -> None:
    def odd(method: str, message: Any) -> Response:
        answer = initialized(message)
        answer.raw_headers.append((b"mcp-session-id", session.encode("latin-1")))
        return answer

    async with connector_of(Server(status(404), odd)) as connector:
        with pytest.raises(ProtocolError):
            await connector.open(LEGACY)


def _old() -> Any:
    server = MCPServer("old", version="1", log_level="WARNING")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Sum."""
        return a + b

    return server.sse_app()


async def test_an_sse_backend_is_found_by_auto_and_remembered() -> None:
    async with connector_of(_old(), "/sse") as connector:
        for _ in range(2):
            assert await _revision(connector, LEGACY) == "2025-11-25"
            assert connector.transport == "sse"


async def test_over_sse_the_stream_and_every_message_have_the_headers_of_the_client() -> None:
    gate = Gate(_old())
    async with connector_of(gate, "/sse", forwardHeaders=["X-User"]) as connector:
        ann = replace(LEGACY, headers=((b"x-user", b"ann"), (b"x-other", b"no")))
        await _revision(connector, ann)
    ways = {(request.method, request.headers.get("x-user")) for request in gate.seen}
    assert ways == {("GET", "ann"), ("POST", "ann")}
    assert all("x-other" not in request.headers for request in gate.seen)


async def test_an_sse_backend_is_rejected_if_streamable_http_is_configured() -> None:
    async with connector_of(_old(), "/sse", transport="streamable-http") as connector:
        with pytest.raises(ProtocolError):
            await connector.open(LEGACY)


async def test_a_streamable_backend_is_rejected_if_sse_is_configured() -> None:
    async with connector_of(Server(modern, legacy), transport="sse") as connector:
        with pytest.raises(BackendError):
            await connector.open(MODERN)
