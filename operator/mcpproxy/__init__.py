"""MCP proxies as Kubernetes resources.

Reading order: `api` (the contract), `desired` (MCPProxy → manifests), `reconcile.loop` (the
operator's main path), `handlers` (what wakes it), `proxy.runtime` (what the pods run).
"""
