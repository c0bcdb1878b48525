"""MCP by hand over HTTP: what no SDK would send."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2

ACCEPT = "application/json, text/event-stream"
META = "io.modelcontextprotocol/"
MODERN = "2026-07-28"


def rpc(method: str, params: Any = None, request_id: Any = 1) -> dict[str, Any]:
    """A request."""
    content = {"jsonrpc": "2.0", "id": request_id, "method": method}
    return content if params is None else {**content, "params": params}


def modern(method: str, request_id: Any = 1, **params: Any) -> dict[str, Any]:
    """A request of the modern era."""
    meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    value = params.pop("_meta", {})
    return rpc(method, {**params, "_meta": {**meta, **value}}, request_id)


class Raw:
    """A client of one endpoint."""

    def __init__(self, url: str, http: httpx2.AsyncClient) -> None:
        self.url = url
        self.http = http
        self.session: str | None = None

    async def post(self, message: Any, **headers: str | None) -> httpx2.Response:
        """POST one message; a header that is None is not sent (names with _ for -)."""
        body, value = self._written(message, headers)
        return await self.http.post(self.url, content=body, headers=value)

    async def messages(self, message: Any, **headers: str | None) -> AsyncIterator[Any]:
        """POST one message; the messages of the answer as they come."""
        body, value = self._written(message, headers)
        async with self.http.stream("POST", self.url, content=body, headers=value) as answer:
            async for line in answer.aiter_lines():
                if "{" in line:
                    yield json.loads(line.removeprefix("data: "))

    def _written(
        self, message: Any, headers: dict[str, str | None]
    ) -> tuple[bytes, dict[str, str]]:
        argument = {"accept": ACCEPT, "content-type": "application/json"}
        if self.session is not None:
            argument["mcp-session-id"] = self.session
        for name, value in headers.items():
            argument.pop(name.replace("_", "-"), None)
            if value is not None:
                argument[name.replace("_", "-")] = value
        return message if isinstance(message, bytes) else json.dumps(message).encode(), argument

    async def initialize(
        self, revision: str = "2025-11-25", capabilities: Any = None, **headers: str
    ) -> httpx2.Response:
        """Begin a session."""
        params = {
            "protocolVersion": revision,
            "capabilities": capabilities or {},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        answer = await self.post(rpc("initialize", params), **headers)
        self.session = answer.headers.get("mcp-session-id")
        return answer

    async def call(self, method: str, _name: str | None = None, **params: Any) -> httpx2.Response:
        """A request of the modern era with the headers that it needs."""
        headers = {"mcp_protocol_version": MODERN, "mcp_method": method}
        if _name is not None:
            headers["mcp_name"] = _name
        return await self.post(modern(method, **params), **headers)


def last(answer: httpx2.Response) -> Any:
    """The last message of an answer, which is JSON or an event stream."""
    lines = answer.text.splitlines()
    return json.loads([line.removeprefix("data: ") for line in lines if "{" in line][-1])


def error(answer: httpx2.Response) -> tuple[int, int]:
    """HTTP status and JSON-RPC code."""
    return answer.status_code, last(answer)["error"]["code"]
