"""Client of a Valkey or Redis server: one connection, requests in a row (RESP 2)."""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from mcpproxy.limits.clients import STORE_ANSWER, STORE_REQUESTS

Reply = int | bytes | None | list["Reply"]
MAX_ITEMS: Final = 64
"""Maximum number of items in an array of a reply."""
MAX_DEPTH: Final = 2


class StoreError(Exception):
    """The server refused a request, or its reply is malformed."""


class RespClient:
    """Connection to one server, opened with the next request after it was lost."""

    def __init__(
        self,
        host: str,
        port: int,
        tls: Callable[[], ssl.SSLContext | None],
        password: Callable[[], str | None],
    ) -> None:
        self._host, self._port = host, port
        self._tls, self._password = tls, password
        self._writer: asyncio.StreamWriter | None = None
        self._requests = 0
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    async def request(self, *parts: str) -> Reply:
        """Send a command and return its reply. Raise OSError or StoreError."""
        if self._requests >= STORE_REQUESTS.value:
            STORE_REQUESTS.record()
            raise StoreError("too many requests wait for the server")
        self._requests += 1
        try:
            async with self._opening:
                if self._writer is None:
                    await self._open()
            return await self._send(parts)
        except asyncio.CancelledError:
            # A server that does not answer in time may never answer on this connection.
            self._close(ConnectionError("the server did not answer another request in time"))
            raise
        finally:
            self._requests -= 1

    async def _open(self) -> None:
        tls = self._tls()
        reader, writer = await asyncio.open_connection(
            self._host,
            self._port,
            ssl=tls,
            server_hostname=self._host if tls else None,
            limit=STORE_ANSWER.value,
        )
        self._writer = writer
        self._reading = asyncio.get_running_loop().create_task(self._read(reader, writer))
        password = self._password()
        if password is not None:
            try:
                await self._send(("AUTH", password))
            except StoreError:
                self._close(StoreError("the server does not accept the password"))
                raise

    async def _send(self, parts: Sequence[str]) -> Reply:
        writer = self._writer
        if writer is None:
            raise ConnectionError("the connection to the server was lost")
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
        lines = [b"*%d\r\n" % len(encoded)]
        lines += [b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded]
        writer.write(b"".join(lines))
        return await answer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        error: Exception = ConnectionError("the server closed the connection")
        try:
            while True:
                try:
                    reply: Reply | StoreError = await _reply(reader, 0)
                except StoreRefusal as refusal:
                    reply = StoreError(str(refusal))
                if not self._waiting:
                    raise StoreError("the server sent a reply to no request")
                answer = self._waiting.popleft()
                if answer.done():
                    continue
                if isinstance(reply, StoreError):
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)
        except (OSError, StoreError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as e:
            error = e if isinstance(e, StoreError | OSError) else error
        except ValueError:
            error = StoreError("the server's reply is malformed")
        finally:
            if self._writer is writer:
                self._close(error)
            writer.close()

    def _close(self, error: Exception) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(error)
                # A request that was abandoned reads no result.
                answer.exception()

    async def close(self) -> None:
        """Close the connection."""
        self._close(ConnectionError("the connection was closed"))
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading


class StoreRefusal(Exception):
    """An error reply of the server to one request."""


async def _reply(reader: asyncio.StreamReader, depth: int) -> Reply:
    line = await reader.readuntil(b"\r\n")
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest
    if kind == b"-":
        raise StoreRefusal(rest[:200].decode("utf-8", "replace"))
    if kind == b":":
        return int(rest)
    if kind == b"$":
        size = int(rest)
        if size < 0:
            return None
        if size > STORE_ANSWER.value:
            STORE_ANSWER.record()
            raise StoreError("the server's reply is too large")
        return (await reader.readexactly(size + 2))[:-2]
    if kind == b"*" and depth < MAX_DEPTH:
        count = int(rest)
        if count > MAX_ITEMS:
            raise StoreError("the server's reply has too many items")
        return [await _reply(reader, depth + 1) for _ in range(count)]
    raise StoreError("the server does not speak RESP")
