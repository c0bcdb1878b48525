"""A server that answers the first requests of a session as a test says, and a connector for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from mcpproxy.api.defaults import effective_settings
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.upstream.connect.http_connector import HttpConnector
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient
from mcpproxy.proxy.upstream.transports.session import TaskSet
from tests.proxy.runtime.serving import serving
from tests.support.builders import an_mcpproxy

LEGACY = ClientIdentity("2025-11-25", info=b'{"name":"c","version":"1"}')
MODERN = ClientIdentity("2026-07-28", info=b'{"name":"c","version":"1"}')
Answer = Callable[[str, Any], Response]


def result_of(message: Any, **result: Any) -> Response:
    return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})


def initialized(message: Any, revision: str | None = None, session: str | None = None) -> Response:
    spoken = revision or message["params"]["protocolVersion"]
    answer = result_of(message, protocolVersion=spoken, capabilities={"tools": {}})
    if session is not None:
        answer.headers["mcp-session-id"] = session
    return answer


class Server:
    """Answers `server/discover` and `initialize` as the test says."""

    def __init__(self, discover: Answer, initialize: Answer) -> None:
        self.discover = discover
        self.initialize = initialize
        self.others: dict[str, Answer] = {}
        """Answers to other requests and notifications, by their method."""
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = await request.body()
        message = json.loads(body) if body else {}
        method = message.get("method", scope["method"])
        self.asked.append(method)
        answer: Response = PlainTextResponse("", 202 if body else 405)
        if method == "server/discover":
            answer = self.discover(method, message)
        elif method == "initialize":
            answer = self.initialize(method, message)
        elif method in self.others:
            answer = self.others[method](method, message)
        await answer(scope, receive, send)


def modern(method: str, message: Any) -> Response:
    """Supports the modern era."""
    return result_of(message, supportedVersions=["2026-07-28"], capabilities={"tools": {}})


def legacy(method: str, message: Any) -> Response:
    """Supports the legacy era, with a session."""
    return initialized(message, session="s-1")


def status(code: int, content: str = "no") -> Answer:
    """Responds with an HTTP status."""
    return lambda method, message: PlainTextResponse(content, code)


def error(code: int, http: int = 200, message: str = "no") -> Answer:
    """Responds with a JSON-RPC error."""

    def answer(method: str, request: Any) -> Response:
        content = {"code": code, "message": message}
        return JSONResponse({"jsonrpc": "2.0", "id": request["id"], "error": content}, http)

    return answer


class Silent(Response):
    """Sends nothing until the client disconnects."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


async def _nothing() -> Any:
    await asyncio.Event().wait()
    yield b""


def silent(method: str, message: Any) -> Response:
    """Never responds."""
    return Silent()


def silent_stream(method: str, message: Any) -> Response:
    """Starts an event stream without events."""
    return StreamingResponse(_nothing(), media_type="text/event-stream")


def open_stream(method: str, message: Any) -> Response:
    """Responds to a notification with a stream that stays open."""
    return StreamingResponse(_nothing(), media_type="text/event-stream")


class Dropped(Silent):
    """Closes the connection."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        send.__self__.transport.abort()
        await super().__call__(scope, receive, send)


def dropped(method: str, message: Any) -> Response:
    """Closes the connection."""
    return Dropped()


@asynccontextmanager
async def connector_of(
    server: Any, path: str = "/mcp", **fields: Any
) -> AsyncIterator[HttpConnector]:
    """A connector for a server."""
    async with serving(server) as base:
        timeouts = {"connect": "1s", "initialize": "1s"}
        backend = {"name": "b", "url": base + path, "timeouts": timeouts, **fields}
        spec = an_mcpproxy(backends=[backend]).spec
        value = effective_settings(spec, spec.backends[0])
        background = TaskSet()
        client = HttpClient(base + path, 1.0)
        connector = HttpConnector(McpHttpClient(client, tuple, value.passed), value, background)
        try:
            yield connector
        finally:
            await connector.close()
            await background.close()
