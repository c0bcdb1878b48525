"""Measurement of the operator with many MCPProxies, at an API server without machines."""
