"""Requests of the modern era over HTTP: one POST, one answer."""

import asyncio
from typing import Final, NamedTuple

from msgspec import Raw

from mcpproxy.proxy.core.eras import MAX_KEPT
from mcpproxy.proxy.core.exchange import Client
from mcpproxy.proxy.core.kinds import BY_METHOD, Kind
from mcpproxy.proxy.front import envelope, modern
from mcpproxy.proxy.front.direct import METHODS, Direct
from mcpproxy.proxy.front.handover import Gone, Peers
from mcpproxy.proxy.front.parking import Parking, expired
from mcpproxy.proxy.front.reply import Reply
from mcpproxy.proxy.front.request import Head, HttpRefusal, Inbound, Said
from mcpproxy.proxy.front.standing import StandingStreams
from mcpproxy.proxy.gateway import Gateway, Prepared
from mcpproxy.proxy.routing import Route
from mcpproxy.proxy.wire import headers as h
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import INVALID_REQUEST, Message, RpcError
from mcpproxy.proxy.wire.revisions import MODERN

_ALLOW: Final = (b"allow", b"POST")


class Asked(NamedTuple):
    """What a request says of itself."""

    params: Message
    client: Client
    level: str | None
    """The log level that it asks for."""
    route: Route | None
    """Where it goes, if it is about a component."""
    owner: str | None
    """Which instance it goes on with, if it goes on with one."""


class ModernHttp:
    """Serves clients that have no session."""

    def __init__(
        self, gateway: Gateway, parking: Parking, peers: Peers, streams: StandingStreams
    ) -> None:
        self.gateway = gateway
        self._parking = parking
        self._peers = peers
        self._streams = streams

    async def serve(self, inbound: Inbound, reply: Reply) -> None:
        """Answer one request. Raises HttpRefusal."""
        if inbound.method != "POST":
            await reply.empty(405, _ALLOW)
            return
        request_id = None
        try:
            message = inbound.message()
            if "id" not in message or "method" not in message:
                await self._noted(message, inbound, reply)
                return
            request_id = message["id"]
            await self._request(message, inbound, reply)
        except HttpRefusal:
            raise
        except RpcError as error:
            _fail(reply, request_id, error)

    def _list(self, kind: Kind, request_id: Raw, asked: Asked, reply: Reply) -> bool:
        """Answer with a list, if it is there and new enough. Raises RpcError."""
        now, client = reply.loop.time(), asked.client
        found = self.gateway.listed(kind, asked.params, modern=True, client=client, now=now)
        if found is not None:
            reply.whole(jsonrpc.response_parts(request_id, found), streamed=False)
        return found is not None

    async def go_on(self, message: Message, asked: Asked, reply: Reply, prepared: Prepared) -> None:
        """Answer a call that was begun, or can be begun only in a task."""
        try:
            await self._answer(message, asked, reply, prepared)
        except RpcError as error:
            _fail(reply, message["id"], error)

    def at_once(self, inbound: Inbound, reply: Reply) -> bool:
        """Begin a call without a task, where nothing but its answer has to be waited for.

        Raises HttpRefusal.
        """
        call = jsonrpc.call(inbound.body)
        if call is None or not (call.method in METHODS or call.method in BY_METHOD):
            return False
        try:
            asked = self._asked(call.params or {}, call.method, inbound)
            kind = BY_METHOD.get(call.method)
            if kind is not None:
                return self._list(kind, call.id, asked, reply)
            if asked.owner is not None or asked.route is None or asked.route.backend.asks:
                return False
            prepared = self.gateway.prepared_call(call, asked.route)
        except RpcError:
            return False
        prepared.outgoing.sink = reply
        direct = _ModernCall(self, inbound, asked, reply, call.id, prepared)
        if direct.begin(asked.client):
            reply.on_gone = direct.gone
            reply.calm = True
        else:
            # It takes waiting: what was found out so far goes with it.
            direct.go_on()
        return True

    async def _noted(self, message: Message, inbound: Inbound, reply: Reply) -> None:
        if "method" not in message:
            raise RpcError(INVALID_REQUEST, "clients of this era do not send responses")
        version = inbound.headers[h.PROTOCOL_VERSION].decode("latin-1")
        if version not in MODERN:
            raise envelope.unsupported(version)
        await reply.empty(202)

    async def _request(self, message: Message, inbound: Inbound, reply: Reply) -> None:
        method = jsonrpc.string(message["method"]) or ""
        params = jsonrpc.members(message.get("params", jsonrpc.EMPTY))
        if not self.gateway.first_round_over and self.gateway.routes(method):
            await self.gateway.located(method, params)
        asked = self._asked(params, method, inbound)
        if asked.owner is not None and not self._peers.mine(asked.owner):
            await self._hand_over(asked.owner, inbound, reply)
            return
        await self._answer(message, asked, reply)

    def _asked(self, params: Message, method: str, inbound: Inbound) -> Asked:
        """What a request says of itself. Raises RpcError."""
        said = self._said(params, method, inbound.head)
        route = modern.route_of(self.gateway, method, params, said.client)
        if route is not None and route.properties:
            envelope.check_params(route.properties, params, inbound.lines)
        return Asked(params, said.client, said.level, route, self._parking.owner(params))

    def _said(self, params: Message, method: str, head: Head) -> Said:
        """Who asks; most messages with one head say the same. Raises RpcError."""
        member = h.NAME_MEMBER.get(method)
        meta, name = params.get("_meta"), params.get(member) if member else None
        about = method, meta, name
        if head.said is not None and head.said.about == about:
            return head.said
        if len(head.headers) != len(head.lines):
            envelope.duplicated(head.lines)
        client, level = envelope.client_of(method, params, head.headers, head.principal)
        said = Said(about, self.gateway.known(client, head.lines), level)
        if meta is not None and len(bytes(meta)) + len(bytes(name or b"")) <= MAX_KEPT:
            # Copies: else the whole message would be kept.
            kept = method, meta.copy(), None if name is None else name.copy()
            head.said = said._replace(about=kept)
        return said

    async def _hand_over(self, owner: str, inbound: Inbound, reply: Reply) -> None:
        if inbound.handed_over:
            raise expired()
        try:
            await self._peers.pass_on(owner, inbound, reply)
        except Gone:
            # What was parked there is lost.
            raise expired() from None

    async def _answer(
        self, message: Message, asked: Asked, reply: Reply, prepared: Prepared | None = None
    ) -> None:
        cancelling = _Cancelling(reply)
        caller = modern.ModernCaller(asked.client, asked.level, reply.event, reply.network)
        params = asked.params
        try:
            if jsonrpc.string(message["method"]) == modern.LISTEN:
                await reply.finish(await self._listen(message, params, asked.client, reply))
                return
            reply.keep_alive()
            answer = await modern.answer(
                self.gateway, self._parking, message, params, caller, asked.route, prepared
            )
        except asyncio.CancelledError:
            if not cancelling.done():
                raise
            await reply.end()
            return
        await _finish(reply, answer)

    async def _listen(
        self, message: Message, params: Message, client: Client, reply: Reply
    ) -> bytes:
        holder = (reply.network, client.principal)
        outbox = self._streams.open(holder)
        try:
            listening = modern.Listening(self.gateway, message, params, outbox, holder, client)
            return await listening.run(reply.event, reply.ping)
        finally:
            self._streams.close(outbox)


class _ModernCall(Direct):
    """A call of a client without a session that no task waits for."""

    def __init__(
        self,
        front: ModernHttp,
        inbound: Inbound,
        asked: Asked,
        reply: Reply,
        request_id: Raw,
        prepared: Prepared,
    ) -> None:
        super().__init__(front.gateway, request_id, prepared)
        self._front = front
        self._inbound = inbound
        self._asked = asked
        self._reply = reply

    def finish(self, body: bytes, answer: Message | None) -> None:
        """See Direct."""
        self._reply.on_gone = None
        self._reply.complete(body, 200 if answer is None else _status(answer))

    def go_on(self) -> None:
        """See Direct."""
        message = self._inbound.message()
        going_on = self._front.go_on(message, self._asked, self._reply, self.prepared)
        self._reply.go_on(going_on)

    def gone(self) -> None:
        """The client has closed the connection."""
        self.leave()
        # The task that takes over listens for it after its first step.
        self._reply.loop.call_soon(self._reply.gone)


async def _finish(reply: Reply, answer: Message | bytes) -> None:
    if isinstance(answer, bytes):
        await reply.finish(answer)
        return
    await reply.finish(jsonrpc.encode(answer), _status(answer))


def _fail(reply: Reply, request_id: Raw | None, error: RpcError) -> None:
    body = jsonrpc.failure(request_id, error)
    reply.complete(body, envelope.STATUS.get(error.code, 200))


def _status(answer: Message) -> int:
    """The status of a response."""
    error = jsonrpc.error_of(answer)
    return envelope.STATUS.get(error.code, 200) if error else 200


class _Cancelling:
    """Cancels the present task when its client closes the connection, which is this era's way."""

    __slots__ = ("_gone", "_task")

    def __init__(self, reply: Reply) -> None:
        self._task = asyncio.current_task(reply.loop)
        self._gone = False
        reply.on_gone = self._cancel

    def _cancel(self) -> None:
        self._gone = True
        assert self._task is not None
        self._task.cancel()

    def done(self) -> bool:
        """Whether it was this that cancelled the task; then that is over."""
        if self._gone:
            assert self._task is not None
            self._task.uncancel()
        return self._gone
