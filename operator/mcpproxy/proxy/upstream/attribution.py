"""Attribution of a backend's messages in a session that several clients share.

A response, a progress notification and a cancellation name their request by an id of the proxy. Log
messages and server requests name none on stdio, HTTP+SSE and the GET stream. They are forwarded
only if no other client can be meant. Otherwise log messages are dropped and counted, and server
requests get an error with the reason.
"""

import logging
import time
from collections.abc import Hashable
from typing import Final

from msgspec import Raw

from mcpproxy.limits.backends import ABANDONED_REQUESTS
from mcpproxy.proxy.core.exchange import ClientIdentity, NotificationHandler, NullContext
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import UNAVAILABLE, Message
from mcpproxy.proxy.protocol.revisions import LATEST_LEGACY

log = logging.getLogger("mcpproxy.backend")

AFTERMATH: Final = 5.0
"""Seconds after a response in which earlier messages may still arrive on another stream."""
WHY: Final = (
    "several clients share this session, and the message does not identify a request; set"
    " session.mode to PerClient or Isolated"
)
MOST_DIGITS: Final = 18
"""Maximum number of digits of a request's number."""
COMPLETED: Final = "notifications/elicitation/complete"
_REFUSAL: Final = jsonrpc.encode_raw({"code": UNAVAILABLE, "message": WHY})

unattributed: Final = {"log": 0, "notification": 0, "request": 0}
"""Number of messages to this process that reached no client, by kind."""


def progress_token(message: Message) -> Raw | None:
    """Return the token of a progress notification."""
    return jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY)).get("progressToken")


def replace_progress_token(message: Message, token: Raw) -> Message:
    """Return a progress notification with another token."""
    return {**message, "params": jsonrpc.replace_member(message["params"], progressToken=token)}


def new_request_id(raw: Raw) -> bytes:
    """Return the key of an id or token of the proxy. As in the SDKs, "7" equals 7."""
    return jsonrpc.id_key(raw).strip(b'"')


def request_number(raw: Raw) -> int | None:
    """Return the number of the request that an id or token of the proxy names; None for others."""
    digits = new_request_id(raw)
    return int(digits) if digits.isdigit() and len(digits) <= MOST_DIGITS else None


class SessionUsers:
    """The clients that a session currently serves.

    A client is identified by its downstream session. Without one, each request counts as a
    different client: equal or missing credentials do not prove that two requests belong together.
    """

    def __init__(self, *, ordered: bool) -> None:
        """`ordered` means that the backend uses one stream and sends nothing about a request
        after its response."""
        self._ordered = ordered
        self._of: dict[Hashable, Hashable] = {}
        """Request that the backend may send messages about → its client."""
        self._abandoned: set[Hashable] = set()
        """Requests without a response that the backend may still execute."""
        self._lost = False
        """True if there were too many abandoned requests to track."""
        self._last: Hashable = None
        """The client of the last response, its time, and the time of the last response to
        another client."""
        self._last_at = self._other_at = float("-inf")

    def enter(self, request: Hashable, client: ClientIdentity) -> None:
        """Record a request that was sent."""
        self._of[request] = client.session or object()

    def leave(self, request: Hashable, *, answered: bool) -> None:
        """Record that no task waits for a request any longer; without a response it is
        abandoned."""
        if answered:
            self.settle(request)
        elif len(self._abandoned) < ABANDONED_REQUESTS.value:
            self._abandoned.add(request)
        else:
            ABANDONED_REQUESTS.record()
            self._lost = True
            self.settle(request)

    def settle(self, request: Hashable) -> None:
        """Record the response to a request, even a late one."""
        client = self._of.pop(request, None)
        if self._abandoned:
            self._abandoned.discard(request)
        if client is None or self._ordered:
            return
        if client != self._last:
            self._last, self._other_at = client, self._last_at
        self._last_at = time.monotonic()

    @property
    def single(self) -> bool:
        """True if all requests that the backend may send messages about belong to one client."""
        clients = iter(self._of.values())
        client = next(clients, None)
        # Counting clients per request would slow down every call, and few messages need it.
        if self._lost or client is None or any(another != client for another in clients):
            return False
        if self._ordered:
            return True
        since = self._other_at if client == self._last else self._last_at
        return time.monotonic() - since > AFTERMATH


class NoUser(NullContext):
    """Context of messages that may belong to any of several clients."""

    def __init__(self) -> None:
        super().__init__(ClientIdentity(LATEST_LEGACY))

    async def notify(self, message: Message) -> None:
        # Dropped and counted.
        is_log = jsonrpc.decode_str(message.get("method")) == "notifications/message"
        unattributed["log" if is_log else "notification"] += 1
        log.debug("dropped a notification: %s", WHY)

    async def ask(
        self, request: Message, notify_backend: NotificationHandler | None = None
    ) -> Message:
        # The error names the reason.
        unattributed["request"] += 1
        log.debug("refused a server request: %s", WHY)
        return {"error": _REFUSAL}


NOBODY: Final = NoUser()
