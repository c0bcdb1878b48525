"""Upstream sessions over each transport: Streamable HTTP, HTTP+SSE, stdio, the SDK."""
