"""Proxies in Python programs, made from the parts of the runtime.

Reading order: `create` (the ways to make a proxy), `server` (what a proxy can do), `targets`
(names of servers → backends), `client` and `sessions` (which sessions are new or reused).
Knows nothing of Kubernetes; the runtime does not import it.
"""
