"""Requests from a grammar at the front: each answer belongs to its request, however it is cut."""

import asyncio
import json
import logging
import random
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from mcpproxy.proxy.bootstrap import build_host_policy
from mcpproxy.proxy.downstream.access.principals import Principals
from mcpproxy.proxy.downstream.app import Endpoint
from mcpproxy.proxy.http1.server.connection import ServerConnection
from mcpproxy.proxy.http1.server.server import HttpServer
from tests.differential.backend import LEGACY, Backend, Call
from tests.proxy.runtime.serving import LIVE, proxied, serving
from tests.proxy.runtime.waiting import soon
from tests.stress.grammar import request
from tests.stress.size import size
from tests.support.seeds import SEED

pytestmark = [*LIVE, pytest.mark.timeout(600), pytest.mark.slow]
MESSAGES = size(2_000, 200_000)
DOCUMENTED = {501, 503, 505}
IDLE_TURNS = 5000
QUICK_TURNS = 500
"""Turns of the loop that are not waited for in between."""
_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[!-9;-~]+:[^\r\n]*\r\n)*)\r\n")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_DATA = re.compile(rb"data: ?([^\r\n]+)")
_SESSION = re.compile(rb"mcp-session-id: *([!-~]+)", re.IGNORECASE)
_PROBE = b'{"jsonrpc":"2.0","id":"probe","method":"ping"}'
_INITIALIZE = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "f"}},
    }
).encode()


def _post(body: bytes) -> bytes:
    head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Accept: application/json, text/event-stream\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


PROBE, INITIALIZE = _post(_PROBE), _post(_INITIALIZE)


class Memory(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = bytearray()
        self.reading = True
        self.ended = False
        """True if nothing more is written."""

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, parts: Any) -> None:
        self.written += b"".join(parts)

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.ended

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True


async def exchanged(server: HttpServer, parts: Sequence[bytes]) -> bytes:
    """Return the responses of a connection to these packets."""
    connection, transport = ServerConnection(server), Memory()
    connection.connection_made(transport)
    for part in parts:
        for turn in range(IDLE_TURNS):
            if transport.reading or transport.ended:
                break
            await asyncio.sleep(0 if turn < QUICK_TURNS else 0.002)
        assert transport.reading or transport.ended, "reading is paused and never resumed"
        if not transport.ended:
            connection.data_received(part)
    for turn in range(IDLE_TURNS):
        if transport.ended or not _busy(connection):
            break
        await asyncio.sleep(0 if turn < QUICK_TURNS else 0.002)
    stuck = not transport.ended and _busy(connection)
    connection.connection_lost(None)
    assert not stuck, (parts, bytes(transport.written))
    return bytes(transport.written)


def _busy(connection: ServerConnection) -> bool:
    return bool(connection.answering or connection.waiting or connection._parser.rest)


def answers(written: bytes, methods: Sequence[bytes]) -> list[tuple[int, Any]]:
    """Status and id of each answer; all must be well-formed HTTP/1.1."""
    result: list[tuple[int, Any]] = []
    at = 0
    while at < len(written):
        head = _HEAD.match(written, at)
        assert head is not None, written[at : at + 300]
        at = head.end()
        if head[1] == b"100":
            continue
        body = b""
        length = _LENGTH.search(head[2])
        verb = methods[len(result)] if len(result) < len(methods) else b""
        if length is not None and verb != b"HEAD":
            body = written[at : at + int(length[1])]
            assert len(body) == int(length[1])
            at += len(body)
        elif b"transfer-encoding: chunked" in head[2].lower() and verb != b"HEAD":
            end = written.find(b"0\r\n\r\n", at)
            assert end >= 0, written[at:]
            body, at = written[at:end], end + 5
        result.append((int(head[1]), _id(body)))
    return result


def _id(body: bytes) -> Any:
    for part in (body, *_DATA.findall(body)):
        try:
            message = json.loads(part)
        except ValueError:
            continue
        if isinstance(message, dict):
            return json.dumps(message.get("id"))
    return None


def cut(rnd: random.Random, data: bytes) -> list[bytes]:
    """The data in packets, cut anywhere."""
    if rnd.random() < 0.03:
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted(rnd.randrange(len(data)) for _ in range(rnd.randint(1, 12)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]


def belongs(result: list[tuple[int, Any]], sent: Sequence[Any]) -> bool:
    """Return True if each response has the id of its request, or none."""
    for (_, answered), message in zip(result, sent, strict=False):
        known = json.dumps(message.get("id")) if isinstance(message, dict) else "null"
        if answered not in (None, "null", known):
            return False
    return True


def working() -> Counter[str]:
    """Tasks that run, by their coroutine; the backend and its server are not looked at."""
    coroutines: list[Any] = [task.get_coro() for task in asyncio.all_tasks()]
    results = [(coroutine.cr_code.co_filename, coroutine.__qualname__) for coroutine in coroutines]
    return Counter(name for path, name in results if "/mcpproxy/" in path)


async def _echo(call: Call) -> None:
    result = {"content": [], "contents": [], "messages": [], "resultType": "complete"}
    await call.finish(json.dumps({"jsonrpc": "2.0", "id": call.message["id"], "result": result}))


class Failures(logging.Handler):
    """Records with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0] is not None:
            self.found.append(logging.Formatter().format(record))


@pytest.fixture
def failures() -> Iterator[Failures]:
    """Return the log records with a traceback."""
    result = Failures()
    logging.getLogger().addHandler(result)
    logging.getLogger("mcpproxy").addHandler(result)
    yield result
    logging.getLogger("mcpproxy").removeHandler(result)
    logging.getLogger().removeHandler(result)


@asynccontextmanager
async def fronted() -> AsyncIterator[HttpServer]:
    """A server of a whole front, with a backend behind it."""
    backend = Backend("legacy", _echo)
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(serving(backend))
        # Warm sessions go once they have idled for so long.
        spec = {"name": "p", "url": f"{base}/mcp", "timeouts": {"idle": "1s"}}
        proxy = await stack.enter_async_context(proxied(spec))
        runtime: Any = proxy.runtime
        guard = build_host_policy(runtime._configuration, runtime._options)
        front = Endpoint(runtime.gateway, guard, "127.0.0.1:1", "/mcp", Principals(None))
        front.start()
        server = HttpServer(front)
        try:
            yield server
        finally:
            front.drain()
            await server.drain(1)


async def session(server: HttpServer) -> bytes:
    """The id of a new session."""
    match = _SESSION.search(await exchanged(server, [INITIALIZE]))
    assert match is not None
    return match[1]


async def test_each_response_belongs_to_its_request_regardless_of_the_chunking(
    failures: Failures,
) -> None:
    rnd, problems, statuses = random.Random(SEED), [], Counter[int]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    async with fronted() as server:
        tasks, sent = working(), 0
        sessions: list[bytes] = []
        while sent < MESSAGES:
            sessions = sessions or [await session(server), await session(server)]
            count, faults = rnd.randint(1, 20), rnd.choice((0, 0.1))
            made = [request(rnd, faults, "SESSION") for _ in range(count)]
            plain = b"".join(raw for raw, _ in made)
            # What ends a session must not change the second answers.
            whole, other = (plain.replace(b"SESSION", item) for item in sessions)
            verbs = [raw.lstrip().partition(b" ")[0] for raw, _ in made]
            once = answers(await exchanged(server, [whole]), verbs)
            again = answers(await exchanged(server, cut(rnd, other)), verbs)
            assert once == again, (once, again, whole)
            assert len(once) <= len(made), (once, whole)
            assert belongs(once, [message for _, message in made]), (once, whole)
            statuses.update(status for status, _ in once)
            ((status, result),) = answers(await exchanged(server, [PROBE]), [b"POST"])
            assert status < 500, (status, result, whole)
            if b"DELETE" in verbs:
                sessions = []
            sent += 2 * len(made)
        await soon(lambda: not server.connections, "connections to end")
        await soon(lambda: working() <= tasks, "tasks to end")
        room: Any = server.room
        assert (room.small, room.large, dict(room._by_address)) == (0, 0, {})
    assert {status for status in statuses if status >= 500} <= DOCUMENTED, statuses
    assert statuses[200] > 0
    assert not failures.found, "\n".join(failures.found[:3])
    assert not problems, problems[:3]
    sys.stdout.write(f"{dict(statuses)}\n")
