"""The admin port: what the kubelet, Prometheus and the operator see."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import pytest_asyncio
from mcp import Client
from prometheus_client.parser import text_string_to_metric_families

from mcpproxy.api.v1alpha1.status import PodReport
from mcpproxy.proxy.admin import watchers
from mcpproxy.proxy.config.options import DRAIN, RuntimeOptions
from mcpproxy.proxy.runtime import Runtime
from tests.proxy.http1.server.served import Client as RawClient
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import BUSY, LIVE, configuration, free_port, proxied
from tests.proxy.runtime.waiting import eventually

pytestmark = LIVE


@pytest_asyncio.fixture(loop_scope="session")
async def http(stack: AsyncExitStack) -> httpx2.AsyncClient:
    """A client."""
    return await stack.enter_async_context(httpx2.AsyncClient(timeout=20))


async def test_a_running_proxy_is_alive_and_ready_and_reports_its_configuration(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    server, url = await peer("p", "modern")
    running = await proxy({"name": "p", "url": url})
    for path in ("/livez", "/readyz"):
        assert (await http.get(running.admin + path)).status_code == 200
    result = (await http.get(f"{running.admin}/status")).json()
    assert result["configHash"] == "0" * 64
    assert result["clashes"] == []
    assert len(result["catalogHash"]) == 64
    assert result["backends"] == [
        {
            "name": "p",
            "state": "Healthy",
            "protocolVersion": "2026-07-28",
            "transport": "streamable-http",
            "server": {"name": "p", "version": "1.0"},
            "session": "Stateless",
            "sessionMode": "Isolated",
            "sessionModeFrom": "Transport",
            "components": {
                "tools": len(server.tools),
                "prompts": 1,
                "resources": 2,
                "resourceTemplates": 1,
            },
        }
    ]


async def test_the_same_state_is_the_same_status(peer: Any, proxy: Any, http: Any) -> None:
    server, url = await peer("p", "modern")
    running = await proxy({"name": "p", "url": url}, **BUSY)
    first = (await http.get(f"{running.admin}/status")).content
    before = server.gate.count("server/discover")

    async def checked() -> bool:
        return bool(server.gate.count("server/discover") >= before + 3)

    await eventually(checked, "three more checks")
    assert (await http.get(f"{running.admin}/status")).content == first


@asynccontextmanager
async def _silent_until(release: asyncio.Event) -> AsyncIterator[str]:
    """A server that accepts, says nothing before the event and then closes; gives its URL."""

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"


async def test_the_proxy_is_alive_but_not_ready_before_the_first_check(
    stack: AsyncExitStack, http: httpx2.AsyncClient
) -> None:
    release = asyncio.Event()
    hung = await stack.enter_async_context(_silent_until(release))
    port, admin_port = free_port(), free_port()
    runtime = Runtime(
        configuration({"name": "hung", "url": hung}),
        RuntimeOptions(port=port, admin_port=admin_port),
    )
    serving = asyncio.create_task(runtime.serve_http())
    base = f"http://127.0.0.1:{admin_port}"
    statuses = []

    async def alive() -> bool:
        try:
            return (await http.get(f"{base}/livez")).is_success
        except httpx2.ConnectError:
            return False

    async def ready() -> bool:
        async with asyncio.timeout(1):
            statuses.append((await http.get(f"{base}/readyz")).status_code)
        return statuses[-1] == 200

    try:
        await eventually(alive, "livez")
        assert not await ready()
        release.set()
        await eventually(ready, "readyz after the first round")
    finally:
        runtime.stop()
        await serving
    assert statuses[0] == 503


async def test_a_proxy_whose_backends_are_all_dead_is_ready(
    proxy: Any, http: httpx2.AsyncClient
) -> None:
    running = await proxy({"name": "dead", "url": f"http://127.0.0.1:{free_port()}/mcp"})
    assert (await http.get(f"{running.admin}/readyz")).status_code == 200
    (backend,) = (await running.report()).backends
    assert (backend.state, backend.reason) == ("Unhealthy", "Unreachable")


async def test_after_sigterm_it_is_not_ready_while_a_call_in_flight_still_finishes(
    peer: Any, http: httpx2.AsyncClient
) -> None:
    server, url = await peer("p")
    async with proxied({"name": "p", "url": url}) as running:
        raw = Raw(running.url, http)
        await raw.initialize()
        call = rpc("tools/call", {"name": "p_slow", "arguments": {}})
        slow = asyncio.create_task(raw.post(call))
        await server.started.wait()
        running.runtime.stop()

        async def draining() -> bool:
            return (await http.get(f"{running.admin}/readyz")).status_code == 503

        await eventually(draining, "readyz to be 503")
        assert not slow.done()
        server.release.set()
        answer = await slow
        assert last(answer)["result"]["content"][0]["text"] == "slow"
        async with asyncio.timeout(5):
            await running.serving


async def test_a_request_on_a_kept_connection_is_served_after_sigterm(
    peer: Any, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcpproxy.proxy.runtime.LAST_REQUESTS", 1.0)
    _, url = await peer("p")
    async with proxied({"name": "p", "url": url}, options={"drain": 20}) as running:
        at = urlsplit(running.url)
        client = RawClient(*await asyncio.open_connection(at.hostname, at.port))
        assert (await client.ask("/nowhere")).status == 404
        running.runtime.stop()

        async def draining() -> bool:
            return (await http.get(f"{running.admin}/readyz")).status_code == 503

        await eventually(draining, "readyz to be 503")
        answer = await client.ask("/nowhere")
        assert (answer.status, answer.headers["connection"]) == (404, "close")
        async with asyncio.timeout(5):
            await running.serving
        client.writer.close()


async def _lines(answer: httpx2.Response) -> AsyncIterator[str]:
    async for line in answer.aiter_lines():
        yield line


async def test_a_watcher_gets_a_report_at_once_and_one_for_each_change(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    server, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    await running.until("p", "Healthy")
    async with http.stream("GET", f"{running.admin}/status?watch") as answer:
        lines = _lines(answer)

        async def report() -> PodReport:
            while not (line := await anext(lines)):
                pass
            return PodReport.model_validate_json(line)

        async with asyncio.timeout(15):
            assert (await report()).backends[0].state == "Healthy"
            server.gate.status = 401
            result = await report()
            assert (result.backends[0].state, result.backends[0].components) == (
                "Unauthorized",
                None,
            )
            assert result.catalog_hash is None
            server.gate.status = None
            while (result := await report()).backends[0].components is None:
                pass
            assert result.backends[0].state == "Healthy"
            await server.grow("more")

            def tools(actual: PodReport) -> int | None:
                counts = actual.backends[0].components
                return counts.tools if counts else None

            while tools(result) != len(server.tools):
                result = await report()


async def test_a_watcher_gets_blank_lines_while_nothing_changes(
    peer: Any, proxy: Any, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchers, "KEEP_ALIVE", 0.02)
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    await running.until("p", "Healthy")
    async with http.stream("GET", f"{running.admin}/status?watch") as answer:
        lines = _lines(answer)
        results = [await anext(lines) for _ in range(6)]
    assert json.loads(results[0])["backends"][0]["state"] == "Healthy"
    assert results[1:] == [""] * 5


async def test_metrics_parse_and_their_labels_do_not_grow_with_what_clients_send(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    async with Client(running.url, mode="legacy") as client:
        await client.call_tool("p_echo", {"secret": "of-the-client"})
    raw = Raw(running.url, http)
    await raw.initialize()
    for number in range(20):
        await raw.post(rpc(f"vendor/{number}"))
        await raw.post(rpc("tools/call", {"name": f"p_unknown{number}", "arguments": {}}))
    text = (await http.get(f"{running.admin}/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    requests = families["mcp_server_operation_duration_seconds"].samples
    methods = {sample.labels["mcp_method_name"] for sample in requests}
    assert methods == {"initialize", "tools/list", "tools/call", "_OTHER"}
    total = {
        (sample.labels["gen_ai_tool_name"], sample.labels["error_type"]): sample.value
        for sample in requests
        if sample.name.endswith("_count") and sample.labels["mcp_method_name"] == "tools/call"
    }
    assert total == {("p_echo", ""): 1, ("_OTHER", "-32602"): 20}
    calls = families["mcp_client_operation_duration_seconds"].samples
    assert {sample.labels["mcp_method_name"] for sample in calls} == {"tools/call", "_OTHER"}
    for name in ("unknown7", "vendor", "of-the-client", "secret"):
        assert name not in text
    states = {s.labels["state"]: s.value for s in families["mcpproxy_backend_state"].samples}
    assert (states["Healthy"], sum(states.values())) == (1, 1)
    assert {s.labels["kind"] for s in families["mcpproxy_components"].samples} == {
        "tools",
        "prompts",
        "resources",
        "resourceTemplates",
    }


async def test_a_call_that_does_not_end_is_abandoned_after_the_time_to_drain(
    peer: Any, http: httpx2.AsyncClient
) -> None:
    server, url = await peer("p")
    async with proxied({"name": "p", "url": url}, options={"drain": 1}) as running:
        raw = Raw(running.url, http)
        await raw.initialize()
        call = rpc("tools/call", {"name": "p_slow", "arguments": {}})
        slow = asyncio.create_task(raw.post(call))
        await server.started.wait()
        running.runtime.stop()
        async with asyncio.timeout(DRAIN / 2):
            await running.serving
        server.release.set()
        await asyncio.gather(slow, return_exceptions=True)


@pytest.mark.parametrize("path", ["/status?watch", "/page/watch"])
async def test_a_process_that_stops_does_not_wait_for_its_watchers(
    peer: Any, http: httpx2.AsyncClient, path: str
) -> None:
    _, url = await peer("p")
    port, admin = free_port(), free_port()
    options = RuntimeOptions(port=port, admin_port=admin)
    runtime = Runtime(configuration({"name": "p", "url": url}), options)
    serves = asyncio.Event()
    serving = asyncio.create_task(runtime.serve_http(serves.set))
    await serves.wait()
    async with http.stream("GET", f"http://127.0.0.1:{admin}{path}") as answer:
        lines = _lines(answer)
        await anext(lines)
        runtime.stop()
        async with asyncio.timeout(DRAIN / 3):
            # Without the end of a chunked body, the client would raise an error.
            _ = [line async for line in lines]
            await serving
