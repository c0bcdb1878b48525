"""Calls of clients with sessions that are relayed without a task."""

from typing import TYPE_CHECKING

from msgspec import Raw

from mcpproxy.proxy.core.tokens.session_token import SessionToken
from mcpproxy.proxy.downstream.direct_call import DirectCall
from mcpproxy.proxy.downstream.legacy.sessions import SessionState
from mcpproxy.proxy.gateway.gateway import PreparedCall
from mcpproxy.proxy.http1.server.request import Request
from mcpproxy.proxy.http1.server.response_writer import ResponseWriter
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message

if TYPE_CHECKING:
    from mcpproxy.proxy.downstream.legacy.http import LegacyEndpoint


class LegacyDirectCall(DirectCall):
    """Call of a client with a session, relayed without a task."""

    def __init__(
        self,
        front: "LegacyEndpoint",
        inbound: Request,
        ticket: SessionToken,
        live: SessionState,
        reply: ResponseWriter,
        request_id: Raw,
        prepared: PreparedCall,
    ) -> None:
        super().__init__(front.gateway, request_id, prepared)
        self.key = jsonrpc.id_key(request_id)
        """Key under which the client may cancel the call."""
        self._front = front
        self._inbound = inbound
        self._ticket = ticket
        self._live = live
        self._reply = reply

    def finish(self, body: bytes, answer: Message | None) -> None:
        self._live.in_flight.pop(self.key, None)
        self._front.live.release_if_idle(self._ticket.client)
        self._reply.complete(body)

    def go_on(self) -> None:
        about = (self._inbound, self._ticket, self._live, self._reply, self.prepared)
        self._reply.go_on(self._front.go_on(*about))
