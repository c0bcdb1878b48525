"""Server requests that were sent to a client, and that wait for its response."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec import Raw

from mcpproxy.proxy.core.exchange import (
    NOT_OFFERED,
    NotificationHandler,
    cancel_notification_of,
    cancelled_notification,
)
from mcpproxy.proxy.core.translation.era_translation import parse_meta
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message

Put = Callable[[bytes], Awaitable[None]]
"""Coroutine function that sends a message to a client's stream."""


@dataclass(slots=True)
class PendingServerRequest:
    """Server request without a response so far."""

    waiting: "asyncio.Future[Message]"
    token: Raw | None
    """Progress token of the backend for this request."""
    on_notification: NotificationHandler | None


class SentRequests(dict[bytes, PendingServerRequest]):
    """Server requests to one client that have no response so far.

    Their keys are the proxy's request ids, which are also their progress tokens.
    """

    async def send(
        self,
        request_id: bytes,
        request: Message,
        on_notification: NotificationHandler | None,
        put: Put,
    ) -> Message:
        """Send a server request with the id `request_id` through `put`, and return the response.

        If it is cancelled with a cause, the client gets `notifications/cancelled`.
        """
        request, token = restore_progress_token(request, request_id if on_notification else None)
        pending = PendingServerRequest(
            asyncio.get_running_loop().create_future(), token, on_notification
        )
        self[request_id] = pending
        try:
            await put(jsonrpc.encode({**request, "id": Raw(request_id)}))
            return await pending.waiting
        except asyncio.CancelledError as error:
            if (cause := cancel_notification_of(error)) is not None:
                await put(jsonrpc.encode(cancelled_notification(request_id, cause)))
            raise
        finally:
            del self[request_id]

    def refuse(self) -> None:
        """Complete all requests, because the client sends no more responses."""
        for pending in self.values():
            if not pending.waiting.done():
                pending.waiting.set_result({"error": NOT_OFFERED})

    def answer(self, message: Message) -> None:
        """Complete the server request to which a client responds; drop unexpected responses."""
        pending = self.get(jsonrpc.id_key(message["id"]))
        if pending is not None and not pending.waiting.done():
            pending.waiting.set_result(message)

    async def forward_progress(self, message: Message) -> None:
        """Forward a client's progress on a server request, with the backend's token."""
        pending = self.get(jsonrpc.id_key(progress_token(message)))
        if (
            pending is not None
            and pending.token is not None
            and pending.on_notification is not None
        ):
            params = jsonrpc.replace_member(message["params"], progressToken=pending.token)
            await pending.on_notification({**message, "params": params})


def progress_token(message: Message) -> Raw:
    """Return the token of a progress notification, or null without one."""
    params = jsonrpc.decode_object(message.get("params", jsonrpc.EMPTY))
    return params.get("progressToken", jsonrpc.NULL)


def restore_progress_token(request: Message, own: bytes | None) -> tuple[Message, Raw | None]:
    """Replace the progress token of a request by `own`; return the request and the old token."""
    if own is None or "params" not in request:
        return request, None
    params = jsonrpc.decode_object(request["params"])
    meta = parse_meta(params)
    token = meta.get("progressToken")
    if token is None:
        return request, None
    params["_meta"] = jsonrpc.encode_raw({**meta, "progressToken": Raw(own)})
    return {**request, "params": jsonrpc.encode_raw(params)}, token
