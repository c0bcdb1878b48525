"""Clients: HTTP and stdio, the legacy and the modern era."""
