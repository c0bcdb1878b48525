"""Constants of the load and the stub backend: revisions, tools, texts, and requests as bytes."""

from typing import Final, Literal

import msgspec

Era = Literal["legacy", "modern"]
Operation = Literal["echo", "large", "progress", "list", "initialize"]

LEGACY: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
PADDING: Final = b"0123456789abcdef" * 6400
"""100 KiB, which the tool `large` puts behind the text it was given."""
NOTIFICATIONS: Final = 100
"""Number of notifications that the tool `progress` sends in a call."""
TOOLS: Final = ("echo", "large", "progress")
"""The tools that do something; each takes the argument `text`."""

_META_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
_META_CLIENT: Final = "io.modelcontextprotocol/clientInfo"
_META_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
_CLIENT: Final = {"name": "bench", "version": "1"}
_METHODS: Final = {"list": "tools/list", "initialize": "initialize"}


class Requests:
    """HTTP requests of one client to one endpoint. Numbers are the JSON-RPC ids."""

    def __init__(self, host: str, path: str, era: Era, token: str = "") -> None:
        """`host` is the Host header, with the port; `token` is sent with every request."""
        credentials = f"authorization: Bearer {token}\r\n" if token else ""
        self._line = f"{path} HTTP/1.1\r\nhost: {host}\r\n{credentials}"
        self._era = era
        self.session: bytes | None = None
        self._heads: dict[tuple[str, str], bytes] = {}

    def operation(self, operation: Operation, number: int, tool: str) -> bytes:
        """The request of an operation; `tool` is the name behind this endpoint."""
        if operation == "initialize":
            return self.initialize(number)
        params: dict[str, object] = {}
        if operation != "list":
            params = {"name": tool, "arguments": {"text": text(number)}}
        if operation == "progress":
            params["_meta"] = {"progressToken": number}
        return self._post(_METHODS.get(operation, "tools/call"), number, params)

    def initialize(self, number: int = 0) -> bytes:
        """The first request of a legacy session."""
        params: dict[str, object]
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": _CLIENT}
        return self._post("initialize", number, params)

    def initialized(self) -> bytes:
        """The notification that ends a legacy handshake."""
        return self._post("notifications/initialized", None, {})

    def stream(self) -> bytes:
        """The GET that opens the stream of a legacy session."""
        head = f"GET {self._line}accept: text/event-stream\r\nmcp-protocol-version: {LEGACY}\r\n"
        return head.encode() + self._session_line() + b"\r\n"

    def delete(self) -> bytes:
        """The end of a legacy session."""
        head = f"DELETE {self._line}mcp-protocol-version: {LEGACY}\r\n"
        return head.encode() + self._session_line() + b"\r\n"

    def _post(self, method: str, number: int | None, params: dict[str, object]) -> bytes:
        message: dict[str, object] = {"jsonrpc": "2.0", "method": method, "params": params}
        if number is not None:
            message["id"] = number
        if self._era == "modern":
            own = params.get("_meta")
            params["_meta"] = {**_modern_meta(), **(own if isinstance(own, dict) else {})}
        body = msgspec.json.encode(message)
        head = self._head(method, str(params.get("name", "")))
        return b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body)

    def _head(self, method: str, name: str) -> bytes:
        result = self._heads.get((method, name))
        if result is None:
            result = self._heads[method, name] = self._built(method, name)
        return result

    def _built(self, method: str, name: str) -> bytes:
        lines = (
            f"POST {self._line}accept: application/json, text/event-stream\r\n"
            "content-type: application/json\r\n"
        )
        if self._era == "modern":
            lines += f"mcp-protocol-version: {MODERN}\r\nmcp-method: {method}\r\n"
            return (lines + (f"mcp-name: {name}\r\n" if name else "")).encode()
        if method == "initialize":
            return lines.encode()
        return f"{lines}mcp-protocol-version: {LEGACY}\r\n".encode() + self._session_line()

    def _session_line(self) -> bytes:
        return b"" if self.session is None else b"mcp-session-id: %s\r\n" % self.session


def text(number: int) -> str:
    """Return the text of the call of this number; no other call has the same."""
    return f"said in call {number}."


def _modern_meta() -> dict[str, object]:
    return {_META_VERSION: MODERN, _META_CLIENT: _CLIENT, _META_CAPABILITIES: {}}
