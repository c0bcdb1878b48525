"""The proxy runtime: a transparent MCP relay for both protocol eras.

Reading order: `runtime` (the parts and how they are connected), `core.exchange` (one request),
`downstream` (clients), `gateway` (routing), `upstream` (backends), `protocol` (bytes).
Knows the contract and nothing of Kubernetes.
"""
