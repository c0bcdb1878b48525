"""A server of the library in other programs: ASGI applications, in-memory clients, FastMCP."""
