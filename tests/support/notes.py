"""A small server on standard streams, in both eras: samples/servers/notes.py without the SDK.

A process of the SDK takes most of a second to start. `python tests/support/notes.py`
"""

import json
import sys
from collections.abc import Callable
from typing import Any

_TITLE = {"type": "object", "properties": {"title": {"type": "string"}}}
_TOOLS = [{"name": name, "inputSchema": _TITLE} for name in ("add_note", "search_notes")]
_ABOUT = {"name": "notes", "version": "1.0.0"}
_CACHE = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}


class Notes:
    """The notes of one process."""

    def __init__(self) -> None:
        self._notes = dict.fromkeys(("welcome", "shopping", "reading", "ideas"), "")

    def respond(self, message: dict[str, Any]) -> dict[str, Any]:
        """The response to a request."""
        results: dict[str, Callable[[], dict[str, Any]]] = {
            "initialize": lambda: {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": _ABOUT,
            },
            "server/discover": lambda: {
                "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {}},
                "serverInfo": _ABOUT,
                **_CACHE,
            },
            "ping": dict,
            "tools/list": lambda: {"tools": _TOOLS, **_CACHE},
            "tools/call": lambda: self._call(message["params"]),
        }
        result = results.get(message["method"])
        if result is None:
            return {"error": {"code": -32601, "message": "Method not found"}}
        return {"result": result()}

    def _call(self, params: dict[str, Any]) -> dict[str, Any]:
        arguments = params["arguments"]
        if params["name"] == "add_note":
            self._notes[arguments["title"]] = arguments["text"]
            text = f"noted: {arguments['title']} ({len(self._notes)} notes)"
        else:
            text = "\n".join(title for title in self._notes if arguments["text"] in title)
        return {"content": [{"type": "text", "text": text}], "resultType": "complete"}


def main() -> None:
    """Serve one client until it closes its end."""
    notes = Notes()
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            response = {"jsonrpc": "2.0", "id": message["id"], **notes.respond(message)}
            print(json.dumps(response), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
