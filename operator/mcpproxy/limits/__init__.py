"""Limits on every resource that a client, backend, instance, pod or file can make us hold.

Each limit is defined once, in the module named for the peer it holds back, and the code that
enforces it takes the value from there. docs/security.md shows the same table.

Imports nothing of the project.
"""
