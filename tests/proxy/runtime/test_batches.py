"""JSON-RPC batches of clients over HTTP, in the revision that has them."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from mcpproxy.limits import clients as limits
from mcpproxy.proxy.downstream import batches
from tests.proxy.runtime.raw import Raw, error, rpc
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.shaped import plain, stage

pytestmark = LIVE

BATCHES = "2025-03-26"
LATER = ("2025-06-18", "2025-11-25")
CALL = {"name": "p_x"}


def _messages(answer: Any) -> list[Any]:
    lines = answer.text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


async def _client(eras: Any, http: Any, revision: str | None = BATCHES) -> Raw:
    client = Raw(eras["legacy"][1].url, http)
    if revision is not None:
        await client.initialize(revision)
    return client


@pytest.mark.parametrize("kind", ["legacy", "PerClient", "Reused"])
async def test_each_request_of_a_batch_gets_its_response(proxy: Any, http: Any, kind: str) -> None:
    async with stage(proxy, http, kind, plain, timeout="5s") as (backend, client):
        await client.initialize(BATCHES)
        told = {"jsonrpc": "2.0", "method": "notifications/x", "params": None}
        ids = [1, "1", "a"]
        calls = [rpc("tools/call", CALL, own) for own in ids]
        answer = await client.post([calls[0], told, *calls[1:], 5, rpc("initialize", {}, "i")])
        result = {json.dumps(m["id"]): m for m in _messages(answer)}
        assert all("result" in result[json.dumps(own)] for own in ids)
        assert result["null"]["error"]["code"] == -32600
        assert "must not be part of a batch" in result['"i"']["error"]["message"]
        assert len(result) == 5
        assert len(backend.calls) == 3


async def test_a_batch_without_requests_is_accepted_without_a_body(eras: Any, http: Any) -> None:
    client = await _client(eras, http)
    told = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    response = {"jsonrpc": "2.0", "id": "unknown", "result": {}}
    answer = await client.post([told, response])
    assert (answer.status_code, answer.content) == (202, b"")


@pytest.mark.parametrize("revision", LATER)
async def test_a_batch_is_refused_in_other_revisions(eras: Any, http: Any, revision: str) -> None:
    client = await _client(eras, http, revision)
    assert error(await client.post([rpc("ping")])) == (400, -32600)


async def test_a_batch_over_http_beyond_the_limit_is_refused(eras: Any, http: Any) -> None:
    before = limits.HTTP_BATCH.reached
    client = await _client(eras, http)
    most = limits.HTTP_BATCH.value
    assert len(_messages(await client.post([rpc("ping", None, n) for n in range(most)]))) == most
    assert error(await client.post([rpc("ping")] * (most + 1))) == (400, -32600)
    assert limits.HTTP_BATCH.reached == before + 1


@pytest.mark.parametrize("body", [b"[]", b"[", b"[{}", b'[{"jsonrpc":"2.0"},]'])
async def test_a_body_that_is_not_a_batch_is_refused(eras: Any, http: Any, body: bytes) -> None:
    client = await _client(eras, http)
    assert error(await client.post(body)) in {(400, -32600), (400, -32700)}


async def test_a_batch_without_a_session_is_refused(eras: Any, http: Any) -> None:
    client = await _client(eras, http, None)
    assert error(await client.post([rpc("ping")])) == (400, -32600)


async def test_requests_of_a_batch_are_served_a_few_at_a_time(
    proxy: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(limits.BATCH_REQUESTS, value=2)
    monkeypatch.setattr(batches, "BATCH_REQUESTS", few)
    before = few.reached
    release = asyncio.Event()
    running = most = 0

    async def wait(session: bytes) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == few.value:
            release.set()
        await release.wait()
        running -= 1

    async with stage(proxy, http, "PerClient", plain, timeout="5s") as (backend, client):
        await client.initialize(BATCHES)
        backend.before = wait
        answer = await client.post([rpc("tools/call", CALL, n) for n in range(6)])
        assert sorted(m["id"] for m in _messages(answer)) == list(range(6))
    assert most == few.value
    assert few.reached == before + 1


async def test_a_request_of_a_batch_can_be_cancelled_by_the_same_batch(
    proxy: Any, http: Any
) -> None:
    never = asyncio.Event()
    async with stage(proxy, http, "PerClient", plain, timeout="30s") as (backend, client):
        await client.initialize(BATCHES)

        async def wait(session: bytes) -> None:
            await never.wait()

        backend.before = wait
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
        cancel["params"] = {"requestId": 1}  # type: ignore[assignment]
        answer = await client.post([rpc("tools/call", CALL), cancel])
        (message,) = _messages(answer)
        assert (message["id"], "cancelled" in message["error"]["message"]) == (1, True)
