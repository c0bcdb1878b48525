"""Calls that take no task, and those that do after all: always one request is sent."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mcpproxy.proxy.front.connection import Connection
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.shaped import (
    KINDS,
    SESSIONS,
    TEXT,
    called,
    chunked,
    closing,
    events,
    lost,
    plain,
    refused,
    stage,
)
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [plain, chunked, closing, events])
async def test_whatever_shape_an_answer_has_the_call_is_sent_once(
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
        assert answer["error"]["data"] == {"backend": "p", "reason": reason}
        assert len(backend.calls) == 2
        if shape is None:
            async with asyncio.timeout(5):
                await backend.left.wait()
            if kind != "modern":
                await soon(lambda: backend.told, "the word that the call is cancelled")
                assert backend.told[-1]["params"] == {"requestId": "mine"}


@pytest.mark.parametrize("kind", ["legacy", *SESSIONS])
async def test_a_legacy_client_that_cancels_ends_the_call_and_the_backend_hears_why(
    proxy: Any, http: Any, kind: str
) -> None:
    async with stage(proxy, http, kind, plain) as (backend, client):
        await called(client, kind)
        backend.shape = None
        running = asyncio.create_task(called(client, kind))
        await soon(lambda: len(backend.calls) == 2, "the call")
        params = {"requestId": "mine", "reason": "enough"}
        told = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
        assert (await client.post(told)).status_code == 202
        assert (await running)["error"]["message"] == "the request was cancelled"
        await soon(lambda: backend.told, "the word that the call is cancelled")
        assert backend.told[-1]["params"] == params
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


@pytest.mark.parametrize("kind", KINDS)
async def test_once_a_connection_is_open_a_call_takes_no_task(
    proxy: Any, http: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(proxy, http, kind, plain) as (backend, client):
        await called(client, kind)
        if kind == "Isolated":
            await soon(backend.is_warm, "a session that waits")
        taken: list[Any] = []
        monkeypatch.setattr(Connection, "run", lambda self, *work: taken.append(work))
        await called(client, kind)
        assert taken == []
