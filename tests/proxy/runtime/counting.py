"""A stateful server of the legacy era: a counter for each session."""

from typing import Any

from mcp.server.mcpserver import Context, MCPServer

from tests.proxy.runtime.serving import Gate


class Counter:
    """Counts for each session; legacy only."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        server = MCPServer("counter", version="1.0", log_level="WARNING")

        @server.tool()
        def increment(ctx: Context[Any]) -> int:
            """One more in this session."""
            session = (ctx.headers or {})["mcp-session-id"]
            self.counts[session] = self.counts.get(session, 0) + 1
            return self.counts[session]

        self.gate = Gate(server.streamable_http_app(), "legacy")

    @property
    def deleted(self) -> int:
        """Number of sessions that the proxy ended."""
        return sum(request.method == "DELETE" for request in self.gate.seen)
