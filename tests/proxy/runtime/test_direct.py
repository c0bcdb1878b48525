"""Calls that take no task, and those that do after all: always one request is sent."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from mcpproxy.proxy.http1.server.connection import ServerConnection
from mcpproxy.proxy.upstream.monitor import list_cache
from tests.proxy.runtime.raw import MODERN, error, last, modern, rpc
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.shaped import (
    ASKED,
    KINDS,
    SESSIONS,
    TEXT,
    behind_another,
    called,
    chunked,
    closing,
    events,
    in_lines,
    lost,
    plain,
    refused,
    resumable,
    stage,
)
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE

BETWEEN = [("legacy", "modern"), ("modern", "legacy")]
"""Eras of a backend and of its client."""
COMPLETE = {"resultType": "complete"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "shape", [plain, chunked, closing, events, resumable, behind_another, in_lines]
)
async def test_a_call_is_sent_once_for_every_shape_of_response(
    proxy: Any, http: Any, kind: str, shape: Callable[[bytes], bytes]
) -> None:
    async with stage(proxy, http, kind, shape) as (backend, client):
        for count in (1, 2, 3):
            answer = await called(client, kind)
            assert answer["result"]["content"] == TEXT["content"]
            assert answer["id"] == (1 if kind == "modern" else "mine")
            assert len(backend.calls) == count


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_too_large_for_one_piece_is_read_in_parts(
    proxy: Any, http: Any, kind: str
) -> None:
    async with stage(proxy, http, kind, chunked) as (backend, client):
        backend.result = {**TEXT, "content": [{"type": "text", "text": "y" * 2_000_000}]}
        for _ in range(2):
            answer = await called(client, kind)
            assert answer["result"]["content"] == backend.result["content"]
        assert len(backend.calls) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("shape", "reason"), [(lost, "Unreachable"), (refused, "Unreachable"), (None, "TimedOut")]
)
async def test_a_call_that_fails_is_not_sent_again(
    proxy: Any, http: Any, kind: str, shape: Callable[[bytes], bytes] | None, reason: str
) -> None:
    async with stage(proxy, http, kind, plain) as (backend, client):
        await called(client, kind)
        backend.shape = shape
        answer = await called(client, kind)
        assert answer["error"]["data"] == {"backend": "p", "reason": reason, "mayHaveRun": True}
        assert len(backend.calls) == 2
        if shape is None:
            async with asyncio.timeout(5):
                await backend.left.wait()
            if kind != "modern":
                await soon(lambda: backend.told, "the word that the call is cancelled")
                assert backend.told[-1]["params"] == {"requestId": backend.calls[-1]["id"]}


@pytest.mark.parametrize("kind", ["legacy", *SESSIONS])
async def test_a_cancellation_of_a_legacy_client_reaches_the_backend_with_its_reason(
    proxy: Any, http: Any, kind: str
) -> None:
    async with stage(proxy, http, kind, plain) as (backend, client):
        await called(client, kind)
        backend.shape = None
        running = asyncio.create_task(client.post(rpc("tools/call", {"name": "p_x"}, "mine")))
        await soon(lambda: len(backend.calls) == 2, "the call")
        params = {"requestId": "mine", "reason": "enough"}
        told = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
        assert (await client.post(told)).status_code == 202
        ended = await running
        assert ended.headers["content-type"] == "text/event-stream"
        assert last(ended)["error"] == {"code": -32800, "message": "the request was cancelled"}
        await soon(lambda: backend.told, "the word that the call is cancelled")
        assert backend.told[-1]["params"] == {**params, "requestId": backend.calls[-1]["id"]}
        async with asyncio.timeout(5):
            await backend.left.wait()


async def test_a_modern_client_that_goes_ends_the_call(proxy: Any, http: Any) -> None:
    async with stage(proxy, http, "modern", plain) as (backend, client):
        await called(client, "modern")
        backend.shape = None
        running = asyncio.create_task(called(client, "modern"))
        await soon(lambda: len(backend.calls) == 2, "the call")
        running.cancel()
        async with asyncio.timeout(0.3):
            await backend.left.wait()


@pytest.mark.parametrize(("kind", "client_kind"), BETWEEN)
@pytest.mark.parametrize("shape", [plain, chunked, closing, events])
async def test_a_call_between_eras_is_sent_once_for_every_shape_of_response(
    proxy: Any, http: Any, kind: str, client_kind: str, shape: Callable[[bytes], bytes]
) -> None:
    async with stage(proxy, http, kind, shape, client_kind=client_kind) as (backend, client):
        backend.result = {"content": TEXT["content"], **({} if kind == "legacy" else COMPLETE)}
        for count in (1, 2, 3):
            result = (await called(client, client_kind))["result"]
            assert result == {
                "content": TEXT["content"],
                **(COMPLETE if client_kind == "modern" else {}),
            }
            assert len(backend.calls) == count
            sent = backend.calls[-1]["params"]
            assert sent["name"] == "x"
            assert ("_meta" in sent) == (kind == "modern")


@pytest.mark.parametrize(("kind", "client_kind"), BETWEEN)
@pytest.mark.parametrize(
    ("shape", "reason"), [(lost, "Unreachable"), (refused, "Unreachable"), (None, "TimedOut")]
)
async def test_a_failed_call_between_eras_is_not_sent_again(
    proxy: Any,
    http: Any,
    kind: str,
    client_kind: str,
    shape: Callable[[bytes], bytes] | None,
    reason: str,
) -> None:
    async with stage(proxy, http, kind, plain, client_kind=client_kind) as (backend, client):
        await called(client, client_kind)
        backend.shape = shape
        answer = await called(client, client_kind)
        assert answer["error"]["data"] == {"backend": "p", "reason": reason, "mayHaveRun": True}
        assert len(backend.calls) == 2


@pytest.mark.parametrize(("kind", "client_kind"), BETWEEN)
async def test_a_call_between_eras_needs_no_task(
    proxy: Any, http: Any, kind: str, client_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(proxy, http, kind, plain, client_kind=client_kind) as (_, client):
        await called(client, client_kind)
        taken: list[Any] = []
        monkeypatch.setattr(ServerConnection, "run", lambda self, *work: taken.append(work))
        assert "result" in await called(client, client_kind)
        assert taken == []


async def test_a_server_request_across_eras_is_forwarded_without_a_waiting_task(
    proxy: Any, http: Any
) -> None:
    async with stage(proxy, http, "modern", plain, client_kind="legacy") as (backend, client):
        await called(client, "legacy")
        question = {"method": "elicitation/create", "params": ASKED["params"]}
        backend.result = {"resultType": "input_required", "inputRequests": {"q": question}}
        received: list[Any] = []
        async for message in client.messages(rpc("tools/call", {"name": "p_x"}, "mine")):
            received.append(message)
            if "method" in message:
                backend.result = TEXT
                answer = {"jsonrpc": "2.0", "id": message["id"], "result": {"action": "decline"}}
                assert (await client.post(answer)).status_code == 202
        assert [item.get("method") for item in received] == ["elicitation/create", None]
        assert received[1]["result"]["content"] == TEXT["content"]
        assert len(backend.calls) == 3
        assert backend.calls[2]["params"]["inputResponses"] == {"q": {"action": "decline"}}


@pytest.mark.parametrize("client_kind", ["legacy", "modern"])
async def test_a_cached_list_requires_no_task_and_keeps_its_type(
    proxy: Any, http: Any, client_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(proxy, http, "legacy", plain, client_kind=client_kind) as (_, client):

        async def ask() -> httpx2.Response:
            if client_kind == "modern":
                return await client.call("tools/list")
            return await client.post(rpc("tools/list"))

        monkeypatch.setattr(list_cache, "MIN_REFRESH_AGE", 60.0)
        before = await ask()
        taken: list[Any] = []
        monkeypatch.setattr(ServerConnection, "run", lambda self, *work: taken.append(work))
        again = await ask()
        assert taken == []
        assert last(again)["result"]["tools"] == last(before)["result"]["tools"] == []
        streamed = client_kind == "legacy"
        kind = "text/event-stream" if streamed else "application/json"
        assert again.headers["content-type"] == before.headers["content-type"] == kind


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_over_an_open_connection_needs_no_task(
    proxy: Any, http: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(proxy, http, kind, plain) as (backend, client):
        await called(client, kind)
        if kind == "Isolated":
            await soon(backend.is_warm, "a session that waits")
        taken: list[Any] = []
        monkeypatch.setattr(ServerConnection, "run", lambda self, *work: taken.append(work))
        await called(client, kind)
        assert taken == []


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ((b'"p_x"', b'"p_y"'), -32020),
        ((b'"2026-07-28"', b'"2026-07-29"'), -32020),
        ((b'clientCapabilities"', b'clientCapabilitees"'), -32602),
    ],
)
async def test_s5_each_message_is_held_against_a_head_that_was_right_before(
    proxy: Any, http: Any, wrong: tuple[bytes, bytes], code: int
) -> None:
    good = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "p_x"}
    message = json.dumps(modern("tools/call", name="p_x", arguments={})).encode()
    other = message.replace(*wrong)
    # The same bytes for a head: not even its Content-Length differs.
    assert len(other) == len(message)
    assert other != message
    async with stage(proxy, http, "modern", plain) as (backend, client):
        for count in (1, 2, 3):
            assert (await client.post(message, **good)).status_code == 200
            assert error(await client.post(other, **good)) == (400, code)
            assert len(backend.calls) == count
