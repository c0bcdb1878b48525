"""Configuration of the sign-in of `mcpproxy run` to backends."""
