"""A client's request to a backend, in a task that waits for the response."""

import asyncio
import functools
import time
from dataclasses import dataclass

from msgspec.structs import replace

from mcpproxy.proxy.core.errors import (
    BackendError,
    ContinuationFailed,
    ProcessExited,
    SessionNotFound,
    TimedOut,
    Unreachable,
)
from mcpproxy.proxy.core.exchange import CallContext
from mcpproxy.proxy.core.translation.result_names import to_downstream_response
from mcpproxy.proxy.http1.client.client import asking
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.results.result_limit import is_too_large, limit_result
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.call_context import TimeoutContext
from mcpproxy.proxy.upstream.era_bridge import send_request
from mcpproxy.proxy.upstream.large_results import ResultRelay, ResultSink
from mcpproxy.proxy.upstream.transports.session import (
    HttpExchange,
    SessionLease,
    UpstreamRequest,
)


@dataclass(slots=True)
class SentRequest:
    """A request that was sent without a task, and is not sent again."""

    exchange: HttpExchange
    lease: SessionLease
    sent_at: float
    """Time at which it was sent, by `time.perf_counter`."""


class RequestInTask:
    """One request of a client, which the current task sends, or for whose response it waits."""

    __slots__ = ("_backend", "_is_sent", "_resolves_input", "_sent", "_sink")

    def __init__(
        self,
        backend: Backend,
        sent: SentRequest | None,
        sink: ResultSink | None,
        *,
        resolves_input: bool,
    ) -> None:
        """`sent` is set if the request was sent already; `sink` gets the parts of a large result.

        `resolves_input` means that the proxy resolves `input_required` results.
        """
        self._backend = backend
        self._resolves_input = resolves_input
        self._sent = sent
        self._is_sent = sent is not None
        """True once a session transmits the request, so that the backend may run it."""
        self._sink = sink

    async def run(self, request: UpstreamRequest, caller: CallContext) -> Message:
        """Return the response, with the names that clients see. Raises BackendError, RpcError."""
        if self._resolves_input or not self._backend.polls_tasks:
            request = replace(
                request,
                resolves_input=self._resolves_input,
                polls=self._backend.polls_tasks,
            )
        kept = self._backend.kept_results
        if kept is not None and kept.reads(request.method, request.target):
            return kept.read(request.target, caller.client)
        circuit = self._backend.circuit
        if circuit.is_open and self._sent is None:
            raise circuit.refusal()
        try:
            answer = await self._answer(request, caller)
        except BackendError as error:
            if not self._is_sent:
                error.unsent()
            if isinstance(error, ProcessExited | Unreachable):
                self._backend.watch.recheck_now()
            circuit.record_failure(error)
            raise
        if circuit.failures:
            circuit.record_success()
        return answer

    async def _answer(self, request: UpstreamRequest, caller: CallContext) -> Message:
        policy = self._backend.forwarding
        if policy.passes_all:
            return await self._run_in_time(request, caller)
        # The policy has to decode the response, so the response is not relayed in parts.
        self._sink = None
        answer = await policy.call(self._run_in_time, request, caller)
        results = self._backend.settings.results
        if results is not None and is_too_large(results, request.method, answer):
            kept, name = self._backend.kept_results, self._backend.name
            link = None if kept is None else functools.partial(kept.link, name, caller.client)
            limit_result(results, request.method, name, answer, link)
        return answer

    async def _run_in_time(self, request: UpstreamRequest, caller: CallContext) -> Message:
        backend, client = self._backend, caller.client
        sent, self._sent = self._sent, None
        asking.set(client.holder)
        waited = 0.0 if sent is None else time.perf_counter() - sent.sent_at
        seconds, announced = backend.settings.deadlines.request, backend.watch.announced
        context = TimeoutContext(caller, backend.names, announced, seconds, waited)
        if self._sink is not None:
            names, principal = backend.names, client.principal
            relay = ResultRelay(self._sink, request.method, names, context, principal)
            request = replace(request, large_result=relay)
        try:
            answer = await self._run_in_session(request, context, sent)
        except asyncio.CancelledError:
            if context.is_timed_out():
                raise TimedOut(f"no response within {seconds:g} s") from None
            raise
        finally:
            context.close()
        return to_downstream_response(request.method, answer, backend.names, client.principal)

    async def _run_in_session(
        self, request: UpstreamRequest, context: TimeoutContext, sent: SentRequest | None
    ) -> Message:
        sessions, background = self._backend.sessions, self._backend.background
        exchange, lease = None, sessions.try_acquire(context.client, stateless_only=True)
        if sent is not None:
            exchange, lease = sent.exchange, sent.lease
        was_sent = self._is_sent
        if lease is not None and not lease.link.stateful:
            self._is_sent = True
            return await send_request(lease.link, request, context, background, exchange)
        try:
            async with sessions.acquire(context.client, lease) as link:
                self._is_sent = True
                return await send_request(link, request, context, background, exchange)
        except SessionNotFound as error:
            if context.client.record_of(self._backend.name) is not None:
                raise ContinuationFailed(str(error)) from None
            # The backend has lost the session and executed nothing, so the request is sent again.
            self._is_sent = was_sent and exchange is None
            sessions.on_backend_failure()
            async with sessions.acquire(context.client) as link:
                self._is_sent = True
                return await send_request(link, request, context, background)
