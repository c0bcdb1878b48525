"""An MCP client by hand: it sends bytes and gives back what it got, message for message."""

import base64
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.differential.backend import LEGACY, MODERN

ACCEPT = "application/json, text/event-stream"
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_NAMED |= dict.fromkeys(("tasks/get", "tasks/update", "tasks/cancel"), "taskId")
OnRequest = Callable[[dict[str, Any]], bytes | None]
OnMessage = Callable[[dict[str, Any]], Awaitable[None]]


def header_value(text: str) -> str:
    """A header's value that stands for this text (2026-07-28, transports)."""
    if re.fullmatch(r"[\x20-\x7e]*", text) and text == text.strip() and "=?" not in text:
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def header_text(value: str) -> str:
    """The text that a header's value stands for."""
    match = re.fullmatch(r"=\?base64\?(.*)\?=", value)
    return base64.b64decode(match[1]).decode() if match else value


async def events(answer: httpx2.Response) -> AsyncIterator[bytes]:
    """The data of each event of a stream that has any."""
    rest, data = b"", b""
    async for chunk in answer.aiter_raw():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data += line[5:].removeprefix(b" ")
            elif not line and data:
                yield data
                data = b""


@dataclass
class Client:
    """A client of one endpoint, in one era."""

    http: httpx2.AsyncClient
    url: str
    era: str
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with every request: credentials."""
    session: str | None = None

    def _headers(self, body: bytes) -> dict[str, str]:
        result = {"accept": ACCEPT, "content-type": "application/json", **self.headers}
        if self.session is not None:
            result["mcp-session-id"] = self.session
        message = json.loads(body)
        if self.era == "modern":
            result["mcp-protocol-version"] = MODERN
            result["mcp-method"] = message["method"]
            member = _NAMED.get(message["method"])
            if member is not None:
                result["mcp-name"] = header_value(message["params"][member])
        elif self.session is not None:
            result["mcp-protocol-version"] = LEGACY
        return result

    async def initialize(self, capabilities: str = "{}", info: str = '{"name":"c"}') -> None:
        """Begin a session; both are JSON."""
        params = (
            f'{{"protocolVersion":"{LEGACY}","capabilities":{capabilities},"clientInfo":{info}}}'
        )
        body = f'{{"jsonrpc":"2.0","id":"hello","method":"initialize","params":{params}}}'
        headers = self._headers(body.encode())
        answer = await self.http.post(self.url, content=body.encode(), headers=headers)
        assert answer.status_code == 200, answer.text
        self.session = answer.headers.get("mcp-session-id")
        status = await self.tell(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        assert status == 202

    async def tell(self, body: bytes) -> int:
        """Send a notification or a response; the HTTP status."""
        answer = await self.http.post(self.url, content=body, headers=self._headers(body))
        return answer.status_code

    async def end(self) -> int:
        """End the session; the HTTP status."""
        headers = {**self.headers, "mcp-session-id": self.session or ""}
        return (await self.http.delete(self.url, headers=headers)).status_code

    async def exchange(
        self,
        body: bytes,
        on_request: OnRequest | None = None,
        on_message: OnMessage | None = None,
    ) -> list[bytes]:
        """All messages of the answer to a request; server requests are answered on the way."""
        results = []
        headers = self._headers(body)
        async with self.http.stream("POST", self.url, content=body, headers=headers) as answer:
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                results.append(await answer.aread())
                assert results[-1], f"HTTP {answer.status_code} without a message"
                return results
            async for data in events(answer):
                results.append(data)
                message = json.loads(data)
                if on_message is not None:
                    await on_message(message)
                if "method" in message and "id" in message and on_request is not None:
                    reply = on_request(message)
                    if reply is not None:
                        status = await self.tell(reply)
                        assert status == 202, f"HTTP {status} to {reply!r}"
        return results

    async def stream(self, last: str | None = None) -> AsyncIterator[tuple[str | None, bytes]]:
        """Yield the messages of the stream of a GET, after the status (as data of no event)."""
        headers = {"accept": "text/event-stream", "mcp-session-id": self.session or ""}
        headers |= self.headers
        if last is not None:
            headers["last-event-id"] = last
        async with self.http.stream("GET", self.url, headers=headers) as answer:
            yield None, str(answer.status_code).encode()
            async for data in events(answer):
                yield "event", data
