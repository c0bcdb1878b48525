"""Backends that serve many clients at once and say everything at the worst moment.

Each call has a secret. All that is said about it holds the secret, so that whoever gets to see it
can tell whether it is its own. What a call does, and when, follows from a seed.
"""

import asyncio
import contextlib
import itertools
import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

from tests.differential.backend import LEGACY, MODERN, Backend, Call, respond
from tests.proxy.byhand import served
from tests.proxy.runtime.serving import serving

TOOL = {"name": "talk", "inputSchema": {"type": "object"}}
SECRET = re.compile(r"secret-of-(\w+)-(\d+)")
MODES = ("Isolated", "PerClient", "Reused")
KINDS = {
    "http": "legacy",
    "plain": "legacy",
    "modern": "modern",
    "sse": "legacy",
    "stdio": "legacy",
    "pipe": "modern",
}
"""Transport → era of its backend; `plain` keeps no sessions."""
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


class Director:
    """Decides who goes on next: each step of each call waits for its turn."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.started: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        """Secret → set once its call runs."""
        self._waiting: list[asyncio.Future[None]] = []
        self._driver = asyncio.create_task(self._drive())

    async def turn(self) -> None:
        """Wait for it."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    async def _drive(self) -> None:
        while True:
            # Now and then a crowd gathers, so that what happens next happens at once.
            crowd, patience = self.random.choice((1, 1, 3, 8)), 10
            while len(self._waiting) < crowd and patience:
                patience -= 1
                await asyncio.sleep(0)
            self.random.shuffle(self._waiting)
            for waiting in self._waiting[:crowd]:
                if not waiting.done():
                    waiting.set_result(None)
            del self._waiting[:crowd]
            await asyncio.sleep(0 if self._waiting else 0.001)

    async def close(self) -> None:
        """Nobody goes on."""
        self._driver.cancel()
        await asyncio.gather(self._driver, return_exceptions=True)


class Turn(Protocol):
    """One call as a transport sees it."""

    message: dict[str, Any]
    may_overtake: bool
    """Whether its response can arrive before what was said before."""

    async def emit(self, message: dict[str, Any]) -> None:
        """Say something on the stream of the call."""

    async def aside(self, message: dict[str, Any]) -> None:
        """Say something that names no request."""

    async def ask(self, request: dict[str, Any], *, aside: bool) -> dict[str, Any]:
        """The response to a question."""

    async def finish(self, result: dict[str, Any]) -> None:
        """Send the response."""


Step = Callable[[Turn, str, Any], Awaitable[bool]]
"""What a call does at its turn; whether it is over then."""


@dataclass
class Script:
    """What a backend does with a call."""

    name: str
    era: str
    director: Director
    wrong: list[str] = field(default_factory=list)
    """Answers of clients to questions that were not theirs."""
    refused: int = 0
    """Questions that the proxy answered with the reason why they reach nobody."""
    asked: int = 0

    async def answer(self, turn: Turn) -> None:
        """Say this and that, and answer."""
        params = turn.message["params"]
        secret = params["arguments"]["secret"]
        self.director.started[secret].set()
        token = params.get("_meta", {}).get("progressToken")
        every: list[Step] = [self._log, self._progress, self._progress, self._aside]
        steps = self.director.random.sample(every, 3)
        if self.era == "legacy":
            steps.insert(self.director.random.randrange(4), self._question)
        elif "inputResponses" not in params:
            steps.append(self._wants)
        else:
            self._check(params["inputResponses"]["q"], secret)
        for step in steps:
            await self.director.turn()
            if await step(turn, secret, token):
                return
        await self.director.turn()
        result = {"content": [{"type": "text", "text": f"{self.name} {secret}"}]}
        await turn.finish({**result, "resultType": "complete"})
        if turn.may_overtake:
            await self.director.turn()
            await self._aside(turn, secret, token)

    async def _log(self, turn: Turn, secret: str, token: Any) -> bool:
        await turn.emit(_log(secret))
        return False

    async def _progress(self, turn: Turn, secret: str, token: Any) -> bool:
        if token is not None:
            params = {"progressToken": token, "progress": 1, "message": secret}
            message = {"method": "notifications/progress", "params": params}
            modern = self.era == "modern"
            side = turn.emit if modern or self.director.random.random() < 0.5 else turn.aside
            await side(message)
        return False

    async def _aside(self, turn: Turn, secret: str, token: Any) -> bool:
        await turn.aside(_log(secret))
        return False

    async def _question(self, turn: Turn, secret: str, token: Any) -> bool:
        aside = self.director.random.random() < 0.5
        self.asked += 1
        answer = await turn.ask(_sampling(secret), aside=aside)
        if "result" in answer:
            self._check(answer["result"], secret)
        elif "several clients" in answer["error"]["message"]:
            self.refused += 1
        return False

    async def _wants(self, turn: Turn, secret: str, token: Any) -> bool:
        asked = {"q": _sampling(secret)}
        await turn.finish({"resultType": "input_required", "inputRequests": asked})
        return True

    def _check(self, answer: dict[str, Any], secret: str) -> None:
        said = answer["content"]["text"]
        found = SECRET.match(secret)
        assert found is not None
        if said != f"{secret} says {found[1]}":
            self.wrong.append(f"{self.name}: {secret} was answered {said}")


def _log(secret: str) -> dict[str, Any]:
    return {"method": "notifications/message", "params": {"level": "info", "data": secret}}


def _sampling(secret: str) -> dict[str, Any]:
    content = {"type": "text", "text": secret}
    params = {"messages": [{"role": "user", "content": content}], "maxTokens": 9}
    return {"method": "sampling/createMessage", "params": params}


def _spelt(message: dict[str, Any]) -> str:
    return json.dumps({"jsonrpc": "2.0", **message})


class HttpTurn:
    """A call over streamable HTTP: what names no request comes on the stream of a GET."""

    may_overtake = True

    def __init__(self, backend: Backend, call: Call) -> None:
        self.message = call.message
        self._backend = backend
        self._call = call

    async def emit(self, message: dict[str, Any]) -> None:
        """See Turn."""
        await self._call.emit(_spelt(message))

    async def aside(self, message: dict[str, Any]) -> None:
        """See Turn."""
        for session, stream in self._backend.streams:
            if session and session == self._call.session:
                stream.put_nowait(_spelt(message))

    async def ask(self, request: dict[str, Any], *, aside: bool) -> dict[str, Any]:
        """See Turn."""
        if not (aside and any(s == self._call.session for s, _ in self._backend.streams if s)):
            return (await self._call.ask(lambda own: _spelt({"id": own, **request}))).message
        own = f"aside-{next(self._backend.numbers)}"
        waiting = self._backend.waiting[own] = asyncio.get_running_loop().create_future()
        await self.aside({"id": own, **request})
        found: dict[str, Any] = (await waiting).message
        return found

    async def finish(self, result: dict[str, Any]) -> None:
        """See Turn."""
        await self._call.finish(_spelt({"id": self.message["id"], "result": result}))


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
            if waiting is not None:
                waiting.set_result(message)
        elif method == "tools/call":
            task = asyncio.create_task(self._script.answer(PipeTurn(self, message)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif "id" in message and method != "subscriptions/listen":
            await self.put(_spelt({"id": message["id"], **self._simple(method)}))

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
        """See Turn."""
        await self._session.put(_spelt(message))

    aside = emit

    async def ask(self, request: dict[str, Any], *, aside: bool) -> dict[str, Any]:
        """See Turn."""
        own = next(self._session.numbers)
        waiting = self._session.waiting[own] = asyncio.get_running_loop().create_future()
        await self.emit({"id": own, **request})
        found: dict[str, Any] = await waiting
        return found

    async def finish(self, result: dict[str, Any]) -> None:
        """See Turn. Who is not listened to any more may answer twice."""
        for _ in range(2):
            await self.emit({"id": self.message["id"], "result": result})


class Sse:
    """An HTTP+SSE server (2024-11-05)."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._sessions: dict[bytes, Session] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
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
