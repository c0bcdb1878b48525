"""The ASGI application of a server, which FastAPI and Starlette mount."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from mcpproxy.proxy.embed import asgi

if TYPE_CHECKING:
    import asyncio

    NewConnection = Callable[[], asyncio.Protocol]


class AsgiApp:
    """An ASGI application. It serves while its `lifespan` is entered.

    An ASGI server enters the lifespan of the application that it serves, but not those of mounted
    applications: pass `lifespan` to the application that mounts this one.
    """

    def __init__(
        self, serving: "Callable[[], AbstractAsyncContextManager[NewConnection]]", path: str
    ) -> None:
        """`serving` starts and stops the server; `path` is that of the endpoint."""
        self.path = path
        self._serving = serving
        self._connect: NewConnection | None = None

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """Run the server. `app` is the application that mounts this one.

        Raise RuntimeError if the server is already running.
        """
        if self._connect is not None:
            raise RuntimeError(
                "the application is already running; enter its lifespan once, in the application"
                " that the ASGI server serves"
            )
        async with self._serving() as connect:
            self._connect = connect
            try:
                yield
            finally:
                self._connect = None

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Serve one request, or the lifespan. Raise RuntimeError outside of the lifespan."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif self._connect is None:
            raise RuntimeError(
                "the proxy is not running; pass the lifespan of this application to the application"
                " that mounts it, such as FastAPI(lifespan=app.lifespan)"
            )
        else:
            await asgi.serve_request(self._connect(), scope, receive, send)

    async def _run_lifespan(self, receive: asgi.Receive, send: asgi.Send) -> None:
        phase = "startup"
        await receive()
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
        except Exception as error:
            await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.shutdown.complete"})
