"""A response of another id than the request's is an error, whatever way it comes."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.proxy.runtime.raw import rpc
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.shaped import (
    END,
    HEAD,
    KINDS,
    SHARED,
    TEXT,
    called,
    chunk,
    chunked,
    plain,
    stage,
)

pytestmark = LIVE


def event(body: bytes) -> bytes:
    """A stream of one event."""
    return HEAD + chunk(b"data: %b\n\n" % body) + END


def _body(request_id: Any, **members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, **members}).encode()


def _answers(
    write: Callable[[Any], bytes],
) -> Callable[[Any, asyncio.StreamWriter], Any]:
    async def writes(request_id: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(write(request_id))

    return writes


NOT_MCP = {"backend": "p", "reason": "NotMCP", "mayHaveRun": True}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [plain, chunked, event])
@pytest.mark.parametrize("size", [1, 400_000])
async def test_a_response_with_another_id_is_ignored(
    proxy: Any, http: Any, kind: str, shape: Callable[[bytes], bytes], size: int
) -> None:
    text = {**TEXT, "content": [{"type": "text", "text": "another's" * size}]}
    async with stage(proxy, http, kind, plain, timeout="5s") as (backend, client):
        await called(client, kind)
        backend.writes = _answers(lambda own: shape(_body("another", result=text)))
        answer = await called(client, kind)
        assert answer["error"]["data"] == NOT_MCP
        assert "another request" in answer["error"]["message"]
        assert len(backend.calls) == 2


@pytest.mark.parametrize("kind", ["legacy", *SHARED])
@pytest.mark.parametrize("id_last", [True, False])
async def test_a_large_response_whose_id_comes_last_never_counts_for_another_request(
    proxy: Any, http: Any, kind: str, id_last: bool
) -> None:
    result = {"content": [{"type": "text", "text": "s" * 2_000_000}]}

    def written(request_id: Any) -> bytes:
        members = {"jsonrpc": "2.0", "result": result}
        named = {**members, "id": request_id} if id_last else {"id": request_id, **members}
        return plain(json.dumps(named).encode())

    async with stage(proxy, http, kind, plain, timeout="5s") as (backend, client):
        backend.writes = _answers(written)
        assert (await called(client, kind))["result"] == result
        backend.writes = _answers(lambda own: written("another"))
        if kind == "Reused" or not id_last:
            assert (await called(client, kind))["error"]["data"] == NOT_MCP
        else:
            # No other client could be meant: it went on while it came, and breaks off.
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.post(rpc("tools/call", {"name": "p_x"}, "mine"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [plain, event])
async def test_ids_are_equal_as_they_are_for_the_sdks(
    proxy: Any, http: Any, kind: str, shape: Callable[[bytes], bytes]
) -> None:
    def other_type(request_id: Any) -> Any:
        return str(request_id) if isinstance(request_id, int) else request_id

    async with stage(proxy, http, kind, plain) as (backend, client):
        backend.writes = _answers(lambda own: shape(_body(other_type(own), result=TEXT)))
        for _ in range(2):
            assert (await called(client, kind))["result"]["content"] == TEXT["content"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unread", [None, "server-error"])
async def test_an_error_with_a_null_id_is_the_response(
    proxy: Any, http: Any, kind: str, unread: Any
) -> None:
    error = {"code": -32600, "message": "can't read it"}
    async with stage(proxy, http, kind, plain) as (backend, client):
        backend.writes = _answers(lambda own: plain(_body(unread, error=error), b"400 Bad"))
        for _ in range(2):
            answer = await called(client, kind)
            assert answer["error"] == error
            assert answer["id"] == (1 if kind == "modern" else "mine")
