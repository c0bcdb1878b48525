"""The soak: what it does, and what it finds."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from bench.soak import Clients, spread
from bench.stub import Behaviour
from tests.bench.stubs import served
from tests.proxy.runtime.serving import LIVE, proxied

pytestmark = LIVE


async def _lived(url: str) -> Clients:
    clients = Clients(url, time.monotonic() + 1.0)
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


async def test_a_wrong_reply_is_an_error() -> None:
    async with served(Behaviour("both")) as url:
        # Its tools have no prefix: those that clients call are not there.
        result = await _lived(url)
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
