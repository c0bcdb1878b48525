"""Upstream sessions of each transport, to a backend whose responses are bytes from the test."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from msgspec import Raw

from mcpproxy.proxy.core.exchange import ClientIdentity, NullContext
from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.transports import sse
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient
from mcpproxy.proxy.upstream.transports.http_legacy import HttpLegacySession
from mcpproxy.proxy.upstream.transports.http_modern import HttpModernSession
from mcpproxy.proxy.upstream.transports.multiplexed import MultiplexedSession
from mcpproxy.proxy.upstream.transports.session import (
    ServerDescription,
    TaskSet,
    UpstreamRequest,
    UpstreamSession,
)
from mcpproxy.proxy.upstream.transports.stdio import spawn
from tests.proxy.byhand import served

LEGACY, MODERN = "2025-11-25", "2026-07-28"
ON_HTTP: Final = ("json", "stream", "modern-json", "modern-stream")
ON_CHANNELS: Final = ("stdio", "http+sse")
TRANSPORTS: Final = (*ON_HTTP, *ON_CHANNELS)
ID: Final = b"@ID@"
"""Placeholder for the id of the request."""
GUARD: Final = 10.0
"""Seconds after which a request without an end fails its test."""
PROGRAM: Final = """
import json, sys
answers = [bytes.fromhex(one) for one in sys.argv[1:]]
for line in sys.stdin.buffer:
    own = json.loads(line).get("id")
    if own is not None and answers:
        sys.stdout.buffer.write(answers.pop(0).replace(b"@ID@", json.dumps(own).encode()) + b"\\n")
        sys.stdout.buffer.flush()
"""


class Told(NullContext):
    """A context that records the methods of its notifications."""

    def __init__(self) -> None:
        super().__init__(ClientIdentity(LEGACY))
        self.methods: list[str] = []

    async def notify(self, message: Message) -> None:
        self.methods.append(json.loads(bytes(message["method"])))


class Server:
    """Responds to each request with the next one of `answers`, over HTTP."""

    def __init__(self, transport: str, answers: list[bytes], more: bytes) -> None:
        self.heads: list[bytes] = []
        self._transport = transport
        self._answers = answers
        self._more = more
        self._stream: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            self.heads.append(head)
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            message = json.loads(await reader.readexactly(int(length or 0)) or b"null")
            if message is None:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
                writer.write(b"event: endpoint\ndata: /post\n\n")
                self._stream = writer
                await reader.read()
                return
            answer = b""
            if "id" in message and self._answers:
                answer = self._answers.pop(0).replace(ID, json.dumps(message["id"]).encode())
            if self._transport == "http+sse":
                writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
                assert self._stream is not None
                if answer:
                    self._stream.write(b"data: %b\n\n" % answer)
            else:
                self._respond(writer, answer)

    def _respond(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        kind = b"application/json"
        if self._transport.endswith("stream") and not self._more:
            kind, answer = b"text/event-stream", b"data: %b\n\n" % answer
        elif self._transport.endswith("stream"):
            kind = b"text/event-stream"
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%bcontent-length: %d\r\n\r\n"
        writer.write(head % (kind, self._more, len(answer)) + answer)


@asynccontextmanager
async def answering(
    transport: str, *answers: bytes, more: bytes = b""
) -> AsyncIterator[tuple[UpstreamSession, Server]]:
    """A session with a backend that sends these answers; `more` are header fields of its responses.

    With them, an answer is the complete body; otherwise it is the data of an event if `streamed`.
    """
    background = TaskSet()
    server = Server(transport, list(answers), more)
    async with contextlib.AsyncExitStack() as stack:
        link: UpstreamSession
        if transport == "stdio":
            arguments = [answer.hex() for answer in answers]
            command = (sys.executable, "-ISu", "-c", PROGRAM, *arguments)
            link = MultiplexedSession(await spawn("b", command, {}, None), background)
        else:
            port = await stack.enter_async_context(served(server.serve))
            client = HttpClient(f"http://127.0.0.1:{port}/mcp", 5)
            stack.callback(client.close)
            endpoint = McpHttpClient(client, lambda: ())
            if transport == "http+sse":
                link = MultiplexedSession(await sse.connect(endpoint, 5), background)
            elif transport.startswith("modern"):
                link = HttpModernSession(endpoint, ServerDescription(MODERN, {}))
            else:
                link = HttpLegacySession(endpoint, ServerDescription(LEGACY, {}), None, background)
        try:
            yield link, server
        finally:
            await link.close()
            await background.close()


async def called(
    link: UpstreamSession, caller: NullContext | None = None, own: bytes = b"7"
) -> Any:
    """Return the response to a call. Raises BackendError, TimeoutError."""
    outgoing = UpstreamRequest(Raw(own), "tools/call", {"name": Raw(b'"x"')})
    async with asyncio.timeout(GUARD):
        answer = await link.request(outgoing, caller or Told())
    return {name: json.loads(bytes(raw)) for name, raw in answer.items()}
