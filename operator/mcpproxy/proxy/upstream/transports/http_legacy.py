"""Sessions with Streamable HTTP backends of the legacy era."""

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Raw

from mcpproxy.limits.sessions import RESUMED_STREAMS
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
from mcpproxy.proxy.core.session_records import SessionRecord
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.attribution import (
    COMPLETED,
    NOBODY,
    SessionUsers,
    progress_token,
    replace_progress_token,
    request_number,
)
from mcpproxy.proxy.upstream.json_responses import OTHER_ID, check_answer, failed, read_json
from mcpproxy.proxy.upstream.large_results import ResultRelay
from mcpproxy.proxy.upstream.transports.event_stream import (
    delay_unrelated,
    read_response,
    resume_stream,
)
from mcpproxy.proxy.upstream.transports.http_endpoint import Lines, McpHttpClient
from mcpproxy.proxy.upstream.transports.lost_sessions import (
    SessionRefusal,
    parse_refusal,
    post_message,
    raise_if_lost,
)
from mcpproxy.proxy.upstream.transports.server_requests import ServerRequests
from mcpproxy.proxy.upstream.transports.session import (
    HttpExchange,
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

    alive: Final = True
    """Only the backend knows, and responds with 404 if the session is lost."""

    def __init__(
        self,
        endpoint: McpHttpClient,
        server: ServerDescription,
        session_id: bytes | None,
        background: TaskSet,
        *,
        shared: bool = False,
        record: SessionRecord | None = None,
        resumed: bool = False,
    ) -> None:
        """If the session is `shared` by several clients, the proxy assigns ids and progress
        tokens. Without a session every POST stands alone, so its id need not be unique.

        Other instances that have the `record` may use the session as well; a `resumed` one is
        theirs, so its end here is not the end at the backend.
        """
        self.record, self.resumed = record, resumed
        self.server = server
        self.stateful = session_id is not None
        self._endpoint, self._background = endpoint, background
        self._users = SessionUsers(ordered=False) if shared and self.stateful else None
        self._exchanges: dict[int, HttpExchange] = {}
        """Running requests in their order. A message on the standalone stream belongs to the
        latest one, unless it names another request or may belong to another client."""
        self._numbers = itertools.count(1)
        self._standalone_stream: ClientResponse | None = None
        """The standalone GET stream, if it is open."""
        self._delivering = False
        """True while a chunk of the standalone stream is being delivered."""
        self._has_listener = False
        self.standalone = endpoint.standalone
        """Activity on the standalone streams of the backend."""
        version = (h.PROTOCOL_VERSION, server.revision.encode())
        self._headers: Lines = (version,)
        if session_id is not None:
            self._headers += ((h.SESSION_ID, session_id),)
        # Without a reference to the session: a cycle would outlive it until the garbage collector
        # runs, which delays calls.
        answer = functools.partial(post_message, endpoint, self._headers, is_session=self.stateful)
        self._incoming = ServerRequests(background, answer, one_session=self.stateful)

    def send(
        self,
        request: UpstreamRequest,
        client: ClientIdentity,
        on_response: Callable[[], None],
        detach: Callable[[], None],
    ) -> HttpExchange | None:
        endpoint = self._endpoint.of(client) if self._endpoint.by_client else self._endpoint
        users, number, request_id, token = self._users, 0, request.id, None
        if self.stateful:
            number = next(self._numbers)
            if users is not None:
                request_id = Raw(b"%d" % number)
            tracks = users is not None or (self.standalone.offered and not self._has_listener)
            if tracks and request.params is not None and "_meta" in request.params:
                try:
                    token = request.progress_token()
                except RpcError:
                    return None  # The task reports it.
                if users is None and token is not None:
                    return None  # The task opens the stream, on which progress may come.
        if token is None and request.extra is None:
            envelope = jsonrpc.RequestEnvelope("2.0", request_id, request.method, request.params)
            body = jsonrpc.encode(envelope)
        else:
            body = request.body(request_id)
        response = endpoint.send(body, self._headers, on_response)
        if response is None:
            return None
        exchange = HttpExchange(self, request, request_id, response, number, token, detach)
        if number:
            self._exchanges[number] = exchange
        if users is not None:
            users.enter(number, client)
        return exchange

    def try_complete(self, exchange: HttpExchange) -> bool:
        stream = self._standalone_stream
        if self._delivering or (stream is not None and stream.waiting):
            return False
        del self._exchanges[exchange.number]
        if self._users is not None:
            self._users.settle(exchange.number)
        return True

    @property
    def has_stream(self) -> bool:
        """True if the standalone stream is open."""
        return self._standalone_stream is not None

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        exchange = HttpExchange(self, outgoing, outgoing.id)
        return await self.resume(exchange, caller, outgoing.large_result)

    async def resume(
        self, exchange: HttpExchange, caller: CallContext, large_result: ResultRelay | None
    ) -> Message:
        # Server requests are answered while the stream is read.
        answered, is_tracked = False, exchange.number > 0
        exchange.begin_task(caller, large_result)
        if not is_tracked:
            exchange.assign_number(next(self._numbers), replaces_id=self._users is not None)
            if self._users is not None:
                self._users.enter(exchange.number, caller.client)
            self._exchanges[exchange.number] = exchange
        try:
            if is_tracked:
                # Messages that came before the response, while no task waited, are delivered first.
                await asyncio.sleep(0)
            answer = await self._receive(exchange, caller)
            answered = True
            await exchange.drained()
            answer["id"] = exchange.request.id
            return answer
        except BaseException as error:
            exchange.give_up()
            if isinstance(error, asyncio.CancelledError):
                cancellation = cancelled_notification(exchange.id, cancel_notification_of(error))
                self._background.spawn(self._cancel(cancellation))
            raise
        finally:
            self._exchanges.pop(exchange.number, None)
            if self._users is not None:
                self._users.leave(exchange.number, answered=answered)
            exchange.end_task()
            self._incoming.close_for(caller, answered=answered)

    async def _receive(self, exchange: HttpExchange, caller: CallContext) -> Message:
        request = exchange.request
        endpoint = self._endpoint.of(caller.client)
        headers = (*self._headers, *request.trace) if request.trace else self._headers
        try:
            body, again = request.body(exchange.id), request.repeatable
            response = await endpoint.post(body, headers, sent=exchange.response, again=again)
        except Unauthorized:
            await self._check_session(endpoint, exchange, SessionRefusal(0))
            raise
        exchange.begin_response(response)
        if response.media_type != h.EVENT_STREAM:
            return await self._read_json(response, exchange, endpoint)
        answer = await self._read_stream(response, exchange, caller)
        if "error" in answer:
            refusal = parse_refusal(response.status, answer)
            await self._check_session(endpoint, exchange, refusal)
        return answer

    async def _check_session(
        self, endpoint: McpHttpClient, exchange: HttpExchange, refusal: SessionRefusal | None
    ) -> None:
        """Raise SessionNotFound if a request was refused because the session is lost."""
        if refusal is None or not self.stateful:
            return
        capabilities, method = self.server.capabilities, exchange.request.method
        await raise_if_lost(endpoint, self._headers, capabilities, method, refusal)

    async def _read_json(
        self, response: ClientResponse, exchange: HttpExchange, endpoint: McpHttpClient
    ) -> Message:
        placeholder = await exchange.relay_large(response.rest, self._detach)
        if placeholder is not None:
            return placeholder
        request_id, caller = exchange.id, exchange.caller
        assert caller is not None
        message = await read_json(response, request_id, lambda part: self._on_message(part, caller))
        if (failure := failed(response, message)) is not None:
            raise failure
        await self._check_session(endpoint, exchange, parse_refusal(response.status, message))
        return await check_answer(response, message, request_id)

    async def _read_stream(
        self, response: ClientResponse, exchange: HttpExchange, caller: CallContext
    ) -> Message:
        has_other_response, last_id = False, None
        for _ in range(MAX_RESUMES):
            reader = self._endpoint.events(response, last_id)
            on_message = functools.partial(self._on_message, caller=caller)
            answer, has_other = await read_response(
                reader, exchange, on_message, self._detach, caller.resumption
            )
            if answer is not None:
                response.leave()
                return answer
            has_other_response, last_id = has_other_response or has_other, reader.last_id
            if last_id is None:
                break
            if caller.resumption is not None:
                await caller.resumption.pause()
            await reader.pause()
            response = await resume_stream(self._endpoint.get, self._headers, last_id)
            exchange.begin_response(response)
        else:
            RESUMED_STREAMS.record()
        if has_other_response:
            raise ProtocolError(OTHER_ID)
        raise Unreachable(reader.without_response)

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
        number = request_number(token)
        exchange = None if number is None else self._exchanges.get(number)
        if exchange is not None and exchange.token is not None:
            await self._deliver(replace_progress_token(message, exchange.token), exchange)
        return True

    async def _deliver(self, message: Message, exchange: HttpExchange) -> None:
        """Deliver a message to the client of a request without blocking the stream for others."""
        caller = await exchange.move_to_task()
        if caller is None:
            return
        if len(self._exchanges) == 1:
            await caller.notify(message)
            return
        exchange.put(message, caller, self._background)

    def _detach(self, exchange: HttpExchange) -> None:
        """Detach a request whose client has part of the response: messages come too late."""
        self._exchanges.pop(exchange.number, None)

    async def _cancel(self, message: Message) -> None:
        with contextlib.suppress(BackendError):
            await self.notify(message)

    def begin_initialized(self, done: Callable[[], None]) -> ClientResponse | None:
        """POST `notifications/initialized` without a task; None if no connection is free."""
        return self._endpoint.send(_INITIALIZED, self._headers, done)

    async def notify(self, message: Message, client: ClientIdentity | None = None) -> None:
        endpoint = self._endpoint if client is None else self._endpoint.of(client)
        again = jsonrpc.decode_str(message["method"]) == INITIALIZED
        body = jsonrpc.encode(message)
        await post_message(endpoint, self._headers, body, is_session=self.stateful, again=again)

    async def listen(
        self,
        session_context: CallContext,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        # The stream of an HTTP GET.
        self._has_listener = True
        try:
            response = await self._endpoint.get(self._headers)
        except BaseException:
            self._has_listener = False
            raise
        self.standalone.record_opening(response.status)
        if response.status != 200 or response.media_type != h.EVENT_STREAM:
            response.close()
            if response.status == 404 and self.stateful:
                raise SessionNotFound("the session no longer exists")
            ready()
            return
        self._standalone_stream = response
        ready()
        try:
            reader = self._endpoint.events(response)
            while (messages := await reader.messages()) is not None:
                self._delivering = True
                if messages:
                    self.standalone.record_message(asyncio.get_running_loop().time())
                for message in messages:
                    await self._on_unrelated(message, session_context, announced)
                self._delivering = reader.has_more
                await delay_unrelated(messages, self._endpoint.unrelated_rate)
        finally:
            self._standalone_stream, self._delivering, self._has_listener = None, False, False
            response.close()

    async def _latest_context(self, session_context: CallContext) -> CallContext:
        """Return the context for messages on the standalone stream."""
        if not self._exchanges:
            return session_context
        if self._users is not None and not self._users.single:
            return NOBODY
        exchanges = reversed(self._exchanges.values())
        latest = next((e for e in exchanges if not e.request.repeatable), None)
        return (latest and await latest.move_to_task()) or session_context

    async def _on_unrelated(
        self, message: Message, session_context: CallContext, announced: OnMessage
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
        is_completed = jsonrpc.decode_str(message["method"]) == COMPLETED
        context = self._incoming.elicited_by(message) if is_completed else None
        caller = context or await self._latest_context(session_context)
        await (self._incoming.forward(message, caller) if asks else caller.notify(message))

    def begin_close(self, done: Callable[[], None]) -> ClientResponse | None:
        """DELETE the session without a task, or return None if `close` has to."""
        return None if self.resumed else self._endpoint.begin_delete(self._headers, done)

    async def close(self) -> None:
        if self.stateful and not self.resumed:
            with contextlib.suppress(BackendError):
                await self._endpoint.delete(self._headers)
