"""Client-facing side: the MCP endpoint over HTTP and over standard streams.

It reaches backends only through `proxy.gateway`.
"""
