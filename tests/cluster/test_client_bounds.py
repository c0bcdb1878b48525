"""Responses of the API server are bounded: anybody who may create objects fills them."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster import client
from mcpproxy.cluster.client import PAGE, KubeClient
from mcpproxy.cluster.errors import LimitExceeded, Unavailable
from mcpproxy.cluster.resources import REPLICA_SET
from mcpproxy.limits.pods import LISTS
from tests.proxy.runtime.serving import free_port


class Listed:
    """An API server with ReplicaSets of a size."""

    def __init__(self, count: int, size: int) -> None:
        self.limits: list[int] = []
        self.most = self._now = 0
        """Largest number of lists at the same time."""
        self._objects = [_an_object(number, size) for number in range(count)]

    async def answer(self, request: web.Request) -> web.Response:
        """Return one page."""
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0)
        limit, start = int(request.query["limit"]), int(request.query.get("continue", "0"))
        self.limits.append(limit)
        end = start + limit
        token = {"continue": str(end)} if end < len(self._objects) else {}
        self._now -= 1
        return web.json_response({"metadata": token, "items": self._objects[start:end]})


def _an_object(number: int, size: int) -> Object:
    return {
        "metadata": {"name": f"r{number}", "namespace": "team", "annotations": {"a": "x" * size}}
    }


@asynccontextmanager
async def connected(listed: Listed) -> AsyncIterator[KubeClient]:
    """A client of that API server."""
    app, port = web.Application(), free_port()
    app.router.add_get("/{path:.*}", listed.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{port}"
    cluster = KubeClient(configuration)
    try:
        yield cluster
    finally:
        await cluster.close()
        await runner.cleanup()


def _lower(monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> None:
    monkeypatch.setattr(client, name, dataclasses.replace(getattr(client, name), value=value))


async def test_a_page_of_large_objects_is_read_in_smaller_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _lower(monkeypatch, "RESPONSE_BYTES", 20_000)
    listed = Listed(count=30, size=1000)
    async with connected(listed) as cluster:
        heads = await cluster.heads(REPLICA_SET, None, "")
    assert len(heads) == 30
    assert listed.limits[0] == PAGE
    assert min(listed.limits) < 20


async def test_an_object_beyond_the_limit_of_a_response_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _lower(monkeypatch, "RESPONSE_BYTES", 500)
    async with connected(Listed(count=2, size=1000)) as cluster:
        with pytest.raises(LimitExceeded, match="more than 500 bytes"):
            await cluster.heads(REPLICA_SET, None, "")


async def test_a_list_beyond_its_limit_is_an_error_of_its_mcpproxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _lower(monkeypatch, "LIST_BYTES", 20_000)
    async with connected(Listed(count=30, size=1000)) as cluster:
        with pytest.raises(LimitExceeded, match="replicasets of this MCPProxy in team have more"):
            await cluster.list(REPLICA_SET, "team", {"a": "b"})
        assert len(await cluster.heads(REPLICA_SET, None, "")) == 30, "heads are small"


@pytest.mark.parametrize("text", ["<html>Sign in</html>", "[]", '{"items": [{"metadata": 1}]}'])
async def test_a_response_other_than_a_list_is_an_error_of_the_connection(text: str) -> None:
    class Foreign(Listed):
        async def answer(self, request: web.Request) -> web.Response:
            return web.Response(text=text, content_type="text/html")

    async with connected(Foreign(count=0, size=0)) as cluster:
        with pytest.raises(Unavailable, match="/replicasets: the response is not from the API"):
            await cluster.heads(REPLICA_SET, None, "")


async def test_lists_are_read_a_few_at_a_time() -> None:
    listed = Listed(count=1, size=10)
    async with connected(listed) as cluster:
        await asyncio.gather(*(cluster.heads(REPLICA_SET, None, "") for _ in range(20)))
    assert 1 <= listed.most <= LISTS.value


async def test_a_list_of_several_pages_is_read_whole() -> None:
    async with connected(Listed(count=PAGE + 5, size=10)) as cluster:
        listed = await cluster.list(REPLICA_SET, "team", {"a": "b"})
    assert [json.dumps(item["kind"]) for item in listed] == ['"ReplicaSet"'] * (PAGE + 5)


async def test_pages_together_may_exceed_the_limit_of_a_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _lower(monkeypatch, "LIST_BYTES", 20_000)
    async with connected(Listed(count=PAGE + 5, size=1000)) as cluster:
        sizes = [len(page) async for page in cluster.pages(REPLICA_SET, None, "")]
    assert sizes == [PAGE, 5]
