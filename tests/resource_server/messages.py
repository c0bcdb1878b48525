"""Messages of MCP in both protocol eras, with the headers that each era demands."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

LEGACY: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
ERAS: Final = (LEGACY, MODERN)
ACCEPT: Final = "application/json, text/event-stream"
CLIENT: Final = {"name": "resource-server-kit", "version": "1"}
_URI: Final = "kit://nothing"

_COMMON: Final[Mapping[str, Mapping[str, Any]]] = {
    "tools/list": {},
    "tools/call": {"name": "nothing", "arguments": {}},
    "resources/list": {},
    "resources/templates/list": {},
    "resources/read": {"uri": _URI},
    "prompts/list": {},
    "prompts/get": {"name": "nothing"},
    "completion/complete": {
        "ref": {"type": "ref/prompt", "name": "nothing"},
        "argument": {"name": "nothing", "value": ""},
    },
    "kit/unknown": {},
    "tasks/get": {"taskId": "1"},
    "tasks/cancel": {"taskId": "1"},
}
REQUESTS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    LEGACY: {
        "initialize": {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT},
        "ping": {},
        **_COMMON,
        "resources/subscribe": {"uri": _URI},
        "resources/unsubscribe": {"uri": _URI},
        "logging/setLevel": {"level": "info"},
        "tasks/list": {},
        "tasks/result": {"taskId": "1"},
    },
    MODERN: {
        "server/discover": {},
        **_COMMON,
        "subscriptions/listen": {"notifications": {"toolsListChanged": True}},
        "tasks/update": {"taskId": "1", "inputResponses": {}},
    },
}
"""Parameters of every request of each era, by method."""
NOTIFICATIONS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    LEGACY: {
        "notifications/initialized": {},
        "notifications/cancelled": {"requestId": 1},
        "notifications/progress": {"progressToken": 1, "progress": 1},
        "notifications/roots/list_changed": {},
    },
    MODERN: {"notifications/cancelled": {"requestId": 1}},
}
PROBES: Final[Mapping[str, str]] = {LEGACY: "initialize", MODERN: "server/discover"}
"""The request with which a client of each era begins."""
_NAMES: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


@dataclass(frozen=True)
class Message:
    """A JSON-RPC message with the headers of its HTTP request."""

    era: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def _meta() -> dict[str, Any]:
    prefix = "io.modelcontextprotocol/"
    return {
        f"{prefix}protocolVersion": MODERN,
        f"{prefix}clientCapabilities": {},
        f"{prefix}clientInfo": CLIENT,
    }


def build(
    era: str,
    method: str,
    params: Mapping[str, Any] | None = None,
    identifier: int | None = 1,
    session: str = "",
) -> Message:
    """Return a request, or a notification if the identifier is None."""
    known = {**REQUESTS[era], **NOTIFICATIONS[era]}
    content = dict(known.get(method, {}) if params is None else params)
    headers = {"Content-Type": "application/json", "Accept": ACCEPT}
    if era == MODERN:
        content["_meta"] = _meta()
        headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        if method in _NAMES:
            headers["Mcp-Name"] = str(content.get(_NAMES[method], ""))
    elif method != "initialize":
        headers["MCP-Protocol-Version"] = LEGACY
    if session:
        headers["Mcp-Session-Id"] = session
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": content}
    if identifier is not None:
        message["id"] = identifier
    return Message(era, json.dumps(message).encode(), headers)


def every(era: str, session: str = "") -> dict[str, Message]:
    """Return one message of each kind that a client of the era may send."""
    messages = {name: build(era, name, session=session) for name in REQUESTS[era]}
    for name in NOTIFICATIONS[era]:
        messages[name] = build(era, name, identifier=None, session=session)
    if era == LEGACY:
        response = {"jsonrpc": "2.0", "id": 1, "result": {}}
        headers = build(era, "ping", session=session).headers
        messages["a response"] = Message(era, json.dumps(response).encode(), headers)
    return messages
