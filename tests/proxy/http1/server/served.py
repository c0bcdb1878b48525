"""The endpoint's HTTP server with a small app, and raw clients of it."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.server.connection import ServerConnection
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import Headers, ResponseWriter
from mcpproxy.proxy.http1.server.server import HttpServer
from mcpproxy.proxy.http1.server.state import ConnectionAcceptor
from tests.proxy.runtime.waiting import soon

Handler = Callable[[Request, ResponseWriter], Awaitable[None]]
BOUND = 10.0


def request(path: str = "/", body: bytes = b"", *lines: str, method: str = "POST") -> bytes:
    """The bytes of a request."""
    head = [f"{method} {path} HTTP/1.1", "Host: h", *lines]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def chunked(body: bytes, size: int) -> bytes:
    """A body in chunks of this size."""
    parts = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


class App:
    """Answers with what was asked; paths may have handlers of their own."""

    def __init__(self) -> None:
        self.served: list[Request] = []
        self.failing: dict[str, Callable[[Any, Any], None]] = {}
        """By path: raises while the head is looked at."""
        self.at_once_handlers: dict[str, Callable[[Request, ResponseWriter], None]] = {}
        self.handlers: dict[str, Handler] = {}

    def response_headers(self, inbound: Request) -> Headers:
        return ()

    def error_body(self, error: HttpError) -> bytes:
        return json.dumps({"error": {"message": str(error)}}).encode()

    def screened(self, inbound: Request) -> HttpError | None:
        if inbound.path in self.failing:
            self.failing[inbound.path](inbound, None)
        return HttpError(404, "not here") if inbound.path == "/unwanted" else None

    def at_once(self, inbound: Request, reply: ResponseWriter) -> bool:
        self.served.append(inbound)
        if inbound.path in self.handlers:
            return False
        if inbound.path in self.at_once_handlers:
            self.at_once_handlers[inbound.path](inbound, reply)
            return True
        headers = {
            name.decode(): value.decode("latin-1") for name, value in inbound.headers.items()
        }
        body = inbound.body.decode("latin-1")
        result = {"method": inbound.method, "path": inbound.path, "headers": headers, "body": body}
        reply.complete(json.dumps(result).encode())
        return True

    def serve(self, inbound: Request, reply: ResponseWriter) -> Awaitable[None]:
        return self.handlers[inbound.path](inbound, reply)


@dataclass
class Answer:
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def echo(self) -> Any:
        """Return the request as the app received it."""
        return json.loads(self.body)


class Client:
    """A connection on which anything can be sent; every wait has a bound."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send, and wait until it is on its way."""
        self.writer.write(data)
        async with asyncio.timeout(BOUND):
            await self.writer.drain()

    async def line(self) -> bytes:
        """The next line."""
        async with asyncio.timeout(BOUND):
            return await self.reader.readline()

    async def head(self) -> Answer:
        """The head of the next answer."""
        status = int((await self.line()).split()[1])
        headers = {}
        while (line := await self.line()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            headers[name] = value.strip()
        return Answer(status, headers, b"")

    async def chunk(self) -> bytes:
        """The next chunk of a stream; empty at its proper end."""
        size = int(await self.line(), 16)
        async with asyncio.timeout(BOUND):
            return (await self.reader.readexactly(size + 2))[:-2]

    async def answer(self) -> Answer:
        """The next answer."""
        result = await self.head()
        async with asyncio.timeout(BOUND):
            if "content-length" in result.headers:
                result.body = await self.reader.readexactly(int(result.headers["content-length"]))
        while result.headers.get("transfer-encoding") == "chunked" and (part := await self.chunk()):
            result.body += part
        return result

    async def ask(self, *args: Any, **named: Any) -> Answer:
        """The answer to a request."""
        await self.send(request(*args, **named))
        return await self.answer()

    async def rest(self) -> bytes:
        """All that comes until the server closes. Raises ConnectionError where it breaks off."""
        async with asyncio.timeout(BOUND):
            return await self.reader.read()

    async def broken(self) -> bool:
        """Return True if the connection ends without another byte."""
        try:
            return await self.rest() == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        """Close."""
        self.writer.close()

    def reset(self) -> None:
        """Break the connection off."""
        self.writer.transport.abort()


class Served:
    """A server that runs."""

    def __init__(self) -> None:
        self.app = App()
        self.clients: list[Client] = []
        self.problems: list[Any] = []
        self.port = 0

    async def start(
        self,
        host: str = "127.0.0.1",
        acceptor_at: Callable[[int], ConnectionAcceptor] | None = None,
    ) -> None:
        """Accept connections; `acceptor_at` makes the acceptor of the server at a port."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.problems.append(context))
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, 0), family=family)
        listening.setblocking(False)
        self.port = listening.getsockname()[1]
        self.server = HttpServer(self.app, acceptor_at and acceptor_at(self.port))
        await self.server.start([listening])

    async def stop(self) -> None:
        """Close; whatever was asked must have left nothing behind."""
        for client in self.clients:
            client.close()
        try:
            await soon(lambda: not self.server.connections, "connections to end")
        finally:
            await self.server.drain(0)
        await soon(lambda: len(asyncio.all_tasks()) == 1, "tasks to end")
        self.app.served.clear()
        assert self.server.held == 0
        assert not self.problems

    async def client(self, buffer: int | None = None) -> Client:
        """A client; `buffer` is what the kernel takes for it."""
        sock = socket.socket()
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        reader, writer = await asyncio.open_connection(sock=sock, limit=2**16)
        result = Client(reader, writer)
        self.clients.append(result)
        return result

    def sweep(self, times: int = 1) -> None:
        """Let so many times five seconds pass."""
        for _ in range(times):
            for connection in list(self.server.connections):
                connection.sweep()

    def connection(self) -> ServerConnection:
        """The only connection."""
        (result,) = self.server.connections
        return result


class Gate:
    """A handler that waits until it may go on."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, inbound: Request, reply: ResponseWriter) -> None:
        """Answer once opened."""
        self.entered.set()
        try:
            await self.opened.wait()
            await reply.finish(b'"late"')
        finally:
            self.left.set()
