"""Sessions with Streamable HTTP backends of the legacy era."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Final

from mcpproxy.limits.streams import RESUMED_STREAMS
from mcpproxy.proxy.core.errors import (
    BackendError,
    ProtocolError,
    SessionNotFound,
    Unauthorized,
    Unreachable,
)
from mcpproxy.proxy.core.exchange import (
    CANCELLED,
    INITIALIZED,
    PROGRESS,
    CallContext,
    ClientIdentity,
    cancel_notification_of,
    cancelled_notification,
)
from mcpproxy.proxy.http1.client.response import ClientResponse
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.attribution import (
    COMPLETED,
    NOBODY,
    SessionUsers,
    new_request_id,
    progress_token,
    replace_progress_token,
)
from mcpproxy.proxy.upstream.transports.event_stream import delay_unrelated
from mcpproxy.proxy.upstream.transports.http_endpoint import (
    McpHttpClient,
    failed,
    no_response,
    read_json,
)
from mcpproxy.proxy.upstream.transports.lost_sessions import SessionRefusal, is_lost, parse_refusal
from mcpproxy.proxy.upstream.transports.pending_request import MessageBuffer
from mcpproxy.proxy.upstream.transports.server_requests import ServerRequests
from mcpproxy.proxy.upstream.transports.session import (
    OTHER_ID,
    OnMessage,
    ServerDescription,
    TaskSet,
    UpstreamRequest,
    is_broadcast,
)

_INITIALIZED: Final = jsonrpc.encode(jsonrpc.notification_message(INITIALIZED))
MAX_RESUMES: Final = RESUMED_STREAMS.value


class HttpLegacySession:
    """A session of the legacy era, or a backend without sessions if `session_id` is None."""

    def __init__(
        self,
        endpoint: McpHttpClient,
        greeting: ServerDescription,
        session_id: bytes | None,
        background: TaskSet,
        *,
        shared: bool = False,
    ) -> None:
        """If the session is `shared` by several clients, the proxy assigns ids and progress
        tokens. Without a session every POST stands alone, so its id need not be unique."""
        self.greeting = greeting
        self.stateful = session_id is not None
        self._endpoint = endpoint
        self._background = background
        self._incoming = ServerRequests(background, self._send, one_session=self.stateful)
        self._users = SessionUsers(ordered=False) if shared and self.stateful else None
        self._callers: dict[int, UpstreamRequest] = {}
        """Running requests in their order. A message on the standalone stream belongs to the
        latest one, unless it names another request or may belong to another client."""
        self._numbers = itertools.count(1)
        self._standalone_stream: ClientResponse | None = None
        """The standalone GET stream, if it is open."""
        self._delivering = False
        """True while a chunk of the standalone stream is being delivered."""
        self._headers: tuple[tuple[bytes, bytes], ...] = (
            (h.PROTOCOL_VERSION, greeting.revision.encode()),
        )
        if session_id is not None:
            self._headers += ((h.SESSION_ID, session_id),)

    @property
    def alive(self) -> bool:
        # Only the backend knows, and responds with 404 if the session is lost.
        return True

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        # Server requests are answered while the stream is read.
        response: ClientResponse | None = outgoing.sent
        answered = False
        is_sent_early = outgoing.number
        if not is_sent_early:
            self._label(outgoing)
            self._enter(outgoing, caller.client)
        outgoing.caller = caller
        try:
            if is_sent_early:
                # Messages that came before the response, while no task waited, are delivered first.
                await asyncio.sleep(0)
            headers = (*self._headers, *outgoing.trace) if outgoing.trace else self._headers
            endpoint = self._endpoint.of(caller.client)
            try:
                response = await endpoint.post(
                    outgoing.body(), headers, sent=outgoing.sent, again=outgoing.repeatable
                )
            except Unauthorized:
                await self._check_session(endpoint, outgoing, SessionRefusal(0))
                raise
            if response.media_type != h.EVENT_STREAM:
                answer = await self._read_json(response, outgoing, endpoint)
            else:
                answer = await self._read_stream(response, outgoing, caller)
                if "error" in answer:
                    refusal = parse_refusal(response.status, answer)
                    await self._check_session(endpoint, outgoing, refusal)
            answered = True
            await outgoing.drained()
            answer["id"] = outgoing.id
            return answer
        except asyncio.CancelledError as error:
            if response is not None:
                response.close()
            cancellation = cancelled_notification(
                outgoing.upstream_id, cancel_notification_of(error)
            )
            self._background.spawn(self._cancel(cancellation))
            raise
        finally:
            self._leave(outgoing, answered=answered)
            self._incoming.close_for(caller, answered=answered)

    def _label(self, outgoing: UpstreamRequest) -> None:
        outgoing.number = next(self._numbers)
        if self._users is not None:
            outgoing.relabel(b"%d" % outgoing.number)

    def _enter(self, outgoing: UpstreamRequest, client: ClientIdentity) -> None:
        self._callers[outgoing.number] = outgoing
        if self._users is not None:
            self._users.enter(outgoing.number, client)

    def _leave(self, outgoing: UpstreamRequest, *, answered: bool) -> None:
        self._callers.pop(outgoing.number, None)
        outgoing.caller = None
        if self._users is not None:
            self._users.leave(outgoing.number, answered=answered)
        if outgoing.inbox is not None:
            outgoing.inbox.close()
            outgoing.inbox = None

    def begin(
        self, outgoing: UpstreamRequest, client: ClientIdentity, done: Callable[[], None]
    ) -> ClientResponse | None:
        endpoint = self._endpoint.of(client) if client.headers else self._endpoint
        if not self.stateful:
            return endpoint.begin(outgoing.body(), self._headers, done)
        # Inlines `_label` and `_enter`, because the calls are measurable on this path.
        users, number = self._users, next(self._numbers)
        if users is not None:
            outgoing.relabel(b"%d" % number)
        sent = endpoint.begin(outgoing.body(), self._headers, done)
        if sent is not None:
            outgoing.number = number
            self._callers[number] = outgoing
            if users is not None:
                users.enter(number, client)
        return sent

    def try_complete(self, outgoing: UpstreamRequest) -> bool:
        if not self.stateful:
            return True
        stream = self._standalone_stream
        if self._delivering or (stream is not None and stream.waiting):
            return False
        del self._callers[outgoing.number]
        if self._users is not None:
            self._users.settle(outgoing.number)
        return True

    async def _check_session(
        self, endpoint: McpHttpClient, outgoing: UpstreamRequest, refusal: SessionRefusal | None
    ) -> None:
        """Raise SessionNotFound if a request was refused because the session is lost."""
        if refusal is None or not self.stateful:
            return
        lost = refusal.status == 404 or await is_lost(
            endpoint, self._headers, self.greeting.capabilities, outgoing.method, refusal
        )
        if lost:
            raise SessionNotFound("its session does not exist any more")

    async def _read_json(
        self, response: ClientResponse, outgoing: UpstreamRequest, endpoint: McpHttpClient
    ) -> Message:
        status = response.status
        placeholder = await outgoing.relay_large(response.rest, self._detach)
        if placeholder is not None:
            return placeholder
        request_id, caller = outgoing.upstream_id, outgoing.caller
        assert caller is not None
        message = await read_json(response, request_id, lambda part: self._on_message(part, caller))
        if (failure := failed(response, message)) is not None:
            raise failure
        await self._check_session(endpoint, outgoing, parse_refusal(status, message))
        if message is None or "method" in message:
            raise await no_response(response)
        if not jsonrpc.answers(message, request_id):
            raise ProtocolError(OTHER_ID)
        return message

    async def _read_stream(
        self, response: ClientResponse, outgoing: UpstreamRequest, caller: CallContext
    ) -> Message:
        is_resumable = has_other_response = False
        last_id: bytes | None = None
        for _ in range(MAX_RESUMES):
            reader = self._endpoint.events(response, last_id)
            while (messages := await reader.messages()) is not None:
                if reader.last_id is not None and not is_resumable:
                    is_resumable = True
                    await caller.streamed(reader.retry_ms)
                for message in messages:
                    if "method" in message:
                        await self._on_message(message, caller)
                    elif jsonrpc.answers(message, outgoing.upstream_id):
                        response.leave()
                        return message
                    else:
                        has_other_response = True
                placeholder = await outgoing.relay_large(reader.large, self._detach)
                if placeholder is not None:
                    response.leave()
                    return placeholder
            last_id = reader.last_id
            if last_id is None:
                break
            await caller.paused()
            await reader.pause()
            response = await self._resume(last_id)
        else:
            RESUMED_STREAMS.record()
        if has_other_response:
            raise ProtocolError(OTHER_ID)
        raise Unreachable(reader.without_response)

    async def _resume(self, last_id: bytes) -> ClientResponse:
        """Resume the stream of a response after this event id. Raises BackendError."""
        headers = (*self._headers, (h.LAST_EVENT_ID, last_id))
        response = await self._endpoint.get(headers)
        if response.status != 200 or response.media_type != h.EVENT_STREAM:
            response.close()
            raise Unreachable(f"its stream can't be resumed: it answers HTTP {response.status}")
        return response

    async def _on_message(self, message: Message, caller: CallContext) -> None:
        """Deliver a message on the stream of a request; it belongs to that request unless it
        names another."""
        if "id" in message:
            await self._incoming.forward(message, caller)
        elif self._incoming.has_open and await self._incoming.cancel_from(message, caller):
            return
        elif self._users is None or not await self._deliver_named(message):
            await caller.notify(message)

    async def _deliver_named(self, message: Message) -> bool:
        """Deliver a message that names a request by an id of the proxy. Return False for other
        kinds of messages."""
        method = jsonrpc.decode_str(message["method"])
        if method == CANCELLED:
            # The server request it cancels is complete already.
            return True
        token = progress_token(message) if method == PROGRESS else None
        if token is None:
            return method == PROGRESS
        number = new_request_id(token)
        outgoing = self._callers.get(int(number)) if number.isdigit() else None
        if outgoing is not None and outgoing.token is not None:
            await self._deliver(replace_progress_token(message, outgoing.token), outgoing)
        return True

    async def _deliver(self, message: Message, outgoing: UpstreamRequest) -> None:
        """Deliver a message to the client of a request without blocking the stream for others."""
        caller = await outgoing.move_to_task()
        if caller is None:
            return
        if len(self._callers) == 1:
            await caller.notify(message)
            return
        if outgoing.inbox is None:
            outgoing.inbox = MessageBuffer(caller, self._background.spawn)
        outgoing.inbox.put(message)

    def _detach(self, outgoing: UpstreamRequest) -> None:
        """Detach a request whose client has part of the response: standalone messages come too
        late."""
        self._callers.pop(outgoing.number, None)

    async def _cancel(self, message: Message) -> None:
        try:
            await self.notify(message)
        except BackendError:
            return

    def begin_initialized(self, done: Callable[[], None]) -> ClientResponse | None:
        """POST `notifications/initialized` without a task, or return None if no connection is
        free."""
        return self._endpoint.begin(_INITIALIZED, self._headers, done)

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None:
        endpoint = self._endpoint if client is None else self._endpoint.of(client)
        again = jsonrpc.decode_str(message["method"]) == INITIALIZED
        await self._post(endpoint, jsonrpc.encode(message), again=again)

    async def _send(self, body: bytes) -> None:
        await self._post(self._endpoint, body)

    async def _post(self, endpoint: McpHttpClient, body: bytes, *, again: bool = False) -> None:
        status = await endpoint.deliver(body, self._headers, again=again)
        if status == 404 and self.stateful:
            raise SessionNotFound("its session does not exist any more")

    async def listen(
        self,
        standing: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        # The stream of an HTTP GET.
        response = await self._endpoint.get(self._headers)
        if response.status != 200 or response.media_type != h.EVENT_STREAM:
            response.close()
            if response.status == 404 and self.stateful:
                raise SessionNotFound("its session does not exist any more")
            ready()
            return
        ready()
        self._standalone_stream = response
        try:
            reader = self._endpoint.events(response)
            while (messages := await reader.messages()) is not None:
                self._delivering = True
                for message in messages:
                    await self._on_unrelated(message, standing, announced)
                self._delivering = reader.has_more
                await delay_unrelated(messages, self._endpoint.unrelated_rate)
        finally:
            self._standalone_stream, self._delivering = None, False
            response.close()

    async def _latest_context(self, standing: CallContext) -> CallContext:
        """Return the context for messages on the standalone stream."""
        if not self._callers:
            return standing
        if self._users is not None and not self._users.single:
            return NOBODY
        latest = next((c for c in reversed(self._callers.values()) if not c.repeatable), None)
        return (latest and await latest.move_to_task()) or standing

    async def _on_unrelated(
        self, message: Message, standing: CallContext, announced: OnMessage
    ) -> None:
        if is_broadcast(message):
            await announced(message)
            return
        if "method" not in message:
            return
        asks = "id" in message
        if not asks and await self._incoming.cancel_from(message, None):
            return
        if not asks and self._users is not None and await self._deliver_named(message):
            return
        if jsonrpc.decode_str(message["method"]) == COMPLETED:
            caller = self._incoming.elicited_by(message) or await self._latest_context(standing)
        else:
            caller = await self._latest_context(standing)
        await (self._incoming.forward(message, caller) if asks else caller.notify(message))

    async def close(self) -> None:
        # DELETE ends the session at the backend.
        if self.stateful:
            try:
                await self._endpoint.delete(self._headers)
            except BackendError:
                return
