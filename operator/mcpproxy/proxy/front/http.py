"""The MCP endpoint over streamable HTTP, both eras: an ASGI app.

What every request passes: path, Host and Origin, size. Then the header Mcp-Protocol-Version
says which era it belongs to.
"""

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

from mcpproxy.proxy.core import sessions
from mcpproxy.proxy.core.catalog import BY_METHOD
from mcpproxy.proxy.core.seal import BadToken, Sealer
from mcpproxy.proxy.core.sessions import Ticket
from mcpproxy.proxy.front import envelope, legacy, modern
from mcpproxy.proxy.front.events import EventLog, position
from mcpproxy.proxy.front.guard import Guard
from mcpproxy.proxy.front.live import LiveSessions, Outbox, StandingCaller
from mcpproxy.proxy.front.parking import Parking
from mcpproxy.proxy.front.reply import PING_EVERY, Receive, Reply, Scope, Send
from mcpproxy.proxy.gateway import Gateway
from mcpproxy.proxy.wire import headers as h
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import INVALID_REQUEST, RpcError
from mcpproxy.proxy.wire.revisions import LEGACY, MODERN

MAX_BODY: Final = 16 * 1024 * 1024
"""Bytes of one request; more is answered with 413."""
SESSION_IDLE: Final = 1800.0
REAP_EVERY: Final = 30.0
DISCONNECT_CHECK: Final = 0.05
"""Seconds that a call runs before its client's connection is watched: most are done by then."""
_LEGACY: Final = frozenset(revision.encode() for revision in LEGACY)
_ALLOW_MODERN: Final = (b"allow", b"POST")
_ALLOW_LEGACY: Final = (b"allow", b"GET, POST, DELETE")
_SSE: Final = b"text/event-stream"
_JSON: Final = b"application/json"

HeaderMap = Mapping[bytes, bytes]


class HttpFront:
    """Serves one gateway on one path."""

    def __init__(
        self, gateway: Gateway, sealer: Sealer, guard: Guard, owner: str, path: str
    ) -> None:
        """`owner` is this process's address, `path` where the endpoint is."""
        self.live = LiveSessions(sealer, owner, SESSION_IDLE)
        self._gateway = gateway
        self._sealer = sealer
        self._guard = guard
        self._owner = owner
        self._path = path.rstrip("/")
        self._parking = Parking(sealer, owner, time.time)
        self._listening: set[Outbox] = set()
        self._reaper: asyncio.Task[None] | None = None
        self._closing = False
        gateway.set_standing(lambda client: StandingCaller(client, self.live))

    def start(self) -> None:
        """Begin to look after what clients leave behind."""
        self._reaper = asyncio.create_task(self._reap())

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_EVERY)
            await self.live.reap(_now(), sessions.LIFETIME)

    def drain(self) -> None:
        """The process stops: streams of changes end properly, calls go on to their end."""
        self._closing = True
        self.live.end_streams()
        for outbox in self._listening:
            outbox.end()

    def close(self) -> None:
        """Cancel what still waits for clients."""
        self._parking.close()
        if self._reaper is not None:
            self._reaper.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return
        reply = Reply(send)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if scope["path"].rstrip("/") != self._path:
            await reply.empty(404)
        elif not self._guard.admits_host(headers.get(b"host")):
            await reply.finish(_refused("the Host header names another server"), 421)
        elif not self._guard.admits_origin(headers.get(b"origin")):
            await reply.finish(_refused("requests of this Origin are not allowed"), 403)
        else:
            version = headers.get(h.PROTOCOL_VERSION)
            is_legacy = version is None or version in _LEGACY
            serve = self._legacy if is_legacy else self._modern
            await serve(scope, headers, receive, reply)

    # Legacy

    async def _legacy(
        self, scope: Scope, headers: HeaderMap, receive: Receive, reply: Reply
    ) -> None:
        method = scope["method"]
        try:
            if method == "POST":
                await self._legacy_post(headers, receive, reply)
            elif method == "GET":
                await self._stream(headers, receive, reply)
            elif method == "DELETE":
                await self._end_session(headers, reply)
            else:
                await reply.empty(405, _ALLOW_LEGACY)
        except HttpRefusal as refusal:
            await reply.finish(refusal.body, refusal.status)

    async def _legacy_post(self, headers: HeaderMap, receive: Receive, reply: Reply) -> None:
        message = await _message(headers, receive)
        method = jsonrpc.string(message.get("method"))
        if method == "initialize" and "id" in message:
            await self._initialize(headers, message, reply)
            return
        ticket = self._ticket(headers)
        session = ticket.client.session
        live = self.live.of(session, _now())
        try:
            if method is None or "id" not in message:
                legacy.noted(live, message)
                await reply.empty(202)
                return
            caller = legacy.LegacyCaller(ticket.client, live, self.live, reply)
            reply.keep_alive()
            body = await legacy.answer(self._gateway, live, message, caller)
            # Servers of this era stream their lists; clients may rely on the type.
            send = reply.only_event if method in BY_METHOD else reply.finish
            await send(body)
        finally:
            self.live.release(session)

    async def _initialize(self, headers: HeaderMap, message: jsonrpc.Message, reply: Reply) -> None:
        try:
            params = jsonrpc.members(message.get("params", jsonrpc.EMPTY))
            client = legacy.client_of(params, principal(headers), secrets.token_urlsafe(16))
            result = await legacy.initialized(self._gateway, client)
        except RpcError as error:
            await reply.finish(jsonrpc.failure(message["id"], error))
            return
        token = sessions.mint(self._sealer, Ticket(client, int(time.time()), self._owner))
        reply.add_header(h.SESSION_ID, token.encode())
        await reply.finish(jsonrpc.response(message["id"], result))

    def _ticket(self, headers: HeaderMap) -> Ticket:
        token = headers.get(h.SESSION_ID)
        if token is None:
            raise HttpRefusal(400, "the header Mcp-Session-Id is missing; initialize first")
        try:
            text = token.decode("latin-1")
            ticket = sessions.read(self._sealer, text, principal(headers), time.time())
        except BadToken:
            raise HttpRefusal(404, "this session does not exist; initialize anew") from None
        if self.live.has_ended(ticket.client.session):
            raise HttpRefusal(404, "this session has ended; initialize anew")
        return ticket

    async def _stream(self, headers: HeaderMap, receive: Receive, reply: Reply) -> None:
        if not h.accepts(headers.get(b"accept"), _SSE):
            raise HttpRefusal(406, "a GET must accept text/event-stream")
        client = self._ticket(headers).client
        if self._closing:
            raise HttpRefusal(503, "the proxy is shutting down")
        live = self.live.of(client.session, _now())
        where = position(headers.get(h.LAST_EVENT_ID, b""))
        log = live.logs.get(where[0]) if where else None
        if where is not None and log is not None:
            await _resume(log, where[1], reply)
            return
        if live.stream is not None:
            # The client came back before we knew that it had gone.
            live.stream.end()
        stream = live.stream = Outbox()
        unsubscribe = self._gateway.subscribe(
            lambda method: stream.put(jsonrpc.notification(method))
        )
        self._gateway.metrics.streams.inc()
        watching = asyncio.create_task(stream.end_with_connection(receive))
        try:
            await _pump(stream, reply)
        finally:
            watching.cancel()
            self._gateway.metrics.streams.dec()
            unsubscribe()
            if live.stream is stream:
                live.stream = None
            self.live.release(client.session)

    async def _end_session(self, headers: HeaderMap, reply: Reply) -> None:
        session = self._ticket(headers).client.session
        await self.live.end(session, _now())
        self._gateway.end_client(session)
        await reply.empty(204)

    # Modern

    async def _modern(
        self, scope: Scope, headers: HeaderMap, receive: Receive, reply: Reply
    ) -> None:
        if scope["method"] != "POST":
            await reply.empty(405, _ALLOW_MODERN)
            return
        request_id = None
        try:
            message = await _message(headers, receive)
            if "id" not in message or "method" not in message:
                await self._noted(message, headers, reply)
                return
            request_id = message["id"]
            envelope.duplicated(scope["headers"])
            params = jsonrpc.members(message.get("params", jsonrpc.EMPTY))
            client, level = envelope.client_of(message, params, headers, principal(headers))
            properties = modern.header_properties(self._gateway, message, params)
            if properties:
                envelope.check_params(properties, params, scope["headers"])
            caller = modern.ModernCaller(client, level, reply.event)
            await self._serve_modern(message, params, caller, receive, reply)
        except HttpRefusal as refusal:
            await reply.finish(refusal.body, refusal.status)
        except RpcError as error:
            body = jsonrpc.failure(request_id, error)
            await reply.finish(body, envelope.STATUS.get(error.code, 200))

    async def _noted(self, message: jsonrpc.Message, headers: HeaderMap, reply: Reply) -> None:
        if "method" not in message:
            raise RpcError(INVALID_REQUEST, "clients of this era do not send responses")
        version = headers[h.PROTOCOL_VERSION].decode("latin-1")
        if version not in MODERN:
            raise envelope.unsupported(version)
        await reply.empty(202)

    async def _serve_modern(
        self,
        message: jsonrpc.Message,
        params: jsonrpc.Message,
        caller: modern.ModernCaller,
        receive: Receive,
        reply: Reply,
    ) -> None:
        with _cancelled_with_connection(receive) as gone:
            try:
                if jsonrpc.string(message["method"]) == modern.LISTEN:
                    await reply.finish(await self._listen(message, params, reply))
                    return
                reply.keep_alive()
                answer = await modern.answer(self._gateway, self._parking, message, params, caller)
            except asyncio.CancelledError:
                if not gone.is_set():
                    raise
                current = asyncio.current_task()
                assert current is not None
                current.uncancel()
                await reply.end()
                return
        await _finish(reply, answer)

    async def _listen(
        self, message: jsonrpc.Message, params: jsonrpc.Message, reply: Reply
    ) -> bytes:
        listening = modern.Listening(self._gateway, message, params)
        self._listening.add(listening.outbox)
        try:
            return await listening.run(reply.event, reply.ping)
        finally:
            self._listening.discard(listening.outbox)


class HttpRefusal(Exception):
    """A request that is answered with an HTTP error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = _refused(message)


def _refused(message: str) -> bytes:
    return jsonrpc.failure(None, RpcError(INVALID_REQUEST, message))


def _now() -> float:
    return asyncio.get_running_loop().time()


def principal(headers: HeaderMap) -> str:
    """A digest of the credentials that a request came with; empty without any."""
    found = headers.get(b"authorization")
    return "" if found is None else hashlib.sha256(found).hexdigest()[:32]


async def _message(headers: HeaderMap, receive: Receive) -> jsonrpc.Message:
    """The message of a POST. Raises HttpRefusal."""
    content_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if content_type != _JSON:
        raise HttpRefusal(415, "the Content-Type must be application/json")
    accept = headers.get(b"accept")
    if not (h.accepts(accept, _JSON) and h.accepts(accept, _SSE)):
        raise HttpRefusal(406, "the client must accept application/json and text/event-stream")
    body = await _body(headers, receive)
    try:
        return jsonrpc.parse(body)
    except RpcError as error:
        refusal = HttpRefusal(400, error.message)
        refusal.body = jsonrpc.failure(None, error)
        raise refusal from None


async def _body(headers: HeaderMap, receive: Receive) -> bytes:
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > MAX_BODY:
        raise HttpRefusal(413, f"a request is at most {MAX_BODY} bytes")
    part = await receive()
    body: bytes = part.get("body", b"")
    if not part.get("more_body"):
        return body
    parts, size = [body], len(body)
    while part.get("more_body"):
        part = await receive()
        parts.append(part.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            raise HttpRefusal(413, f"a request is at most {MAX_BODY} bytes")
    return b"".join(parts)


async def _pump(stream: Outbox, reply: Reply) -> None:
    """Send what the outbox gets until it ends."""
    await reply.ping()
    while True:
        try:
            message = await stream.get(PING_EVERY)
        except TimeoutError:
            await reply.ping()
            continue
        if message is None:
            await reply.end()
            return
        await reply.event(message)


async def _resume(log: EventLog, after: int, reply: Reply) -> None:
    """Send what a broken stream has not delivered, and what still comes."""
    reply.keep_alive()
    await reply.ping()
    async for event_id, message in log.after(after):
        await reply.replay(message, event_id)
    await reply.end()


async def _finish(reply: Reply, answer: jsonrpc.Message | bytes) -> None:
    if isinstance(answer, bytes):
        await reply.finish(answer)
        return
    error = jsonrpc.error_of(answer)
    status = envelope.STATUS.get(error.code, 200) if error else 200
    await reply.finish(jsonrpc.encode(answer), status)


@contextlib.contextmanager
def _cancelled_with_connection(receive: Receive) -> Any:
    """Cancel the body when the client closes the connection; the event tells that it did."""
    gone = asyncio.Event()
    task = asyncio.current_task()
    watching: list[asyncio.Task[None]] = []

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()
        assert task is not None
        task.cancel()

    loop = asyncio.get_running_loop()
    timer = loop.call_later(DISCONNECT_CHECK, lambda: watching.append(asyncio.create_task(watch())))
    try:
        yield gone
    finally:
        timer.cancel()
        for found in watching:
            found.cancel()
