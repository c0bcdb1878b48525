"""An MCP server on standard streams that tells its variable TOKEN. Given to `python -c`."""

import json
import os
import sys
from typing import Any


def say(own: Any, result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": own, "result": result}) + "\n")
    sys.stdout.flush()


for line in sys.stdin:
    message = json.loads(line)
    method, own = message.get("method"), message.get("id")
    if method == "initialize":
        info = {"name": "variable", "version": "1"}
        about = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}}
        say(own, {**about, "serverInfo": info})
    elif method == "tools/list":
        say(own, {"tools": [{"name": "tell", "inputSchema": {"type": "object"}}]})
    elif method == "tools/call":
        say(own, {"content": [{"type": "text", "text": os.environ["TOKEN"]}]})
    elif method == "ping":
        say(own, {})
    elif own is not None:
        unknown = {"code": -32601, "message": "unknown"}
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": own, "error": unknown}) + "\n")
        sys.stdout.flush()
