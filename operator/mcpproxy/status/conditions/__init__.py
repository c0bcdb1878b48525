"""The conditions of an MCPProxy, one module for each group of checks. Pure."""
