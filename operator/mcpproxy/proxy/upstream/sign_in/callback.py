"""The redirect of a browser after a sign-in, received at a loopback port (RFC 8252)."""

import asyncio
import secrets
import socket
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

from mcpproxy.limits.tokens import CALLBACK_HEAD, CALLBACK_TIME, CALLBACKS

PATH: Final = "/callback"
_LOOPBACK: Final = "127.0.0.1"
_PAGE: Final = (
    "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"
    "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{text}\n"
)
_DONE: Final = _PAGE.format(status="200 OK", text="mcpproxy has the response. Close this window.")
_OTHER: Final = _PAGE.format(status="400 Bad Request", text="This is not the expected response.")


@dataclass(frozen=True, slots=True)
class Redirect:
    """Parameters of the redirect."""

    state: str
    code: str = ""
    issuer: str | None = None
    error: str = ""


class CallbackPort:
    """A loopback port, bound from the registration of its URI until the redirect."""

    def __init__(self, port: int, host: str = _LOOPBACK) -> None:
        """Bind the port; 0 for any. `host` is that of the URI. Raise OSError."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((_LOOPBACK, port))
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        self.uri = f"http://{host}:{self.port}{PATH}"
        self._hosts = {f"{host}:{self.port}", f"{_LOOPBACK}:{self.port}"}
        self._server: asyncio.Server | None = None
        self._redirect: asyncio.Future[Redirect] | None = None
        self._state = ""
        self._open = 0

    async def listen(self, state: str) -> None:
        """Listen for the redirect with this state."""
        self._state = state
        self._redirect = asyncio.get_running_loop().create_future()
        self._server = await asyncio.start_server(
            self._serve, sock=self._socket, limit=CALLBACK_HEAD.value, backlog=CALLBACKS.value
        )

    async def redirect(self) -> Redirect:
        """Wait for the redirect."""
        assert self._redirect is not None
        return await self._redirect

    def close(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.close()
        self._socket.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > CALLBACKS.value:
                CALLBACKS.record()
                return
            async with asyncio.timeout(CALLBACK_TIME.value):
                head = await reader.readuntil(b"\r\n\r\n")
                redirect = self._read(head.decode("latin-1"))
                writer.write((_OTHER if redirect is None else _DONE).encode())
                await writer.drain()
            if redirect is not None and self._redirect is not None and not self._redirect.done():
                self._redirect.set_result(redirect)
        except asyncio.LimitOverrunError:
            CALLBACK_HEAD.record()
        except TimeoutError:
            CALLBACK_TIME.record()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._open -= 1
            writer.close()

    def _read(self, head: str) -> Redirect | None:
        """Return the redirect in the head of a request; None for any other request.

        Every web page can send requests to the port. Only the redirect has the state.
        """
        line, *fields = head.split("\r\n")
        words = line.split(" ")
        hosts = {f.partition(":")[2].strip().lower() for f in fields if f[:5].lower() == "host:"}
        if len(words) != 3 or words[0] != "GET" or not hosts or not hosts <= self._hosts:
            return None
        try:
            parts = urlsplit(words[1])
            query = parse_qs(parts.query, max_num_fields=32)
        except ValueError:
            return None
        values = {name: texts[0] for name, texts in query.items() if len(texts) == 1}
        state = values.get("state", "")
        if parts.path != PATH or not secrets.compare_digest(state.encode(), self._state.encode()):
            return None
        code, error = values.get("code", ""), values.get("error", "")
        return Redirect(state, code, values.get("iss"), error) if code or error else None
