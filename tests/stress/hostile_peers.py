"""The transports of such backends: streamable HTTP of both eras, HTTP+SSE, standard streams."""

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from starlette.types import Receive, Scope, Send

from tests.differential.backend import LEGACY, MODERN, Backend, Call, respond
from tests.proxy.byhand import served
from tests.proxy.runtime.serving import serving
from tests.stress.hostile import KINDS, MODES, TOOL, Director, Script, spelt

BRIDGE = """
import os, socket, sys, threading
peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def inward():
    while data := peer.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=inward, daemon=True).start()
while data := os.read(0, 65536):
    peer.sendall(data)
"""
"""A program whose standard streams are a connection to the test."""


class HttpTurn:
    """A call over streamable HTTP: what names no request comes on the stream of a GET."""

    may_overtake = True

    def __init__(self, backend: Backend, call: Call) -> None:
        self.message = call.message
        self._backend = backend
        self._call = call

    async def emit(self, message: dict[str, Any]) -> None:
        await self._call.emit(spelt(message))

    async def aside(self, message: dict[str, Any]) -> None:
        for session, stream in self._backend.streams:
            if session and session == self._call.session:
                stream.put_nowait(spelt(message))

    async def ask(self, request: dict[str, Any], *, aside: bool) -> dict[str, Any]:
        if not (aside and any(s == self._call.session for s, _ in self._backend.streams if s)):
            return (await self._call.ask(lambda own: spelt({"id": own, **request}))).message
        own = f"aside-{next(self._backend.numbers)}"
        waiting = self._backend.waiting[own] = asyncio.get_running_loop().create_future()
        await self.aside({"id": own, **request})
        result: dict[str, Any] = (await waiting).message
        return result

    async def finish(self, result: dict[str, Any]) -> None:
        await self._call.finish(spelt({"id": self.message["id"], "result": result}))


class Session:
    """A session over one stream each way. Ids of both sides are the same small numbers."""

    def __init__(self, script: Script, put: Callable[[str], Awaitable[None]]) -> None:
        self.put = put
        self.numbers = itertools.count(1)
        self.waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()

    async def received(self, message: dict[str, Any]) -> None:
        """A message of the proxy."""
        method = message.get("method")
        if method is None:
            waiting = self.waiting.pop(message["id"], None)
            # The call that asked may have been cancelled meanwhile.
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        elif method == "tools/call":
            task = asyncio.create_task(self._script.answer(PipeTurn(self, message)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif "id" in message and method != "subscriptions/listen":
            await self.put(spelt({"id": message["id"], **self._simple(method)}))

    def _simple(self, method: str) -> dict[str, Any]:
        capabilities: dict[str, Any] = {"tools": {}, "logging": {}}
        info = {"name": self._script.name, "version": "1"}
        legacy: dict[str, Any] = {"capabilities": capabilities, "serverInfo": info}
        modern = {**legacy, "supportedVersions": [MODERN], "resultType": "complete"}
        known: dict[str, Any] = {
            "tools/list": {"tools": [TOOL]},
            "ping": {},
            "logging/setLevel": {},
        }
        if self._script.era == "legacy":
            known["initialize"] = {**legacy, "protocolVersion": LEGACY}
        else:
            known["server/discover"] = modern
        if method in known:
            return {"result": known[method]}
        return {"error": {"code": -32601, "message": "unknown"}}

    def close(self) -> None:
        """The proxy has gone."""
        for task in self._tasks:
            task.cancel()


class PipeTurn:
    """A call in such a session."""

    may_overtake = False

    def __init__(self, session: Session, message: dict[str, Any]) -> None:
        self.message = message
        self._session = session

    async def emit(self, message: dict[str, Any]) -> None:
        await self._session.put(spelt(message))

    aside = emit

    async def ask(self, request: dict[str, Any], *, aside: bool) -> dict[str, Any]:
        own = next(self._session.numbers)
        waiting = self._session.waiting[own] = asyncio.get_running_loop().create_future()
        await self.emit({"id": own, **request})
        result: dict[str, Any] = await waiting
        return result

    async def finish(self, result: dict[str, Any]) -> None:
        """A cancelled request may get two responses."""
        for _ in range(2):
            await self.emit({"id": self.message["id"], "result": result})


class Sse:
    """An HTTP+SSE server (2024-11-05)."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._sessions: dict[bytes, Session] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "GET":
            await self._stream(receive, send)
            return
        session = self._sessions.get(scope["query_string"])
        if session is None:
            await respond(send, 405)
            return
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        await respond(send, 202)
        await session.received(json.loads(body))

    async def _stream(self, receive: Receive, send: Send) -> None:
        name = b"s=%d" % len(self._sessions)

        async def put(text: str) -> None:
            event = b"event: message\ndata: %b\n\n" % text.encode()
            await send({"type": "http.response.body", "body": event, "more_body": True})

        session = self._sessions[name] = Session(self._script, put)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        first = b"event: endpoint\ndata: /mcp?%b\n\n" % name
        await send({"type": "http.response.body", "body": first, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        session.close()


@asynccontextmanager
async def _piped(script: Script) -> AsyncIterator[dict[str, Any]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def put(text: str) -> None:
            writer.write(text.encode() + b"\n")

        session = Session(script, put)
        try:
            while line := await reader.readline():
                await session.received(json.loads(line))
        finally:
            session.close()

    async with served(serve) as port:
        yield {"stdio": {"command": sys.executable, "args": ["-ISc", BRIDGE, str(port)]}}


@asynccontextmanager
async def _served(kind: str, script: Script) -> AsyncIterator[dict[str, Any]]:
    if kind in ("stdio", "pipe"):
        async with _piped(script) as spec:
            yield spec
        return
    if kind == "sse":
        async with serving(Sse(script)) as base:
            yield {"url": f"{base}/mcp", "transport": "sse"}
        return
    backend = Backend(script.era, _unused, {"tools": [json.dumps(TOOL)]}, kind == "plain")

    async def answer(call: Call) -> None:
        # Who waits for an answer when the server is stopped waits in vain.
        with contextlib.suppress(asyncio.CancelledError):
            await script.answer(HttpTurn(backend, call))

    backend.answer = answer
    async with serving(backend) as base:
        yield {"url": f"{base}/mcp"}


async def _unused(call: Call) -> None:
    raise AssertionError


@asynccontextmanager
async def backends(
    director: Director, modes: tuple[str, ...] = MODES
) -> AsyncIterator[tuple[list[dict[str, Any]], dict[str, Script]]]:
    """One for each transport, era and mode: how the proxy reaches them, and what they do."""
    async with AsyncExitStack() as stack:
        specs, scripts = [], {}
        for kind, mode in itertools.product(KINDS, modes):
            name = f"{kind}-{mode.lower()}"
            script = scripts[name] = Script(name, KINDS[kind], director)
            spec = await stack.enter_async_context(_served(kind, script))
            session: dict[str, Any] = {"mode": mode}
            if mode == "Reused":
                session["stateless"] = True
            specs.append({"name": name, "session": session, **spec})
        yield specs, scripts
