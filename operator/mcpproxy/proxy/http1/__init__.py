"""HTTP/1.1 over asyncio: a server and a client.

The package must not know MCP: neither its messages, headers and sessions nor any other package of
the runtime, except timers and fair shares. The application supplies the bodies of error responses
and keeps its own data in `RequestHead.context`. The client raises the errors of `errors.py`.
"""
