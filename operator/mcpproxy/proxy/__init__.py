"""The proxy runtime: a transparent MCP relay for both protocol eras.

Reading order: `runtime` (what is put together), `core.exchange` (a request on its way),
`front` (clients), `back` (backends), `wire` (bytes).
"""
