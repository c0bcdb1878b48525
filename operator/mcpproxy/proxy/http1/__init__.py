"""HTTP/1.1 over asyncio: a server and a client."""
