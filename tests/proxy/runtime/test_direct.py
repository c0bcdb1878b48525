"""Calls that take no task, and those that do after all: always one request is sent."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.proxy.byhand import served
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE
DISCOVERED: dict[str, Any] = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "ttlMs": 0,
    "cacheScope": "private",
}
GREETING: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "by hand", "version": "1"},
}
TEXT = {"content": [{"type": "text", "text": "hello"}], "resultType": "complete"}


@pytest_asyncio.fixture(loop_scope="session")
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client."""
    async with httpx2.AsyncClient(timeout=30) as found:
        yield found


def plain(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    """An answer of one JSON message."""
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
    return head % (status, more, len(body)) + body


def events(body: bytes) -> bytes:
    """An answer as an event stream, behind a notification, that ends with its connection."""
    told = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    return head + b"data: %b\n\ndata: %b\n\n" % (told, body)


def chunked(body: bytes) -> bytes:
    """An answer in chunks of 1,000 bytes."""
    parts = [body[i : i + 1000] for i in range(0, len(body), 1000)]
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


class ByHand:
    """A server without sessions, of one era, whose answers to calls are made by `shape`."""

    def __init__(self, modern: bool, shape: Callable[[bytes], bytes] | None) -> None:
        self.modern = modern
        self.shape = shape
        self.result: Any = TEXT
        self.calls: list[Any] = []
        self.told: list[Any] = []
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            message = json.loads(await reader.readexactly(int(length or 0)) or b"null")
            if message is None:
                writer.write(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n")
                continue
            if message["method"] != "tools/call":
                writer.write(self.answer(message))
                continue
            self.calls.append(message)
            if self.shape is None:
                await reader.read()
                self.left.set()
                return
            body = {"jsonrpc": "2.0", "id": message["id"], "result": self.result}
            writer.write(self.shape(json.dumps(body).encode()))
            if self.shape is events or self.shape is lost:
                await writer.drain()
                writer.close()
                return

    def answer(self, message: Any) -> bytes:
        """The answer to what is no call."""
        if "id" not in message:
            self.told.append(message)
            return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
        known = {"server/discover": DISCOVERED} if self.modern else {"initialize": GREETING}
        known["tools/list"] = {"tools": [], **(DISCOVERED if self.modern else {})}
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] in known:
            body["result"] = known[message["method"]]
        else:
            body["error"] = {"code": -32601, "message": "no"}
        return plain(json.dumps(body).encode())


def lost(body: bytes) -> bytes:
    """An answer that breaks off."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{"


def refused(body: bytes) -> bytes:
    """An error of HTTP."""
    return plain(body, b"503 Busy")


def closing(body: bytes) -> bytes:
    """An answer on a connection that is not kept."""
    return plain(body, more=b"connection: close\r\n")


@asynccontextmanager
async def stage(
    proxy: Any, http: Any, modern: bool, shape: Callable[[bytes], bytes] | None
) -> AsyncIterator[tuple[ByHand, Raw]]:
    """A backend by hand, and a client of its era in front of the proxy."""
    backend = ByHand(modern, shape)
    async with served(backend.serve) as port:
        timeouts = {"request": "400ms"}
        running = await proxy(
            {"name": "p", "url": f"http://127.0.0.1:{port}/mcp", "timeouts": timeouts}
        )
        client = Raw(running.url, http)
        if not modern:
            await client.initialize()
        yield backend, client


async def called(client: Raw, modern: bool) -> Any:
    """The response to a call."""
    if modern:
        return last(await client.call("tools/call", "p_x", name="p_x"))
    return last(await client.post(rpc("tools/call", {"name": "p_x"}, "mine")))


@pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])
@pytest.mark.parametrize("shape", [plain, chunked, closing, events])
async def test_whatever_shape_an_answer_has_the_call_is_sent_once(
    proxy: Any, http: Any, modern: bool, shape: Callable[[bytes], bytes]
) -> None:
    async with stage(proxy, http, modern, shape) as (backend, client):
        for count in (1, 2, 3):
            answer = await called(client, modern)
            assert answer["result"]["content"] == TEXT["content"]
            assert answer["id"] == (1 if modern else "mine")
            assert len(backend.calls) == count


@pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])
async def test_an_answer_too_large_for_one_piece_is_read_in_parts(
    proxy: Any, http: Any, modern: bool
) -> None:
    async with stage(proxy, http, modern, chunked) as (backend, client):
        backend.result = {**TEXT, "content": [{"type": "text", "text": "y" * 2_000_000}]}
        for _ in range(2):
            answer = await called(client, modern)
            assert answer["result"]["content"] == backend.result["content"]
        assert len(backend.calls) == 2


@pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])
@pytest.mark.parametrize(
    ("shape", "reason"), [(lost, "Unreachable"), (refused, "Unreachable"), (None, "TimedOut")]
)
async def test_a_call_that_fails_is_not_sent_again(
    proxy: Any, http: Any, modern: bool, shape: Callable[[bytes], bytes] | None, reason: str
) -> None:
    async with stage(proxy, http, modern, plain) as (backend, client):
        await called(client, modern)
        backend.shape = shape
        answer = await called(client, modern)
        assert answer["error"]["data"] == {"backend": "p", "reason": reason}
        assert len(backend.calls) == 2
        if shape is None:
            async with asyncio.timeout(5):
                await backend.left.wait()
            if not modern:
                await soon(lambda: backend.told, "the word that the call is cancelled")
                assert backend.told[-1]["params"] == {"requestId": "mine"}


async def test_a_legacy_client_that_cancels_ends_the_call_and_the_backend_hears_why(
    proxy: Any, http: Any
) -> None:
    async with stage(proxy, http, False, plain) as (backend, client):
        await called(client, False)
        backend.shape = None
        running = asyncio.create_task(called(client, False))
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
    async with stage(proxy, http, True, plain) as (backend, client):
        await called(client, True)
        backend.shape = None
        running = asyncio.create_task(called(client, True))
        await soon(lambda: len(backend.calls) == 2, "the call")
        running.cancel()
        async with asyncio.timeout(0.3):
            await backend.left.wait()
