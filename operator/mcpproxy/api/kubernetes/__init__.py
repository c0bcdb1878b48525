"""Kubernetes types that an MCPProxy contains. Must not know MCPProxy."""
