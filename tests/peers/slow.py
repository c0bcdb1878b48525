"""A server that takes its time to start: it loads a large model, say, and speaks MCP then."""

import sys
import time

from mcp.server import MCPServer

server = MCPServer("slow")
calls: list[int] = []


@server.tool()
def count() -> int:
    """Return the number of calls of this process."""
    calls.append(1)
    return len(calls)


if __name__ == "__main__":
    time.sleep(float(sys.argv[1]))
    server.run()
