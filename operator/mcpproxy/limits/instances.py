"""Limits on what instances of one proxy, and workers of one instance, send to one another."""
