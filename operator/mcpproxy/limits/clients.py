"""Limits on clients of the proxy: connections, requests, sessions and what they leave open."""
