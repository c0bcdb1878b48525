"""The soak: what it does, and what it finds."""

import asyncio
import functools
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bench import disturbances, targets
from bench.processes import Processes, free_port
from bench.soak import Clients, spread
from bench.stub import Behaviour
from tests.bench.stubs import served
from tests.proxy.runtime.serving import LIVE, proxied

pytestmark = LIVE


async def _lived(url: str, seconds: float = 1.0) -> Clients:
    clients = Clients(url, time.monotonic() + seconds)
    await asyncio.gather(*(clients.place() for _ in range(8)))
    return clients


@pytest.mark.slow
async def test_clients_come_and_go_through_a_proxy_without_an_error() -> None:
    async with AsyncExitStack() as stack:
        specs = []
        for name, sessions, mode in (
            ("plain", False, "Isolated"),
            ("fresh", True, "Isolated"),
            ("held", True, "PerClient"),
        ):
            url = await stack.enter_async_context(served(Behaviour("both", sessions=sessions)))
            specs.append({"name": name, "url": url, "session": {"mode": mode}})
        proxy = await stack.enter_async_context(proxied(*specs))
        result = await _lived(proxy.url)
    assert result.errors == []
    assert next(result.lives) > 8
    assert result.calls > 8


@pytest.mark.slow
async def test_backends_that_are_killed_and_stopped_lose_calls_and_cause_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disturbances, "PAUSES", (0.2, 0.3))
    monkeypatch.setattr(disturbances, "OUTAGES", (0.2, 0.4))
    monkeypatch.setattr(disturbances, "AFTERMATH", 2.0)
    async with Processes(tmp_path) as processes, AsyncExitStack() as stack:
        starts, specs = {}, []
        for name in ("plain", "fresh", "held"):
            port = free_port()
            command = targets.stub_command(Behaviour("both"), port)
            starts[name] = functools.partial(processes.start, name, command, None)
            specs.append({"name": name, "url": f"http://127.0.0.1:{port}/mcp"})
        faults = disturbances.Disturbances(starts, seed=1)
        await faults.start()
        proxy = await stack.enter_async_context(proxied(*specs))
        for name in starts:
            await proxy.until(name, "Healthy")
        end = time.monotonic() + 6.0
        clients = Clients(proxy.url, end, faults)
        await asyncio.gather(faults.run(end), *(clients.place() for _ in range(8)))
    assert faults.made.total() > 2
    assert clients.errors == []
    assert clients.calls > 8


async def test_a_wrong_reply_is_an_error() -> None:
    async with served(Behaviour("both")) as url:
        # Its tools have no prefix: those that clients call are not there.
        result = await _lived(url, 0.1)
    assert result.errors
    assert "BadReply" in result.errors[0]


@pytest.mark.parametrize(
    ("samples", "result"),
    [
        ([*([10.0] * 30), *([100.0] * 90)], 0.0),
        ([*([100.0] * 60), *([104.0] * 60)], 0.04),
        ([100.0 + step for step in range(120)], 0.547),
        ([100.0, 100.0, 300.0, *([100.0] * 117)], 0.0),
    ],
    ids=["grows while it warms up", "a little more", "grows on", "one sample"],
)
async def test_memory_is_compared_between_the_parts_of_the_time_once_warm(
    samples: list[float], result: float
) -> None:
    assert spread(samples) == pytest.approx(result, abs=0.005)
