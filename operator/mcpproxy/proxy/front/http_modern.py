"""Requests of the modern era over HTTP: one POST, one answer."""

import asyncio
from typing import Final, NamedTuple

from msgspec import Raw

from mcpproxy.proxy.core.exchange import Client
from mcpproxy.proxy.front import envelope, modern
from mcpproxy.proxy.front.direct import Direct, method_of
from mcpproxy.proxy.front.handover import Gone, Peers
from mcpproxy.proxy.front.outbox import Outbox
from mcpproxy.proxy.front.parking import Parking, expired
from mcpproxy.proxy.front.reply import Reply
from mcpproxy.proxy.front.request import HttpRefusal, Inbound
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

    def __init__(self, gateway: Gateway, parking: Parking, peers: Peers) -> None:
        self._gateway = gateway
        self._parking = parking
        self._peers = peers
        self._listening: set[Outbox] = set()

    def end_streams(self) -> None:
        """End every subscriptions/listen properly."""
        for outbox in self._listening:
            outbox.end()

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

    async def _go_on(
        self, message: Message, asked: Asked, reply: Reply, prepared: Prepared
    ) -> None:
        try:
            await self._answer(message, asked, reply, prepared)
        except RpcError as error:
            _fail(reply, message["id"], error)

    def at_once(self, inbound: Inbound, reply: Reply) -> bool:
        """Begin a call without a task, where nothing but its answer has to be waited for.

        Raises HttpRefusal.
        """
        message = inbound.message()
        method = method_of(message)
        if method is None:
            return False
        try:
            asked = self._asked(message, method, inbound)
        except RpcError:
            return False
        if asked.owner is not None or asked.route is None:
            return False
        if self._gateway.may_ask(asked.route, asked.params):
            return False
        try:
            prepared = self._gateway.prepared(message, method, asked.params, asked.route)
        except RpcError:
            return False

        def finish(answer: Message, body: bytes) -> None:
            reply.on_gone = None
            reply.complete(body, _status(answer))

        def go_on(prepared: Prepared) -> None:
            reply.go_on(self._go_on(message, asked, reply, prepared))

        def gone() -> None:
            direct.leave()
            # The task that takes over listens for it after its first step.
            reply.loop.call_soon(reply.gone)

        prepared.outgoing.sink = reply
        direct = Direct(self._gateway, message, prepared, finish, go_on)
        if not direct.begin(asked.client):
            # It takes waiting: what was found out so far goes with it.
            go_on(prepared)
            return True
        reply.on_gone = gone
        reply.keep_alive()
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
        asked = self._asked(message, method, inbound)
        if asked.owner is not None and not self._peers.mine(asked.owner):
            await self._hand_over(asked.owner, inbound, reply)
            return
        await self._answer(message, asked, reply)

    def _asked(self, message: Message, method: str, inbound: Inbound) -> Asked:
        """What a request says of itself. Raises RpcError."""
        if len(inbound.headers) != len(inbound.lines):
            envelope.duplicated(inbound.lines)
        params = jsonrpc.members(message.get("params", jsonrpc.EMPTY))
        head = inbound.head
        client, level = envelope.client_of(method, params, head.headers, head.principal)
        client = self._gateway.known(client, inbound.lines)
        route = modern.route_of(self._gateway, method, params)
        if route is not None and route.properties:
            envelope.check_params(route.properties, params, inbound.lines)
        return Asked(params, client, level, route, self._parking.owner(params))

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
        caller = modern.ModernCaller(asked.client, asked.level, reply.event)
        params = asked.params
        try:
            if jsonrpc.string(message["method"]) == modern.LISTEN:
                await reply.finish(await self._listen(message, params, reply))
                return
            reply.keep_alive()
            answer = await modern.answer(
                self._gateway, self._parking, message, params, caller, asked.route, prepared
            )
        except asyncio.CancelledError:
            if not cancelling.done():
                raise
            await reply.end()
            return
        await _finish(reply, answer)

    async def _listen(self, message: Message, params: Message, reply: Reply) -> bytes:
        listening = modern.Listening(self._gateway, message, params)
        self._listening.add(listening.outbox)
        try:
            return await listening.run(reply.event, reply.ping)
        finally:
            self._listening.discard(listening.outbox)


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
