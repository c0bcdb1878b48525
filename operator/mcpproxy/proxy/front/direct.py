"""A call that no task waits for, as long as its backend answers with one message.

Most calls are: one message there, one back. Their answer is sent on from where it arrives.
Whatever else happens (an event stream, an error of HTTP, a lost connection, a deadline, a client
that cancels), a task goes on from there in the ordinary way; the request is never sent twice.
"""

import time
from collections.abc import Callable
from typing import Final

from mcpproxy.proxy.core.exchange import Client
from mcpproxy.proxy.gateway import Gateway, Prepared
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message, RpcError

METHODS: Final = frozenset({"tools/call", "prompts/get", "resources/read", "completion/complete"})
"""Requests that are served in this way."""
_SPELT: Final = {b'"%b"' % method.encode(): method for method in METHODS}


def method_of(message: Message) -> str | None:
    """The method, if a message is a request that is served in this way and spelt as usual."""
    raw = message.get("method")
    return None if raw is None or "id" not in message else _SPELT.get(bytes(raw))


class Direct:
    """One call."""

    __slots__ = ("_begun", "_finish", "_gateway", "_go_on", "_over", "_prepared", "_request")

    def __init__(
        self,
        gateway: Gateway,
        request: Message,
        prepared: Prepared,
        finish: Callable[[Message, bytes], None],
        go_on: Callable[[Prepared], None],
    ) -> None:
        """`finish` takes the response and its bytes; or `go_on` has a task see to it."""
        self._gateway = gateway
        self._request = request
        self._prepared = prepared
        self._finish = finish
        self._go_on = go_on
        self._begun = time.perf_counter()
        self._over = False

    def begin(self, client: Client, *, levelled: bool = False) -> bool:
        """Send the request; False where that takes waiting. `levelled`: see `Calls.begin`."""
        backend, outgoing = self._prepared
        if self._gateway.tracing is not None:
            return False
        outgoing.leave = self.leave
        if not backend.begin(outgoing, client, self._answered, levelled=levelled):
            outgoing.leave = None
            return False
        self._gateway.in_flight += 1
        return True

    def leave(self) -> None:
        """Have a task go on."""
        if not self._over:
            self._end()
            self._go_on(self._prepared)

    def _end(self) -> None:
        self._over = True
        # It knows us and we know it: such pairs would be left to the garbage collector.
        self._prepared.outgoing.leave = None
        self._gateway.in_flight -= 1

    def _answered(self) -> None:
        if self._over:
            return
        backend, outgoing = self._prepared
        try:
            complete = backend.complete(outgoing)
        except RpcError:
            complete = None
        if complete is None:
            self.leave()
            return
        answer, body = complete
        self._end()
        assert outgoing.deadline is not None
        outgoing.deadline.cancel()
        outgoing.deadline = None
        request_id = self._request["id"]
        if body is None or answer.get("id") != request_id:
            answer["id"] = request_id
            body = jsonrpc.encode(answer)
        outcome = "error" if "error" in answer else "ok"
        seconds = time.perf_counter() - self._begun
        self._gateway.metrics.call(backend.name, outgoing.method, outcome, seconds)
        self._finish(answer, body)
