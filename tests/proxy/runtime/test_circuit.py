"""`circuitBreaker`: calls to a backend that can't be reached fail at once and are not sent."""

import time
from typing import Any

import httpx2
import pytest

from mcpproxy.proxy.core.errors import Unreachable
from mcpproxy.proxy.upstream.circuit import circuit
from mcpproxy.proxy.upstream.monitor import check_schedule
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, free_port, serving
from tests.proxy.runtime.test_failures import silent
from tests.proxy.runtime.waiting import eventually

pytestmark = LIVE
ERAS = ("legacy", "modern")
RARELY = {"interval": "1h", "timeout": "2s", "unhealthyAfter": 1}
"""Checks that only failures cause."""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures need not cover a second, and checks follow soon."""
    monkeypatch.setattr(circuit, "SPAN", 0.0)
    monkeypatch.setattr(circuit, "PROBE_FIRST", 0.2)
    monkeypatch.setattr(check_schedule, "APART", 0.1)


async def _client(running: Proxy, http: httpx2.AsyncClient, era: str) -> Raw:
    client = Raw(running.url, http)
    if era == "legacy":
        await client.initialize()
    return client


async def _call(client: Raw, era: str, tool: str) -> Any:
    if era == "modern":
        return last(await client.call("tools/call", tool, name=tool, arguments={}))
    return last(await client.post(rpc("tools/call", {"name": tool, "arguments": {}})))


async def _reasons(client: Raw, era: str, tool: str, count: int) -> list[str]:
    answers = [await _call(client, era, tool) for _ in range(count)]
    return [answer["error"]["data"]["reason"] for answer in answers]


@pytest.mark.parametrize("era", ERAS)
async def test_calls_to_a_backend_that_is_gone_are_refused_until_a_check_succeeds(
    peer: Any, proxy: Any, http: Any, era: str
) -> None:
    port, (_, other) = free_port(), await peer("q")
    running = await proxy(
        {"name": "p", "url": f"http://127.0.0.1:{port}/mcp"},
        {"name": "q", "url": other},
        health=RARELY,
    )
    client = await _client(running, http, era)
    assert await _reasons(client, era, "p_echo", 5) == 5 * ["Unreachable"]
    error = (await _call(client, era, "p_echo"))["error"]
    wait = error["data"].pop("retryAfterMs")
    assert 0 < wait <= 1000
    told = {"backend": "p", "reason": "CircuitOpen", "mayHaveRun": False}
    assert (error["code"], error["data"]) == (-32000, told)
    assert "not sent: 5 requests in a row failed (connection refused)" in error["message"]
    assert "result" in await _call(client, era, "q_echo")
    metrics = (await http.get(f"{running.admin}/metrics")).text
    assert 'mcpproxy_circuit_openings_total{backend="p"} 1.0' in metrics
    assert 'mcpproxy_circuit_openings_total{backend="q"} 0.0' in metrics
    async with serving(Peer("p").gate, port):

        async def served() -> bool:
            return "result" in await _call(client, era, "p_echo")

        await eventually(served, "a call to be served")
        assert await running.state("p") == "Healthy"


async def test_the_status_of_a_backend_tells_that_calls_are_refused(
    peer: Any, proxy: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, health=RARELY)
    await running.until("p", "Healthy")
    backend = running.runtime.gateway.backends["p"]
    told: list[None] = []
    running.runtime.gateway.watch(lambda: told.append(None))
    for _ in range(5):
        backend.circuit.record_failure(Unreachable("connection refused").unsent())
    (status,) = (await running.report()).backends
    assert (status.state, status.reason) == ("Unhealthy", "CircuitOpen")
    assert status.message == "5 requests in a row failed (connection refused)"
    assert told
    await running.until("p", "Healthy")


@pytest.mark.parametrize("era", ERAS)
async def test_slow_tools_and_errors_never_cause_refusals(
    peer: Any, proxy: Any, http: Any, era: str
) -> None:
    server, url = await peer("p")
    timeouts = {"request": "150ms"}
    running = await proxy({"name": "p", "url": url, "timeouts": timeouts}, health=RARELY)
    await running.until("p", "Healthy")
    client = await _client(running, http, era)
    try:
        assert await _reasons(client, era, "p_slow", 8) == 8 * ["TimedOut"]
        server.gate.status = 503
        assert await _reasons(client, era, "p_echo", 8) == 8 * ["Unreachable"]
        server.gate.status = None
        assert "result" in await _call(client, era, "p_echo")
    finally:
        server.release.set()
    assert running.runtime.gateway.backends["p"].circuit.openings == 0


async def test_the_number_of_failures_is_that_of_the_spec(proxy: Any, http: Any) -> None:
    url = f"http://127.0.0.1:{free_port()}/mcp"
    breaker = {"circuitBreaker": {"failures": 2}}
    running = await proxy({"name": "p", "url": url, **breaker}, health=RARELY)
    client = await _client(running, http, "modern")
    reasons = await _reasons(client, "modern", "p_echo", 3)
    assert reasons == ["Unreachable", "Unreachable", "CircuitOpen"]


async def test_a_disabled_circuit_breaker_refuses_nothing(proxy: Any, http: Any) -> None:
    url = f"http://127.0.0.1:{free_port()}/mcp"
    breaker = {"circuitBreaker": {"mode": "Disabled", "failures": 1}}
    running = await proxy({"name": "p", "url": url, **breaker}, health=RARELY)
    client = await _client(running, http, "modern")
    assert await _reasons(client, "modern", "p_echo", 8) == 8 * ["Unreachable"]


async def test_calls_to_a_backend_that_hangs_are_refused_at_once_after_the_first_ones(
    proxy: Any, http: Any
) -> None:
    async with silent() as url:
        timeouts = {"connect": "50ms", "initialize": "50ms", "request": "5s"}
        backend = {"name": "p", "url": url, "timeouts": timeouts}
        running = await proxy(backend, health={**RARELY, "timeout": "50ms"})
        client = await _client(running, http, "modern")
        assert await _reasons(client, "modern", "p_echo", 5) == 5 * ["TimedOut"]
        started = time.perf_counter()
        assert await _reasons(client, "modern", "p_echo", 5) == 5 * ["CircuitOpen"]
        assert time.perf_counter() - started < 1.0
