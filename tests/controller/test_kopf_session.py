"""Requests of Kopf that the API server refuses."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from mcpproxy.controller.kopf_session import PAUSE, RefusedRequest, RepeatedRequests

LIST = "/api/v1/services?limit=50"
WATCH = "/api/v1/services?watch=true"
DISCOVERY = "/apis/monitoring.coreos.com/v1"
Get = Callable[[str], Awaitable[int]]


@asynccontextmanager
async def refusing(status: int, pauses: list[float]) -> AsyncIterator[Get]:
    """Yield a function that requests a path of a server that responds with this status."""

    async def refuse(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    runner = web.ServerRunner(web.Server(refuse))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port, *_ = runner.addresses[0]
    async with aiohttp.ClientSession(middlewares=(RepeatedRequests(sleep),)) as session:

        async def get(path: str) -> int:
            async with session.get(f"http://{host}:{port}{path}") as response:
                return response.status

        yield get
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "status"), [(LIST, 404), (LIST, 405), (LIST, 410), (WATCH, 404), (WATCH, 405)]
)
async def test_kopf_takes_a_refusal_that_ends_soon_for_a_cut_response_after_a_pause(
    path: str, status: int
) -> None:
    pauses: list[float] = []
    async with refusing(status, pauses) as get:
        with pytest.raises(RefusedRequest, match=f"services: HTTP {status}"):
            await get(path)
    assert pauses == [PAUSE]


@pytest.mark.parametrize(
    ("path", "status"),
    [(DISCOVERY, 404), (WATCH, 410), (LIST, 403), (LIST, 429), (WATCH, 500), (LIST, 200)],
)
async def test_kopf_gets_every_other_response(path: str, status: int) -> None:
    pauses: list[float] = []
    async with refusing(status, pauses) as get:
        assert await get(path) == status
    assert pauses == []


async def test_kopf_signs_in_again_after_a_pause() -> None:
    pauses: list[float] = []
    async with refusing(401, pauses) as get:
        assert await get(LIST) == 401
    assert pauses == [PAUSE]
