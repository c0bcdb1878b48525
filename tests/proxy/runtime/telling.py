"""A server on standard streams that tells how it was started."""

import json
import os
import sys
from pathlib import Path

_NAMED = ("SECRET", "CONFIG", "PLAIN")


def main() -> None:
    """Serve one client."""
    told = {
        "args": sys.argv[1:],
        "cwd": str(Path.cwd()),
        "env": {name: os.environ[name] for name in _NAMED if name in os.environ},
    }
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        results = {
            "initialize": {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "telling", "version": "1"},
            },
            "ping": {},
            "tools/list": {"tools": [{"name": "how", "inputSchema": {"type": "object"}}]},
            "tools/call": {"content": [], "structuredContent": told},
        }
        result = results.get(message["method"])
        unknown = {"code": -32601, "message": "unknown"}
        answer = {"error": unknown} if result is None else {"result": result}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
