"""Configuration of `mcpproxy run`, read from a URL, an MCPProxy or an `mcpServers` file."""
