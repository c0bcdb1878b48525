"""Reports that pods stream at `/status?watch`. Knows no spec and no status of an MCPProxy."""
