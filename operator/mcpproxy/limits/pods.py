"""Limits on what the operator takes from pods and the API server."""
