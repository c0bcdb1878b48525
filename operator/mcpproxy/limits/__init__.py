"""Limits on every resource that a client, backend, instance, pod or file can make the proxy hold.

Each limit is defined once, in the module named for the peer that it restricts, and the code that
enforces it takes the value from there. docs/security.md shows the same table.

Must not import anything of the project.
"""
