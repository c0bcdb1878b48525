"""The MCP endpoint of the reference server: who calls, and what it answers, without HTTP."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.resource_server.reference.rules import Rules
from tests.resource_server.reference.verifier import Caller

LEGACY: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
SESSION: Final = "mcp-session-id"
SCOPED_TOOL: Final = "scoped"
SCOPES: Final = ("notes:read", "notes:write")
_INFO: Final = {"name": "reference", "version": "1"}
_CAPABILITIES: Final = {"tools": {"listChanged": True}}
_TOOLS: Final = [{"name": SCOPED_TOOL, "inputSchema": {"type": "object"}}]
_METHODS: Final = frozenset(
    {"tools/list", "tools/call", "ping", "logging/setLevel", "resources/list", "prompts/list"}
)


class InsufficientScope(Exception):
    """The call needs more scopes."""


@dataclass(frozen=True)
class Answer:
    """Status, body and session of a response; a body of None has no content."""

    status: int
    body: Any = None
    session: str = ""
    stream: bool = False


def _error(status: int, code: int, message: str, identifier: Any = None) -> Answer:
    content = {"jsonrpc": "2.0", "id": identifier, "error": {"code": code, "message": message}}
    return Answer(status, content)


def _result(identifier: Any, result: Any) -> Answer:
    return Answer(200, {"jsonrpc": "2.0", "id": identifier, "result": result})


@dataclass
class Endpoint:
    """Sessions and methods."""

    rules: Rules
    sessions: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def post(self, headers: Mapping[str, str], body: bytes, caller: Caller, token: str) -> Answer:
        """Answer a message. Raise InsufficientScope."""
        try:
            message = json.loads(body)
        except ValueError:
            return _error(400, -32700, "Parse error")
        if isinstance(message, list) and message and self.rules.breaks("token-batch"):
            message = message[0]
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            return _error(400, -32600, "Invalid Request")
        version = headers.get("mcp-protocol-version", LEGACY)
        if version == MODERN:
            return self._modern(message, caller)
        if version != LEGACY and self.rules.keep("token-version"):
            return _error(400, -32600, "Unsupported protocol version")
        return self._legacy(headers, message, caller, token)

    def owner(self, caller: Caller, token: str) -> tuple[str, ...]:
        """Return that to which a session of this caller is bound."""
        issuer, subject = caller.principal
        if self.rules.breaks("session-principal"):
            return (token,)
        if self.rules.breaks("session-subject"):
            return ()
        if self.rules.breaks("session-similar"):
            subject = subject.strip().lower()
        return (subject,) if self.rules.breaks("session-issuer") else (issuer, subject)

    def is_owner(self, session: str, caller: Caller, token: str) -> bool:
        """True if the session exists and is the caller's."""
        return self.sessions.get(session) == self.owner(caller, token)

    def delete(self, session: str, caller: Caller, token: str) -> Answer:
        """End a session."""
        known = session in self.sessions and self.rules.breaks("session-delete")
        if not known and not self.is_owner(session, caller, token):
            return _error(404, -32600, "Session not found")
        del self.sessions[session]
        return Answer(204)

    def _legacy(
        self, headers: Mapping[str, str], message: dict[str, Any], caller: Caller, token: str
    ) -> Answer:
        method, identifier = message.get("method"), message.get("id")
        session = headers.get(SESSION, "")
        if method == "initialize":
            if not (session and self.rules.breaks("session-initialize")):
                session = secrets.token_hex(16)
            self.sessions[session] = self.owner(caller, token)
            result = {"protocolVersion": LEGACY, "capabilities": _CAPABILITIES}
            answer = _result(identifier, {**result, "serverInfo": _INFO})
            return Answer(200, answer.body, session)
        if not session:
            return _error(400, -32600, "Session id is missing", identifier)
        if not self.is_owner(session, caller, token):
            return _error(404, -32600, "Session not found", identifier)
        if "method" not in message or "id" not in message:
            return Answer(202)
        if method not in _METHODS:
            return _error(200, -32601, "Method not found", identifier)
        return self._call(message, caller)

    def _modern(self, message: dict[str, Any], caller: Caller) -> Answer:
        method, identifier = message.get("method"), message.get("id")
        if "id" not in message:
            return Answer(202)
        if method == "server/discover":
            result = {"supportedVersions": [MODERN], "capabilities": _CAPABILITIES}
            return _result(identifier, {**result, "resultType": "complete", "serverInfo": _INFO})
        if method == "subscriptions/listen":
            return Answer(200, stream=True)
        if method not in _METHODS:
            return _error(404, -32601, "Method not found", identifier)
        return self._call(message, caller)

    def _call(self, message: dict[str, Any], caller: Caller) -> Answer:
        method, identifier = message["method"], message.get("id")
        if method == "tools/call":
            params = message.get("params")
            name = params.get("name") if isinstance(params, dict) else None
            if name != SCOPED_TOOL:
                return _error(200, -32602, "Unknown tool", identifier)
            if not caller.scopes.issuperset(SCOPES) and self.rules.keep("scope"):
                raise InsufficientScope
            return _result(identifier, {"content": [], "resultType": "complete"})
        empty: dict[str, dict[str, Any]]
        empty = {"tools/list": {"tools": _TOOLS}, "resources/list": {"resources": []}}
        return _result(identifier, {**empty.get(method, {}), "resultType": "complete"})
