"""A backend of the modern era with any tools: their names and descriptions are those of a test."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tests.proxy.runtime.shaped import DISCOVERED, TEXT

Tool = dict[str, Any]


def a_tool(name: str, description: str = "Does something.", **schema: Any) -> Tool:
    """A tool with a schema of one argument."""
    text = {"type": "string", "description": "A city, such as Oslo"}
    properties = schema or {"city": text}
    return {
        "name": name,
        "description": description,
        "inputSchema": {"type": "object", "properties": properties},
    }


@dataclass
class ListingBackend:
    """The backend as an ASGI app."""

    tools: Sequence[Tool] = ()
    status: int = 200
    """HTTP status of all responses; 200 means that the backend works."""
    calls: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        await (await self._response(request))(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        if self.status != 200:
            return Response("no", self.status)
        if request.method != "POST":
            return Response(status_code=405)
        message = json.loads(await request.body())
        method = message.get("method")
        if "id" not in message:
            return Response(status_code=202)
        if method == "server/discover":
            result: dict[str, Any] = DISCOVERED
        elif method == "tools/list":
            result = {
                "resultType": "complete",
                "tools": list(self.tools),
                "ttlMs": 0,
                "cacheScope": "public",
            }
        elif method == "tools/call":
            self.calls.append(message["params"])
            result = TEXT
        else:
            error = {"code": -32601, "message": "unknown method"}
            body = {"jsonrpc": "2.0", "id": message["id"], "error": error}
            return JSONResponse(body, 404)
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})
