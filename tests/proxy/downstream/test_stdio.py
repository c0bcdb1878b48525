"""One client on standard streams: what it may send, and how much of it at once."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.library.sessions.backend_factory import default_health
from mcpproxy.limits import clients as limits
from mcpproxy.proxy.bootstrap import build_backend_context
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.downstream import stdio
from mcpproxy.proxy.downstream.standard_streams import NothingToServe, OutputFailed
from mcpproxy.proxy.downstream.stdio import StdioServer
from mcpproxy.proxy.gateway.gateway import Gateway
from tests.proxy.runtime.waiting import soon

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Chunks:
    """A source of given chunks; counts those that were asked for."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.read_so_far = 0

    async def read(self) -> bytes:
        self.read_so_far += 1
        return next(self._chunks, b"")


class Collected:
    """A target that takes bytes while its gate is open."""

    def __init__(self) -> None:
        self.failed: asyncio.Future[OSError] = asyncio.get_running_loop().create_future()
        self.gate = asyncio.Event()
        self.gate.set()
        self.lines: list[Any] = []

    async def write(self, data: bytes) -> None:
        await self.gate.wait()
        self.lines.append(json.loads(data))


def _line(method: str, request_id: int | None = 1, **params: Any) -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    if request_id is not None:
        message["id"] = request_id
    return json.dumps(message).encode() + b"\n"


def _initialize(revision: str) -> bytes:
    return _line("initialize", 0, protocolVersion=revision, capabilities={}, clientInfo={})


@asynccontextmanager
async def _front() -> AsyncIterator[tuple[StdioServer, Collected]]:
    context = build_backend_context(default_health(), RuntimeOptions(), Path.cwd())
    gateway = Gateway("p", "1", [], context)
    gateway.start()
    target = Collected()
    try:
        yield StdioServer(gateway, target), target
    finally:
        await gateway.close()


async def _answers(*chunks: bytes) -> list[Any]:
    """All that the proxy sends to a client that sends this."""
    async with _front() as (front, target):
        await front.run(Chunks(chunks))
    return target.lines


@pytest.mark.parametrize("limit", ["number", "bytes"])
async def test_requests_beyond_the_limit_wait_in_the_pipe(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    before = limits.STDIO_MESSAGES.reached
    number = replace(limits.STDIO_MESSAGES, value=5 if limit == "number" else 1000)
    most = 5 * len(PING) if limit == "bytes" else 10**6
    monkeypatch.setattr(limits, "STDIO_MESSAGES", number)
    monkeypatch.setattr(
        limits, "STDIO_MESSAGE_BYTES", replace(limits.STDIO_MESSAGE_BYTES, value=most)
    )
    async with _front() as (front, target):
        target.gate.clear()
        source = Chunks([PING] * 100)
        running = asyncio.create_task(front.run(source))
        await soon(lambda: len(front._work.tasks) == 5, "as many as are permitted")
        for _ in range(100):
            await asyncio.sleep(0)
        assert source.read_so_far == 6
        assert number.reached > before
        target.gate.set()
        await running
        assert len(target.lines) == 100


async def test_a_client_that_leaves_ends_the_service() -> None:
    async with _front() as (front, target):
        forever = asyncio.Event()

        class Silent:
            async def read(self) -> bytes:
                await forever.wait()
                return b""

        running = asyncio.create_task(front.run(Silent()))
        target.failed.set_result(BrokenPipeError(32, "Broken pipe"))
        await running


async def test_an_output_that_fails_for_another_reason_is_an_error() -> None:
    async with _front() as (front, target):
        target.failed.set_result(OSError(28, "No space left on device"))
        with pytest.raises(OutputFailed, match="cannot write standard output: No space left"):
            await front.run(Chunks([PING]))


async def test_an_input_without_any_message_is_an_error() -> None:
    with pytest.raises(NothingToServe, match="standard input is empty; nothing to serve"):
        await _answers()


async def test_a_request_that_is_never_answered_does_not_keep_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds: Any = 0.1
    limit = replace(limits.STDIO_LAST_ANSWERS, value=seconds)
    monkeypatch.setattr(limits, "STDIO_LAST_ANSWERS", limit)
    monkeypatch.setattr(stdio, "RECHECK", 0.05)
    before = limit.reached
    async with _front() as (front, target):
        target.gate.clear()
        await front.run(Chunks([PING]))
    assert limit.reached == before + 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"\x00\n", -32700),
        (b'{"jsonrpc":"2.0","id":7,"method":"\xff"}\n', -32700),
        (b"not json\r\n", -32700),
        (b"[]\n", -32600),
        (b"[" + PING.strip() + b"]\n", -32600),
    ],
)
async def test_a_line_that_is_not_a_message_is_refused_and_the_next_one_served(
    line: bytes, code: int
) -> None:
    refused, served = await _answers(line, PING)
    assert (refused["id"], refused["error"]["code"]) == (None, code)
    assert served == {"jsonrpc": "2.0", "id": 1, "result": {}}


async def test_blank_lines_and_line_ends_of_windows_are_accepted() -> None:
    result = await _answers(b"\n\r\n  \n", PING.replace(b"\n", b"\r\n"), PING.strip())
    assert result == [{"jsonrpc": "2.0", "id": 1, "result": {}}] * 2


async def test_a_batch_gets_a_batch_in_revision_2025_03_26() -> None:
    items = [json.loads(PING), {"jsonrpc": "2.0", "method": "notifications/x"}, 5]
    batch = json.dumps([*items, {**json.loads(PING), "id": 2}]).encode() + b"\n"
    greeted = _initialize("2025-03-26")
    (answer,) = [m for m in await _answers(greeted, batch) if isinstance(m, list)]
    assert [(m["id"], "result" in m) for m in answer] == [(1, True), (None, False), (2, True)]
    later = await _answers(_initialize("2025-06-18"), batch)
    assert [m["error"]["code"] for m in later if m["id"] is None] == [-32600]


async def test_the_last_response_ends_the_service_immediately(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stdio, "RECHECK", 3600.0)
    batch = b'[%b,5,{"jsonrpc":"2.0","id":2,"method":"ping"}]\n' % PING.strip()
    async with asyncio.timeout(10):
        assert len(await _answers(_initialize("2025-06-18"), batch)) == 2


async def test_a_batch_beyond_the_limit_is_refused() -> None:
    batch = b"[" + b",".join([PING.strip()] * (limits.STDIO_BATCH.value + 1)) + b"]\n"
    result = await _answers(_initialize("2025-03-26"), batch, PING)
    assert [m["error"]["code"] for m in result if m["id"] is None] == [-32600]
    assert {"jsonrpc": "2.0", "id": 1, "result": {}} in result


async def test_initialize_is_refused_in_a_batch() -> None:
    batch = b"[" + _initialize("2025-03-26").strip() + b"]\n"
    result = await _answers(_initialize("2025-03-26"), batch)
    (refused,) = next(m for m in result if isinstance(m, list))
    assert "must not be part of a batch" in refused["error"]["message"]


async def test_streams_beyond_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STDIO_STREAMS", replace(limits.STDIO_STREAMS, value=2))
    lines = [_line("subscriptions/listen", n, notifications={}, _meta=META) for n in range(1, 4)]
    result = await _answers(*lines)
    ended = {m["id"]: m for m in result if "id" in m}
    assert [("error" in ended[n]) for n in (1, 2, 3)] == [False, False, True]
    assert ended[3]["error"]["code"] == -32000


async def test_changes_that_a_slow_client_missed_are_announced_when_it_reads_again() -> None:
    async with _front() as (front, target):
        more = asyncio.Event()

        class Open:
            def __init__(self) -> None:
                self._left = [_initialize("2025-11-25"), _line("notifications/initialized", None)]

            async def read(self) -> bytes:
                if self._left:
                    return self._left.pop(0)
                await more.wait()
                return b""

        running = asyncio.create_task(front.run(Open()))
        await soon(lambda: front._initialized and target.lines, "the client to be initialized")
        target.gate.clear()
        outbox = front._live.stream
        assert outbox is not None
        for number in range(2000):
            outbox.put(b'{"number":%d}' % number)
        assert outbox.ended
        target.gate.set()
        await soon(
            lambda: any("list_changed" in m.get("method", "") for m in target.lines),
            "the lists to be announced",
        )
        more.set()
        await running


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("revision", ["2025-03-26", "2025-11-25"])
async def test_a_byte_order_mark_at_the_start_of_the_input_is_passed_over(revision: str) -> None:
    first, second = await _answers(BOM + _initialize(revision), PING)
    assert first["result"]["protocolVersion"] == revision
    assert second["result"] == {}


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":null}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN,"b":"\\ud83d"}}\n',
    ],
)
async def test_a_request_that_sdk_servers_accept_is_served(line: bytes) -> None:
    assert await _answers(line) == [{"jsonrpc": "2.0", "id": 1, "result": {}}]


async def test_a_malformed_request_is_refused_under_its_id() -> None:
    wrong = b'{"jsonrpc":"2.0","id":"w","method":"ping","params":[1]}\n'
    refused, served = await _answers(wrong, PING)
    assert (refused["id"], refused["error"]["code"]) == ("w", -32600)
    assert served["result"] == {}


async def test_members_of_a_batch_are_refused_under_their_ids() -> None:
    wrong = b'{"jsonrpc":"2.0","id":"w","method":"ping","params":[1]}'
    batch = b"[%b,%b]\n" % (wrong, PING.strip())
    result = await _answers(_initialize("2025-03-26"), batch)
    (answer,) = [m for m in result if isinstance(m, list)]
    assert [(m["id"], "result" in m) for m in answer] == [("w", False), (1, True)]
