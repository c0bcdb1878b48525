"""A small server of the legacy era that keeps sessions, and may forget them."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

TOOLS = [{"name": "count", "inputSchema": {"type": "object"}}]


class Forgetful:
    """A server that keeps sessions until it forgets them, and refuses others as it is told."""

    def __init__(
        self, status: int = 404, code: int | None = None, text: str = "no session"
    ) -> None:
        self.refusal = (status, code, text)
        self.sessions: dict[str, int] = {}
        self.opened = 0
        self.executed = 0
        self.asked: list[str] = []
        self.tools: list[dict[str, Any]] = TOOLS
        self.pings_known = True
        self.capabilities: dict[str, Any] = {"tools": {}}

    def forget(self) -> None:
        """Forget all sessions, as a restart does."""
        self.sessions.clear()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            body = await request.body()
            answer = self._answer(request, json.loads(body) if body else {})
            await answer(scope, receive, send)

    def _answer(self, request: Request, message: Any) -> Response:
        method, own = message.get("method", request.method), message.get("id")
        self.asked.append(method)
        if method == "initialize":
            self.opened += 1
            session = f"s-{self.opened}"
            self.sessions[session] = 0
            result = {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": self.capabilities,
                "serverInfo": {"name": "f", "version": "1"},
            }
            answer = self._result(own, result)
            answer.headers["mcp-session-id"] = session
            return answer
        if method == "server/discover":
            return PlainTextResponse("no", 404)
        if method in ("GET", "DELETE"):
            return PlainTextResponse("", 405)
        session = request.headers.get("mcp-session-id", "")
        if session not in self.sessions:
            return self._refused(own)
        return self._served(session, method, own)

    def _refused(self, own: Any) -> Response:
        status, code, text = self.refusal
        if code is None or own is None:
            return PlainTextResponse(text, status)
        error = {"code": code, "message": text}
        return JSONResponse({"jsonrpc": "2.0", "id": own, "error": error}, status)

    def _served(self, session: str, method: str, own: Any) -> Response:
        if own is None:
            return PlainTextResponse("", 202)
        if method == "tools/list":
            return self._result(own, {"tools": self.tools})
        if method == "tools/call":
            self.executed += 1
            self.sessions[session] += 1
            return self._result(
                own, {"content": [{"type": "text", "text": str(self.sessions[session])}]}
            )
        if method == "ping" and self.pings_known:
            return self._result(own, {})
        error = {"code": -32603, "message": f"{method} fails"}
        return JSONResponse({"jsonrpc": "2.0", "id": own, "error": error})

    @staticmethod
    def _result(own: Any, result: Any) -> Response:
        return JSONResponse({"jsonrpc": "2.0", "id": own, "result": result})
