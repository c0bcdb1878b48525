"""Kubernetes' own types, as far as an MCPProxy contains them. Knows nothing of MCPProxy."""
