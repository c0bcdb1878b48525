"""Event streams of backends, in the forms that real servers use."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mcpproxy.limits import sessions as limits
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.core.rate_limiter import SharedRate
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.large_results import LARGE
from mcpproxy.proxy.upstream.transports import event_stream
from mcpproxy.proxy.upstream.transports.event_stream import (
    SseMessageReader,
    in_steps,
    new_line_rate,
)
from tests.proxy.upstream.transports.test_standalone_stream import CHANGED, Stream

ANSWER = b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'


def _reader(*chunks: bytes, rate: SharedRate | None = None) -> SseMessageReader:
    response: Any = Stream(*chunks)
    return SseMessageReader(response, rate or new_line_rate())


async def _messages(reader: SseMessageReader) -> list[Message]:
    all_messages: list[Message] = []
    while (part := await reader.messages()) is not None:
        all_messages += part
    return all_messages


@pytest.mark.parametrize(
    "before",
    [
        b"event: ping\ndata: {}\n\n",
        b"event: heartbeat\ndata: 2026-11-29T00:00:00Z\n\n",
        b'event: ping\ndata: {"jsonrpc":"2.0","id":1,"result":{"of":"another type"}}\n\n',
        b'data: {"type":"heartbeat"}\n\n',
        b"data: ping\n\n",
        b"data: [1, 2]\n\n",
        b"data\n\n",
        b"retry: 5000\n\n",
        b": comment\n\n",
    ],
)
async def test_input_that_is_not_a_message_is_ignored(before: bytes) -> None:
    (message,) = await _messages(_reader(before + ANSWER))
    assert bytes(message["result"]) == b"{}"


async def test_a_stream_that_ends_without_a_response_quotes_its_content() -> None:
    reader = _reader(b"data: <html>\x1b[2J it works\n\n")
    assert await _messages(reader) == []
    assert reader.without_response == (
        "the stream ended without a response; one event was not a JSON-RPC message and starts with"
        " '<html>\ufffd[2J it works'"
    )


async def test_a_malformed_json_rpc_message_ends_the_stream() -> None:
    with pytest.raises(ProtocolError, match="not an MCP message"):
        await _messages(_reader(b'data: {"jsonrpc":"2.0","id":1}\n\n' + ANSWER))


async def test_other_tasks_run_between_the_parts_of_a_chunk() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    assert len(await _messages(_reader(CHANGED * 1000))) == 1000
    other.cancel()
    assert turns >= 1000 * CHANGED.count(b"\n") // event_stream._LINES_OF_A_STEP - 1


async def test_lines_without_messages_are_read_at_a_limited_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept = 0.0
    now = 1000.0

    async def sleep(seconds: float) -> None:
        nonlocal slept, now
        slept += seconds
        now += seconds

    monkeypatch.setattr(event_stream, "asyncio", SimpleNamespace(sleep=sleep))
    rate = SharedRate(limits.EVENT_LINES.value, limits.EVENT_LINES_AHEAD.value, lambda: now)
    reached = limits.EVENT_LINES.reached
    lines = 10 * limits.EVENT_LINES.value
    block = b":\nid: 1\n\nretry: 1\n"
    chunks = [block * 1000] * (lines // (1000 * block.count(b"\n")))
    # Two streams of one backend share the rate.
    for half in (chunks[::2], chunks[1::2]):
        assert await _messages(_reader(*half, rate=rate)) == []
    ahead = limits.EVENT_LINES_AHEAD.value
    assert slept == pytest.approx((lines - ahead) / limits.EVENT_LINES.value, rel=0.01)
    assert limits.EVENT_LINES.reached > reached


async def test_messages_are_read_as_fast_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(seconds: float) -> None:
        assert not seconds

    monkeypatch.setattr(event_stream, "asyncio", SimpleNamespace(sleep=sleep))
    rate = SharedRate(limits.EVENT_LINES.value, 0, lambda: 1000.0)
    chunks = [b"event: message\r\nid: 7\r\n" + CHANGED] * 10_000
    assert len(await _messages(_reader(*chunks, rate=rate))) == 10_000


def test_a_chunk_of_long_lines_is_read_at_once() -> None:
    chunk = (b"data: " + b"x" * 2000 + b"\n\n") * 50
    assert in_steps(chunk) == [chunk]
    assert b"".join(in_steps(b":\n" * 5000)) == b":\n" * 5000


async def test_an_event_that_is_large_only_by_its_comments_is_read_as_a_whole() -> None:
    comment = b": " + b" " * LARGE + b"\n"
    reader = _reader(comment + ANSWER[:20], ANSWER[20:])
    assert await reader.messages() == []
    assert reader.large() is None
    (message,) = await _messages(reader)
    assert bytes(message["result"]) == b"{}"
