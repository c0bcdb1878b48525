"""Checks of an MCP server as an OAuth 2.0 resource server; README.md says how to run them.

Nothing here knows the server under test: it is reached over HTTP alone.
"""
