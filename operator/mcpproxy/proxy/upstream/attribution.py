"""Attribution of what a backend says in a session that carries requests of several clients.

A response, progress and a cancellation name the request they are about by ids of our own. Log
messages and requests of the server name none on standard streams, HTTP+SSE and the stream of an
HTTP GET. They reach a client only where no other one can be meant; else log messages are dropped
and counted, and requests of the server get an error that says why.
"""

import logging
import time
from collections.abc import Hashable
from typing import Final

from msgspec import Raw

from mcpproxy.limits.backends import ABANDONED_REQUESTS
from mcpproxy.proxy.core.exchange import ClientIdentity, NullContext, Told
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import UNAVAILABLE, Message
from mcpproxy.proxy.protocol.revisions import LATEST_LEGACY

log = logging.getLogger("mcpproxy.backend")

AFTERMATH: Final = 5.0
"""Seconds after a response in which what was said before it may still come on another stream."""
WHY: Final = (
    "requests of several clients share this session, and nothing says for which of them this is;"
    " set session.mode to PerClient or Isolated"
)
COMPLETED: Final = "notifications/elicitation/complete"
_REFUSAL: Final = jsonrpc.encode_raw({"code": UNAVAILABLE, "message": WHY})

unattributed: Final = {"log": 0, "notification": 0, "request": 0}
"""Messages of backends to this process that reached no client, by kind."""


def progress_token(message: Message) -> Raw | None:
    """The token of a progress notification."""
    return jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY)).get("progressToken")


def replace_progress_token(message: Message, token: Raw) -> Message:
    """A progress notification with another token."""
    return {**message, "params": jsonrpc.replace_member(message["params"], progressToken=token)}


def new_request_id(raw: Raw) -> bytes:
    """The key of an id or token that is a number of our own; as the SDKs do, "7" counts as 7."""
    return jsonrpc.id_key(raw).strip(b'"')


class SessionUsers:
    """The clients that a session serves at the moment.

    A client is known by its session with us. One without a session is another one with each
    request: neither the same credentials nor their absence make two requests those of one client.
    """

    def __init__(self, *, ordered: bool) -> None:
        """`ordered` says that the backend uses one stream, where nothing about a request comes
        behind its response."""
        self._ordered = ordered
        self._of: dict[Hashable, Hashable] = {}
        """Request that the backend may speak of → its client."""
        self._abandoned: set[Hashable] = set()
        """Requests without a response that the backend may still work on."""
        self._lost = False
        """Whether there were too many of those to be known."""
        self._last: Hashable = None
        """The client that was answered last, when, and when another one was before it."""
        self._last_at = self._other_at = float("-inf")

    def enter(self, request: Hashable, client: ClientIdentity) -> None:
        """A request of a client is sent."""
        self._of[request] = client.session or object()

    def leave(self, request: Hashable, *, answered: bool) -> None:
        """Nobody waits for a request any more, which has its response or is `abandoned`."""
        if answered:
            self.settle(request)
        elif len(self._abandoned) < ABANDONED_REQUESTS.value:
            self._abandoned.add(request)
        else:
            ABANDONED_REQUESTS.record()
            self._lost = True
            self.settle(request)

    def settle(self, request: Hashable) -> None:
        """The response to a request came, be it too late."""
        who = self._of.pop(request, None)
        if self._abandoned:
            self._abandoned.discard(request)
        if who is None or self._ordered:
            return
        if who != self._last:
            self._last, self._other_at = who, self._last_at
        self._last_at = time.monotonic()

    @property
    def single(self) -> bool:
        """Whether all that the backend may speak of are requests of one client."""
        clients = iter(self._of.values())
        who = next(clients, None)
        # Counting them with each request would cost every call; few messages ask for it.
        if self._lost or who is None or any(other != who for other in clients):
            return False
        if self._ordered:
            return True
        since = self._other_at if who == self._last else self._last_at
        return time.monotonic() - since > AFTERMATH


class NoUser(NullContext):
    """The caller of messages that may be meant for any of several clients."""

    def __init__(self) -> None:
        super().__init__(ClientIdentity(LATEST_LEGACY))

    async def notify(self, message: Message) -> None:
        """The message is dropped and counted."""
        is_log = jsonrpc.decode_str(message.get("method")) == "notifications/message"
        unattributed["log" if is_log else "notification"] += 1
        log.debug("a notification was dropped: %s", WHY)

    async def ask(self, request: Message, told: Told | None = None) -> Message:
        """The backend learns why it gets no answer."""
        unattributed["request"] += 1
        log.debug("a request of a backend was refused: %s", WHY)
        return {"error": _REFUSAL}


NOBODY: Final = NoUser()
