"""A server of many backends over HTTP and for programs, each with its misbehaviour."""

import asyncio
import contextlib
import itertools
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.stress.misbehaving_texts import JSON, OLD, dump
from tests.stress.misbehaviours import LEGACY, MODERN, Http, Misbehaviour, place, respond

LOST_AFTER: Final = 4
"""Requests after which a backend that loses sessions loses one."""
SLOW: Final = 4.0
"""Seconds that a slow program takes to start."""
_CHANGED: Final = b'{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged",'


@dataclass
class Backend:
    """One backend: its misbehaviour, and the state that its sessions have."""

    misbehaviour: Misbehaviour
    transport: str
    era: str
    asked: Counter[str] = field(default_factory=Counter)
    """Requests and notifications by method."""
    sessions: dict[str, int] = field(default_factory=dict)
    """Requests by session."""
    initialized: bool = False
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    streams: dict[str, asyncio.StreamWriter] = field(default_factory=dict)
    """Streams of HTTP+SSE by session."""

    def respond(self, message: dict[str, Any], session: str, cookie: str) -> Http:
        """The response to a message that was posted."""
        method = message.get("method", "")
        odd = self.misbehaviour
        fixed = odd.fixed.get(method)
        if isinstance(fixed, Http):
            return fixed
        if method == "notifications/initialized":
            self.initialized = True
        if method == "subscriptions/listen":
            return self._listening(message)
        refused = self._refused(message, session, cookie)
        if refused:
            return refused
        if "id" not in message or not method:
            return Http(202, "text/plain")
        if self.transport == JSON:
            response = Http(body=b"\n".join(respond(odd, self.era, message)))
        else:
            blocks = b"".join(self.block(text, method) for text in self._texts(message))
            response = Http(200, "text/event-stream", blocks)
        if odd.http and place(method) in odd.places:
            response = odd.http(response)
        return replace(response, fields=(*response.fields, *self._opened(method)))

    def _texts(self, message: dict[str, Any]) -> list[bytes]:
        return respond(self.misbehaviour, self.era, message)

    def block(self, text: bytes, method: str) -> bytes:
        """A message as an event."""
        odd = self.misbehaviour
        if odd.block and place(method) in odd.places:
            return odd.block(text)
        return b"event: message\ndata: %b\n\n" % text

    def _listening(self, message: dict[str, Any]) -> Http:
        if self.era == LEGACY:
            return Http(body=b"".join(self._texts(message)))
        accepted = {"notifications": message["params"]["notifications"]}
        text = _CHANGED + b'"params":%b}' % dump(accepted)
        return Http(200, "text/event-stream", b"data: %b\n\n" % text, end="stall")

    def _opened(self, method: str) -> tuple[str, ...]:
        kind = self.misbehaviour.session
        if self.era == MODERN or method != "initialize" or kind in ("none", "strict"):
            return ()
        session = f"s{next(self.numbers)}"
        self.sessions[session] = 0
        cookie = (f"Set-Cookie: node={session}; Path=/",) if kind == "cookie" else ()
        return (f"Mcp-Session-Id: {session}", *cookie)

    def _refused(self, message: dict[str, Any], session: str, cookie: str) -> Http | None:
        """The refusal of a message whose session is missing, lost or at another replica."""
        kind, method = self.misbehaviour.session, message.get("method", "")
        if self.era == MODERN or place(method) == "opening":
            return None
        if kind in ("none", "strict"):
            early = kind == "strict" and not self.initialized
            return _refusal(message, 400, "not initialized") if early else None
        if session not in self.sessions:
            lost = kind.startswith("lost-")
            return _refusal(message, int(kind[5:]) if lost else 404, "no such session")
        if kind == "cookie" and f"node={session}" not in cookie:
            return _refusal(message, 404, "no such session at this replica")
        self.sessions[session] += 1
        if kind.startswith("lost-") and self.sessions[session] > LOST_AFTER:
            del self.sessions[session]
            return _refusal(message, int(kind[5:]), "no such session")
        return None


def _refusal(message: dict[str, Any], status: int, text: str) -> Http:
    error = {"code": -32000, "message": text}
    return Http(status, body=dump({"jsonrpc": "2.0", "id": message.get("id"), "error": error}))


class Backends:
    """Backends by their paths."""

    def __init__(self) -> None:
        self.found: dict[str, Backend] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            line, *fields = head.decode("latin-1").split("\r\n")
            method, path, _ = line.split(" ")
            named = {k.lower(): v.strip() for k, _, v in (f.partition(":") for f in fields)}
            body = await reader.readexactly(int(named.get("content-length", 0)))
            backend = self.found.get(path.partition("?")[0].split("/")[1])
            if backend is None:
                await _send(reader, writer, Http(404, "text/plain"))
            elif method == "POST":
                await self._posted(backend, path, named, json.loads(body), (reader, writer))
            elif method == "GET":
                await self._got(backend, path, reader, writer)
            else:
                await _send(reader, writer, Http(405, "text/plain"))

    async def _posted(
        self,
        backend: Backend,
        path: str,
        fields: dict[str, str],
        message: dict[str, Any],
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        method = message.get("method", "")
        backend.asked[method or "response"] += 1
        if backend.transport != OLD:
            session, cookie = fields.get("mcp-session-id", ""), fields.get("cookie", "")
            await _send(*connection, backend.respond(message, session, cookie))
            return
        stream = backend.streams.get(path.partition("?")[2])
        if stream is None:
            await _send(*connection, Http(405, "text/plain", b"no"))
            return
        await _send(*connection, Http(202, "text/plain", b"Accepted"))
        if "id" in message and method:
            odd = backend.misbehaviour
            for text in respond(odd, backend.era, message):
                stream.write(backend.block(text, method))

    async def _got(
        self,
        backend: Backend,
        path: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        backend.asked["GET"] += 1
        if backend.transport != OLD:
            fixed = backend.misbehaviour.fixed.get("GET", Http(405, "text/plain"))
            assert isinstance(fixed, Http)
            await _send(reader, writer, fixed)
            return
        session = f"s{next(backend.numbers)}"
        backend.streams[session] = writer
        target = f"{path.partition('?')[0]}?{session}".encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        writer.write(backend.misbehaviour.prelude)
        writer.write(b"event: endpoint\ndata: %b\n\n" % target)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        del backend.streams[session]
        raise ConnectionResetError


async def _send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, response: Http) -> None:
    """Send a response. Raises ConnectionResetError where the connection ends with it."""
    if response.end == "drop":
        writer.close()
        raise ConnectionResetError
    streamed = response.kind.lower().startswith("text/event-stream")
    endless = streamed and response.end == "stall"
    if response.end != "stall" or streamed:
        lines = [f"HTTP/1.1 {response.status} X", *response.fields]
        if response.kind:
            lines.append(f"Content-Type: {response.kind}")
        if not endless and response.status != 204:
            lines.append(f"Content-Length: {len(response.body)}")
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + response.body)
        await writer.drain()
    if response.end == "stall":
        await reader.read()
        raise ConnectionResetError
    if response.end == "close":
        writer.close()
        raise ConnectionResetError


# Programs on standard streams

PROGRAM: Final = """
import _socket, os, select, sys
relayed = _socket.socket()
relayed.connect(("127.0.0.1", int(sys.argv[1])))
relayed.sendall(sys.argv[2].encode() + b"\\n")
while True:
    for ready in select.select([0, relayed], [], [])[0]:
        data = os.read(0, 65536) if ready == 0 else relayed.recv(65536)
        if not data:
            sys.exit()
        if ready == 0:
            relayed.sendall(data)
        while ready and data:
            data = data[os.write(1, data):]
"""
"""Relays its standard streams to the backend that its second argument names."""


class Programs:
    """The other ends of programs."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one program to its end."""
        backend = self._backends.found[(await reader.readline()).decode().strip()]
        odd = backend.misbehaviour
        backend.asked["start"] += 1
        if odd.life == "slow":
            await asyncio.sleep(SLOW)
        writer.write(odd.prelude)
        while line := await reader.readline():
            request = json.loads(line)
            method = request.get("method", "")
            backend.asked[method] += 1
            if "id" not in request or not method:
                continue
            probed = method == "server/discover" and backend.era == LEGACY
            if probed and odd.life == "probe":
                break
            if probed and odd.life == "silent":
                continue
            for text in respond(odd, backend.era, request):
                writer.write(text + b"\n")
            if odd.life == "once" and method == "tools/call":
                break
        await writer.drain()
        writer.close()
