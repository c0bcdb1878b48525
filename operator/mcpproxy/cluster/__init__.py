"""The Kubernetes API server, as the operator uses it. Knows no MCPProxy spec."""
