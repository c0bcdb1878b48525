"""Calls that are relayed from I/O callbacks, without a task.

Most calls are one request and one response. The callback that receives the response sends it to
the client. If anything else happens (an event stream, an HTTP error, a lost connection, a timeout,
a cancellation), a task takes over the call; the request is never sent twice.
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
"""Methods of the requests that may be relayed without a task."""


class DirectCall(ABC):
    """Call that is relayed without a task."""

    _over = False

    def __init__(self, gateway: Gateway, request_id: Raw, prepared: PreparedCall) -> None:
        self.prepared = prepared
        self._gateway = gateway
        self._id = request_id
        self._begun = time.perf_counter()

    @abstractmethod
    def finish(self, body: bytes, answer: Message | None) -> None:
        """Send the response to the client; `answer` is its message if it may be an error."""

    @abstractmethod
    def go_on(self) -> None:
        """Let a task continue the call."""

    def begin(self, client: ClientIdentity, *, levelled: bool = False) -> bool:
        """Send the request; return False if that requires waiting.

        `levelled` is True if the client has set a log level.
        """
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
        """Let a task continue the call, unless it has ended."""
        if not self._over:
            self._end()
            self.go_on()

    def _end(self) -> None:
        self._over = True
        # Break the reference cycle, which only the garbage collector would free.
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
                # The task reports the error.
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
