"""Bytes of MCP: JSON-RPC envelopes, server-sent events, headers. No I/O, no state."""
