"""`monitoring.profiling`: profiles of the process at the admin port."""

import asyncio
from typing import Any

import httpx2
import pytest

from mcpproxy.proxy.admin import profile
from mcpproxy.proxy.admin.profile import StackSampler
from tests.proxy.runtime.raw import Raw
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.waiting import STEP

pytestmark = LIVE
ENABLED = {"monitoring": {"profiling": "Enabled"}}


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes a profile in a fifth of the time that was asked for."""
    run = StackSampler.run
    monkeypatch.setattr(StackSampler, "run", lambda self, seconds: run(self, seconds / 5))


async def _get(running: Any, http: httpx2.AsyncClient, query: str = "") -> httpx2.Response:
    return await http.get(f"{running.admin}/profile{query}")


@pytest.mark.usefixtures("brief")
async def test_a_profile_shows_the_functions_that_serve_calls(
    peer: Any, proxy: Any, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "INTERVAL", 0.001)
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, **ENABLED)
    await running.until("p", "Healthy")
    profiling = asyncio.create_task(_get(running, http, "?seconds=1"))
    client = Raw(running.url, http)
    while not profiling.done():
        arguments = {"token": "secret-argument"}
        await client.call("tools/call", "p_echo", name="p_echo", arguments=arguments)
        await asyncio.wait([profiling], timeout=STEP)
    answer = await profiling
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    lines = answer.text.splitlines()
    counts = [int(line.rpartition(" ")[2]) for line in lines]
    assert counts == sorted(counts, reverse=True)
    assert 10 < sum(counts) <= 200
    assert "base_events.py:BaseEventLoop._run_once" in answer.text
    assert "secret-argument" not in answer.text


async def test_profiles_are_disabled_unless_the_spec_enables_them(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    for spec in ({}, {"monitoring": {"profiling": "Disabled"}}):
        running = await proxy({"name": "p", "url": url}, **spec)
        answer = await _get(running, http)
        assert answer.status_code == 404
        assert "set spec.monitoring.profiling to Enabled" in answer.text


@pytest.mark.usefixtures("brief")
async def test_a_profile_takes_ten_seconds_at_most_and_there_is_one_at_a_time(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, **ENABLED)
    for seconds in ("11", "0", "-1", "1e1", "x", "", "99999999999"):
        answer = await _get(running, http, f"?seconds={seconds}")
        assert answer.status_code == 400
        assert answer.text == "seconds: expected a whole number from 1 to 10\n"
    both = await asyncio.gather(*(_get(running, http, "?seconds=1") for _ in range(2)))
    assert sorted(answer.status_code for answer in both) == [200, 429]
    assert (await _get(running, http, "?seconds=1")).status_code == 200


async def test_profiles_are_for_the_same_pod_and_for_hosts_that_name_it(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, **ENABLED)
    headers = {"host": "rebound.example.com"}
    answer = await http.get(f"{running.admin}/profile", headers=headers)
    assert answer.status_code == 421


async def test_a_proxy_that_stops_does_not_wait_for_a_profile(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url}, **ENABLED)
    profiling = asyncio.create_task(_get(running, http, "?seconds=10"))
    await asyncio.sleep(0.2)
    async with asyncio.timeout(5):
        await running.stop()
    await asyncio.gather(profiling, return_exceptions=True)


async def test_metrics_tell_the_time_that_connections_and_sessions_take(
    peer: Any, proxy: Any, http: httpx2.AsyncClient
) -> None:
    _, url = await peer("p", "legacy")
    running = await proxy({"name": "p", "url": url})
    await running.until("p", "Healthy")
    client = Raw(running.url, http)
    await client.call("tools/call", "p_echo", name="p_echo", arguments={})
    text = (await http.get(f"{running.admin}/metrics")).text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if "{" in line)
    for step in ("connect", "open_session"):
        label = f'{{backend="p",step="{step}"}}'
        assert float(values[f"mcpproxy_backend_steps_total{label}"]) >= 1
        assert 0 < float(values[f"mcpproxy_backend_step_seconds_total{label}"]) < 10
    (cpu,) = (line for line in text.splitlines() if line.startswith("mcpproxy_cpu_seconds_total "))
    assert float(cpu.rsplit(" ", 1)[1]) > 0
