"""The main path of the runtime: how a client's request and its response are relayed.

Most calls are one request and one response, which I/O callbacks relay without a task. A task
continues the call after anything else, such as a timeout. A request is not sent twice.
"""

import time
from typing import Protocol

from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import (
    DETACHED,
    DONE,
    NEW,
    SENT,
    CallContext,
    ClientIdentity,
    Permit,
)
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.gateway.routing.route_finder import Route
from mcpproxy.proxy.gateway.routing.router import (
    map_response,
    map_response_bytes,
    upstream_request_of,
)
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RequestEnvelope
from mcpproxy.proxy.telemetry.operation_durations import CANCELLED, Ending
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.era_bridge import translate_request
from mcpproxy.proxy.upstream.large_results import ResultSink
from mcpproxy.proxy.upstream.request_in_task import RequestInTask, SentRequest
from mcpproxy.proxy.upstream.transports.http_modern import IMMEDIATE
from mcpproxy.proxy.upstream.transports.session import (
    HttpExchange,
    SessionLease,
    UpstreamRequest,
)


class Responder(Protocol):
    """The client's side of a call that callbacks relay."""

    def respond(self, body: bytes, answer: Message | None) -> None:
        """Send the response; `answer` is its decoded message if it may be an error."""

    def run_in_task(self, call: "Call") -> None:
        """Let a task `run` the call."""


class Call:
    """One request of a client to one backend, from its arrival to its response."""

    def __init__(
        self,
        gateway: Gateway,
        backend: Backend,
        request: UpstreamRequest,
        client: ClientIdentity,
        responder: Responder | None = None,
    ) -> None:
        """`request` is the client's request with the backend's names."""
        self.backend, self.request, self.state = backend, request, NEW
        self._gateway, self._client, self._responder = gateway, client, responder
        self._lease: SessionLease | None = None
        self._exchange: HttpExchange | None = None
        self._admission: Permit | None = None
        self.began_at = time.perf_counter()

    @classmethod
    def start(
        cls,
        gateway: Gateway,
        message: RequestEnvelope,
        client: ClientIdentity,
        responder: Responder,
        route: Route | None = None,
        *,
        has_log_level: bool = False,
    ) -> "Call":
        """Route a request, and send it, or detach it if sending requires waiting.

        `has_log_level` means that the client has set a log level. Raise RpcError without a route.
        """
        params, limits = message.params or {}, gateway.limits
        route = route or gateway.routing.route(message.method, params, client)
        backend = route.backend
        request = upstream_request_of(message.id, message.method, params, route)
        call, lease, exchange = cls(gateway, backend, request, client, responder), None, None
        call._admission = limits.admit_at_once(request, backend.name, client) if limits else None
        try:
            is_admitted = limits is None or call._admission is not None
            if is_admitted and gateway.tracing is None and backend.forwarding.passes_all:
                stateless_only = has_log_level or client.modern
                lease = backend.sessions.try_acquire(client, stateless_only=stateless_only)
            if lease is not None:
                session, translates = lease.link, client.modern is not lease.link.server.modern
                if isinstance(session, IMMEDIATE) and not (translates and has_log_level):
                    if translates:
                        request = translate_request(request, client, session.server)
                    exchange = session.send(request, client, call._on_response, call.detach)
                if exchange is None:
                    backend.sessions.return_unused(lease)
        except BaseException:
            call._admission = call._admission and call._admission.guarded()
            raise
        if lease is None or exchange is None:
            call.detach()
            return call
        call.state, call._lease, call._exchange = SENT, lease, exchange
        gateway.running.add(call)
        return call

    def _on_response(self) -> None:
        """Relay the response if it is complete and nothing came before it; otherwise detach.

        Without a response, the request timeout is over.
        """
        exchange, lease = self._exchange, self._lease
        if self.state is not SENT or not (exchange and lease):
            return
        names, server, answer = self.backend.names, lease.link.server, None
        body = map_response_bytes(exchange, self.request, server, names)
        if body is None:
            answer = map_response(exchange, self.request, server, names, self._client.principal)
            body = None if answer is None else jsonrpc.encode(answer)
        if body is None or (exchange.number and not exchange.session.try_complete(exchange)):
            self.detach()
            return
        if exchange.number:
            self.backend.sessions.release(lease)
        if exchange.response and not exchange.response.complete:
            exchange.response.leave()
        self._end("" if answer is None else answer, len(body))
        if self._responder is not None:
            self._responder.respond(body, answer)

    def detach(self) -> None:
        """Let a task continue the call, unless one does already or the call is over."""
        if self._responder is not None and self.state in (NEW, SENT):
            self.state, self._admission = DETACHED, self._admission and self._admission.guarded()
            self._gateway.running.discard(self)
            self._responder.run_in_task(self)

    async def run(
        self,
        message: Message,
        caller: CallContext,
        sink: ResultSink | None = None,
        *,
        resolves_input: bool = False,
    ) -> Message:
        """Return the response to the client's `message`, which is sent unless it was before.

        `sink` and `resolves_input` are those of `RequestInTask`. Raise RpcError for any failure.
        """
        gateway, backend, sent, size = self._gateway, self.backend, None, None
        ending: Ending = CANCELLED
        if self._exchange and self._lease:
            sent = SentRequest(self._exchange, self._lease, self.began_at)
        elif not gateway.routing.decides_at_once:
            await gateway.routing.decide(self.request, backend.name, caller.client)
        if gateway.limits is not None and self._admission is None:
            self._admission = await gateway.limits.admit(self.request, backend.name, caller.client)
        self.state = DETACHED
        gateway.running.add(self)
        task = RequestInTask(backend, sent, sink, resolves_input=resolves_input)
        try:
            tracing, send = gateway.tracing, task.run
            traced = send if tracing is None else tracing.traced(send, backend, message)
            answer = await traced(self.request, caller)
            gateway.routing.restrict_result(self.request.method, backend.name, answer, self._client)
            ending, answer["id"], size = answer, message["id"], len(answer.get("result", b""))
            return answer
        except BackendError as error:
            ending = error.reason
            raise error.rpc(backend.name) from None
        finally:
            self._end(ending, size)

    def _end(self, ending: Ending, size: int | None) -> None:
        """Record the end of the call, with the size of the response in bytes if it is known."""
        done = self._gateway.end_call(self, self._client, ending, self.state is SENT)
        # The exchange refers to the call, and only the garbage collector would free the cycle.
        self.state, self._exchange = DONE, None
        self._gateway.running.discard(self)
        if self._admission is not None:
            self._admission.release(is_cancelled=ending is CANCELLED)
        for record in self._gateway.call_records:
            record(self, self._client, *done, size)


async def relay_request(
    gateway: Gateway, message: Message, method: str, params: Message | None, caller: CallContext
) -> Message:
    """Relay a client's request in the current task, as `Call.run` does."""

    async def send(backend: Backend, request: UpstreamRequest) -> Message:
        return await Call(gateway, backend, request, caller.client).run(message, caller)

    if gateway.routing.lists.has(method):
        return await gateway.routing.lists.answer(message, method, params or {}, caller, send)
    return await send(*gateway.routing.prepare(message, method, params, caller.client))
