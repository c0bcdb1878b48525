"""The client-facing side: the MCP endpoint over HTTP and over standard streams.

Reaches backends only through `proxy.gateway`.
"""
