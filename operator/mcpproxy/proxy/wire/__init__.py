"""Bytes in, bytes out: JSON-RPC envelopes, server-sent events, MCP headers. No I/O, no state."""
