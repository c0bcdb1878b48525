"""Large answers of a backend by hand, and a client that reads them as they come."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from tests.proxy.runtime.raw import ACCEPT, MODERN, Raw, modern, rpc
from tests.proxy.runtime.shaped import LOGGED, plain

HALF = 400_000
RESULT: dict[str, Any] = {
    "resultType": "complete",
    "content": [
        {"type": "text", "text": "y" * HALF},
        {"type": "resource_link", "name": "z" * HALF, "uri": "a:b"},
    ],
}
SHOWN = [RESULT["content"][0], {**RESULT["content"][1], "uri": "a:p/b"}]
FORMS = ("length", "chunked", "events", "told")
"""Form of the backend's response: `told` is an event stream with a notification before it."""


def written(
    form: str,
    request_id: Any,
    result: Any = RESULT,
    member: str = "result",
    change: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """An answer as a whole."""
    body = change(json.dumps({"jsonrpc": "2.0", "id": request_id, member: result}).encode())
    if form == "length":
        return plain(body)
    kind = b"application/json"
    if form != "chunked":
        kind = b"text/event-stream"
        told = b"data: %b\n\n" % json.dumps(LOGGED).encode() if form == "told" else b""
        # Behind a blank or a line of data, JSON goes on.
        body = b"%bevent: message\ndata: %b\n\n" % (
            told,
            body.replace(b', "r', b',\ndata:\ndata: "r'),
        )
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % kind
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def last(text: str) -> Any:
    """The last message of an answer."""
    event = text.rstrip().replace("\r\n", "\n").rpartition("\n\n")[2]
    lines = [line.removeprefix("data: ") for line in event.split("\n") if line[:5] == "data:"]
    return json.loads("\n".join(lines) or text)


class Client:
    """Reads the answer to one call as it comes."""

    def __init__(self, client: Raw, kind: str) -> None:
        self.began = asyncio.Event()
        self.leave = False
        self._client = client
        self._modern = kind == "modern"

    async def message(self) -> Any:
        """The last message of the answer."""
        return last((await self.read()).decode())

    async def read(self) -> bytes:
        """The whole answer, or what there was when it was told to leave."""
        result = b""
        async for chunk in self._chunks():
            result += chunk
            self.began.set()
            if self.leave:
                break
        return result

    def request(self) -> tuple[dict[str, str], bytes]:
        """The call: its headers and its body."""
        headers = {"accept": ACCEPT, "content-type": "application/json"}
        if self._modern:
            body = modern("tools/call", "mine", name="p_x")
            headers |= {"mcp-protocol-version": MODERN, "mcp-name": "p_x"}
            headers |= {"mcp-method": "tools/call"}
        else:
            body = rpc("tools/call", {"name": "p_x"}, "mine")
            headers["mcp-session-id"] = self._client.session or ""
        return headers, json.dumps(body).encode()

    async def _chunks(self) -> AsyncIterator[bytes]:
        headers, body = self.request()
        post = self._client.http.stream
        async with post("POST", self._client.url, content=body, headers=headers) as answer:
            async for chunk in answer.aiter_bytes():
                yield chunk


class Endless:
    """An answer that goes on until nobody takes it."""

    def __init__(self, form: str) -> None:
        self.form = form
        self.asked, self.goes_on = asyncio.Event(), asyncio.Event()
        self.sent = 0
        """Bytes that somebody took."""
        self._left = asyncio.Event()

    async def write(self, request_id: Any, writer: asyncio.StreamWriter) -> None:
        """Answer a call, once it `goes_on`."""
        self.asked.set()
        await self.goes_on.wait()
        kind = b"application/json" if self.form in ("length", "chunked") else b"text/event-stream"
        framing = b"transfer-encoding: chunked"
        if self.form == "length":
            framing = b"content-length: %d" % 10**9
        begins = written("length", request_id).partition(b"\r\n\r\n")[2][:HALF]
        if kind != b"application/json":
            begins = b"data: " + begins
        with suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n\r\n" % (kind, framing))
            for part in itertools.chain([begins], itertools.repeat(b"x" * 100_000)):
                chunk = part if self.form == "length" else b"%x\r\n%b\r\n" % (len(part), part)
                writer.write(chunk)
                await writer.drain()
                self.sent += len(part)
                await asyncio.sleep(0)
        self._left.set()

    async def left(self) -> None:
        """Wait until nobody takes it any more."""
        async with asyncio.timeout(10):
            await self._left.wait()
