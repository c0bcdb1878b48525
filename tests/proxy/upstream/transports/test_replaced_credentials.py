"""A refusal concerns the credentials that were sent, whatever has replaced them since."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient
from tests.proxy import byhand

Line = tuple[bytes, bytes]
OLD, NEW = (b"authorization", b"Bearer old"), (b"authorization", b"Bearer new")
ACCEPTED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
REFUSED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"


class Tokens:
    """Credentials whose token a test replaces."""

    by_caller = False
    latest = None

    def __init__(self) -> None:
        self.line = OLD
        self.refusals: list[Line] = []

    def of(self, client: ClientIdentity) -> "Tokens":
        return self

    def header(self) -> Line:
        return self.line

    async def obtain(self) -> Line:
        return self.line

    def refused(self, line: Line) -> bool:
        self.refusals.append(line)
        return True

    async def close(self) -> None:
        pass


@asynccontextmanager
async def served() -> AsyncIterator[tuple[str, Callable[[], None], list[bytes]]]:
    """A server that answers once it may: its URL, the permission, and the tokens that it got."""
    tokens: list[bytes] = []
    may_answer = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                (line,) = [
                    item for item in head.split(b"\r\n") if item.startswith(b"authorization")
                ]
                tokens.append(line.partition(b"Bearer ")[2])
                if tokens[1:]:
                    await may_answer.wait()
                writer.write(REFUSED if tokens[-1] == b"old" and tokens[1:] else ACCEPTED)
        except asyncio.IncompleteReadError:
            writer.close()

    async with byhand.served(serve) as port:
        yield f"http://127.0.0.1:{port}/mcp", may_answer.set, tokens


async def test_a_token_that_was_replaced_during_the_request_is_not_blamed() -> None:
    async with served() as (url, let_it_answer, tokens):
        await _replace_during_a_request(url, let_it_answer, tokens)


async def _replace_during_a_request(
    url: str, let_it_answer: Callable[[], None], tokens: list[bytes]
) -> None:
    credentials = Tokens()
    client = HttpClient(url, 5.0, lambda: pytest.fail("no TLS"), {})
    endpoint = McpHttpClient(client, tuple, credentials=credentials)
    (await endpoint.post(b"{}", ())).leave()
    sent = endpoint.send(b"{}", (), lambda: None)
    assert sent is not None
    credentials.line = NEW
    let_it_answer()
    answer = await endpoint.post(b"{}", (), sent=sent)
    assert answer.status == 200
    assert tokens == [b"old", b"old", b"new"]
    assert credentials.refusals == [OLD]
    answer.close()
    await endpoint.close()
