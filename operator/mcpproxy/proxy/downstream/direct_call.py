"""A call that no task waits for, as long as its backend answers with one message.

Most calls are: one message there, one back. Their answer is sent on from where it arrives.
Whatever else happens (an event stream, an error of HTTP, a lost connection, a deadline, a client
that cancels), a task goes on from there in the ordinary way; the request is never sent twice.
"""

import time
from abc import ABC, abstractmethod
from typing import Final

from msgspec import Raw

from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.gateway.gateway import Gateway, PreparedCall
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError

METHODS: Final = frozenset({"tools/call", "prompts/get", "resources/read", "completion/complete"})
"""Requests that are served in this way."""


class DirectCall(ABC):
    """One call."""

    _over = False

    def __init__(self, gateway: Gateway, request_id: Raw, prepared: PreparedCall) -> None:
        self.prepared = prepared
        self._gateway = gateway
        self._id = request_id
        self._begun = time.perf_counter()

    @abstractmethod
    def finish(self, body: bytes, answer: Message | None) -> None:
        """Send the response; `answer` are its members where it may be an error."""

    @abstractmethod
    def go_on(self) -> None:
        """Have a task see to the call from here."""

    def begin(self, client: ClientIdentity, *, levelled: bool = False) -> bool:
        """Send the request; False where that takes waiting. `levelled`: see `Calls.begin`."""
        backend, outgoing = self.prepared
        if self._gateway.tracing is not None:
            return False
        outgoing.leave = self.leave
        if not backend.begin(outgoing, client, self._answered, levelled):
            outgoing.leave = None
            return False
        self._gateway.in_flight += 1
        return True

    def leave(self) -> None:
        """Have a task go on."""
        if not self._over:
            self._end()
            self.go_on()

    def _end(self) -> None:
        self._over = True
        # It knows us and we know it: such pairs would be left to the garbage collector.
        self.prepared.outgoing.leave = None
        self._gateway.in_flight -= 1

    def _answered(self) -> None:
        if self._over:
            return
        backend, outgoing = self.prepared
        body = backend.whole(outgoing)
        answer = None
        if body is None:
            try:
                answer = backend.complete(outgoing)
            except (BackendError, RpcError):
                # Whoever goes on says what is wrong with it.
                answer = None
            if answer is None:
                self.leave()
                return
            answer["id"] = self._id
            body = jsonrpc.encode(answer)
        self._end()
        assert outgoing.deadline is not None
        outgoing.deadline.cancel()
        outgoing.deadline = None
        outcome = "ok" if answer is None or "error" not in answer else "error"
        seconds = time.perf_counter() - self._begun
        self._gateway.metrics.call(backend.name, outgoing.method, outcome, seconds)
        self.finish(body, answer)
