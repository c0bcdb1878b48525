"""A backend by hand whose sessions and lists belong to the subjects of tokens."""

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from tests.proxy.runtime.granting import reply

MODERN = "2026-07-28"


@dataclass
class Subjects:
    """The app; `Demanding` in front of it names the subject of each request."""

    era: str
    sessions: dict[str, str] = field(default_factory=dict)
    """Subjects of the sessions."""
    strangers: list[tuple[str, str]] = field(default_factory=list)
    """Owner of a session and subject of a request in it, where they differ."""
    calls: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        subject = scope["subject"]
        body, more = b"", scope["method"] == "POST"
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["method"] == "GET":
            await reply(send, 405, {})
            return
        session = headers.get("mcp-session-id")
        if session is not None:
            owner = self.sessions.get(session)
            if owner is None:
                await reply(send, 404, {})
                return
            if owner != subject:
                self.strangers.append((owner, subject))
        if scope["method"] == "DELETE":
            await reply(send, 200, {})
            return
        await self._answer(json.loads(body), subject, session, send)

    async def _answer(
        self, request: dict[str, Any], subject: str, session: str | None, send: Send
    ) -> None:
        method, more = request["method"], []
        if "id" not in request:
            await reply(send, 202, b"")
            return
        is_modern = self.era == "modern"
        if method in ("server/discover", "initialize"):
            if (method == "server/discover") != is_modern:
                error = {"code": -32601, "message": "method not found"}
                await reply(send, 404, {"jsonrpc": "2.0", "id": request["id"], "error": error})
                return
            result = self._server(is_modern)
            if not is_modern:
                name = secrets.token_hex(8)
                self.sessions[name] = subject
                more = [(b"mcp-session-id", name.encode())]
        elif method == "tools/list":
            tools = [{"name": f"of-{subject}", "inputSchema": {"type": "object"}}]
            result = {"tools": tools, "ttlMs": 1000, "cacheScope": "private"}
        elif method == "tools/call":
            self.calls += 1
            result = {"content": [{"type": "text", "text": subject}]}
        else:
            result = {}
        if is_modern:
            result["resultType"] = "complete"
        await reply(send, 200, {"jsonrpc": "2.0", "id": request["id"], "result": result}, *more)

    def _server(self, is_modern: bool) -> dict[str, Any]:
        common: dict[str, Any] = {
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "subjects", "version": "1"},
        }
        if is_modern:
            return {**common, "supportedVersions": [MODERN], "ttlMs": 0, "cacheScope": "private"}
        return {**common, "protocolVersion": "2025-11-25"}


def is_young(claims: dict[str, Any], seconds: float) -> bool:
    """True if a token was issued lately; `issued` is a claim with fractions of seconds."""
    return bool(time.time() - claims["issued"] < seconds)
