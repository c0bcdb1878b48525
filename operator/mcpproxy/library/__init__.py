"""Proxies in Python programs, built from the parts of the runtime.

Reading order: `create` (construction of a proxy), `server` (features of a proxy), `targets` (names
of servers → backends), `client` and `sessions` (new and reused sessions). Must not know Kubernetes,
and the runtime must not import it.
"""
