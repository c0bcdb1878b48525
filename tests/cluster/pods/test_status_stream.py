"""Streams of pods over real HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from mcpproxy.cluster.errors import Forbidden, Unavailable
from mcpproxy.cluster.pods.status_stream import HttpPodStatusReader, PodAccess, PodAddress


@asynccontextmanager
async def serving(path: str, chunks: list[bytes], status: int = 200) -> AsyncIterator[int]:
    """A server that sends `chunks` at `path`; its port."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert "watch" in request.query
        response = web.StreamResponse(status=status)
        response.content_type = "application/x-ndjson"
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        return response

    app = web.Application()
    app.router.add_get(path, answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port: int = runner.addresses[0][1]
    try:
        yield port
    finally:
        await runner.cleanup()


async def read(access: PodAccess, pod: PodAddress, host: str = "") -> list[bytes]:
    """Every line of one stream."""
    configuration = Configuration()
    configuration.host = host
    reader = HttpPodStatusReader(configuration, access)
    try:
        return [line async for line in reader.lines(pod)]
    finally:
        await reader.close()


def at(port: int) -> PodAddress:
    """A pod on loopback."""
    return PodAddress("team", "tools-1", "p1", "127.0.0.1", port)


async def test_lines_are_put_together_from_whatever_pieces_arrive() -> None:
    async with serving("/status", [b'{"a"', b": 1}\n\n{", b"}\n"]) as port:
        assert await read("direct", at(port)) == [b'{"a": 1}', b"", b"{}"]


async def test_a_pod_is_read_through_the_api_server() -> None:
    path = "/api/v1/namespaces/team/pods/tools-1:8081/proxy/status"
    async with serving(path, [b"{}\n"]) as port:
        pod = PodAddress("team", "tools-1", "p1", "10.0.0.1")
        assert await read("apiserver", pod, f"http://127.0.0.1:{port}") == [b"{}"]


async def test_an_error_of_the_pod_is_reported_unchanged() -> None:
    async with serving("/status", [b"no"], status=403) as port:
        with pytest.raises(Forbidden, match="no"):
            await read("direct", at(port))


async def test_a_missing_pod_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await read("direct", at(1))
