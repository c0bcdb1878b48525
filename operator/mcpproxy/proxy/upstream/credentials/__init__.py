"""Tokens with which the proxy calls backends. Knows nothing of MCP."""
