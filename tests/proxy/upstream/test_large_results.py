"""Results that are too large to be buffered."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec import Raw

from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.upstream.large_results import _LEAST_STEP, LARGE, ResultRelay

ID = Raw(b"1")
MANY_MEMBERS = b",".join(b'"%x":1' % number for number in range(100_000))
MANY_ITEMS = b'"a":[' + b"[]," * 200_000 + b"[]]"
LONG_TEXT = b'"a":"' + b"x" * 600_000 + b'"'


@dataclass
class Source:
    """A response in chunks of the size that a connection delivers."""

    body: bytes
    left: list[bytes] = field(default_factory=list)

    async def next_chunk(self) -> bytes:
        chunk, self.body = self.body[:LARGE], self.body[LARGE:]
        return chunk

    def unread(self, parts: list[bytes]) -> None:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


@dataclass
class Sink:
    """A client that accepts every part."""

    taken: list[bytes] = field(default_factory=list)
    is_gone = False
    takes_parts = True

    async def part(self, part: bytes) -> bool:
        self.taken.append(part)
        return True

    async def last_part(self) -> None:
        """Do nothing."""

    def abandon(self) -> None:
        raise AssertionError


class Patient:
    def restart_timeout(self) -> None:
        """Do nothing: the test has no timeout."""

    pause_timeout = restart_timeout


async def _taken(result: bytes) -> tuple[bytes, int]:
    """Return the message that a client receives, and the turns of other tasks."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    body = b'{"jsonrpc":"2.0","id":1,"result":{%s}}' % result
    sink: Any = Sink()
    onward = ResultRelay(sink, "tools/call", PrefixMapping("b"), Patient())
    other = asyncio.create_task(count())
    assert await onward.take(Source(body), (ID, ID), lambda: None)
    other.cancel()
    assert b"".join(sink.taken) == body
    return body, turns


@pytest.mark.parametrize("result", [MANY_MEMBERS, MANY_ITEMS], ids=["members", "items"])
async def test_other_tasks_run_while_a_large_response_is_read(
    result: bytes,
) -> None:
    body, turns = await _taken(result)
    assert turns > len(body) / (20 * _LEAST_STEP)


async def test_a_large_text_is_forwarded_as_it_comes() -> None:
    _, turns = await _taken(LONG_TEXT)
    assert turns < 10


async def test_bytes_that_are_not_utf_8_are_repaired_in_a_large_response() -> None:
    sink: Any = Sink()
    relay = ResultRelay(sink, "tools/call", PrefixMapping("b"), Patient())
    text = b"caf\xe9" + b"x" * (2 * LARGE) + b"\xe9"
    source = Source(b'{"jsonrpc":"2.0","id":1,"result":{"a\xe9":"%b"}}' % text)
    expected = source.body.replace(b"\xe9", "\ufffd".encode())
    assert await relay.take(source, (ID, ID), lambda: None)
    assert b"".join(sink.taken) == expected
