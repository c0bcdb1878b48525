"""Models that decide who may use an MCPProxy, and for what."""
