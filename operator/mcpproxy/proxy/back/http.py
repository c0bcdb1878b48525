"""Streamable HTTP backends of the legacy era."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Final

from mcpproxy.limits.streams import RESUMED_STREAMS
from mcpproxy.proxy.back.attribution import (
    COMPLETED,
    NOBODY,
    Users,
    own_id,
    progress_token,
    with_token,
)
from mcpproxy.proxy.back.endpoint import Endpoint, failed, no_response, read_json
from mcpproxy.proxy.back.event_stream import hold_back
from mcpproxy.proxy.back.inbox import Inbox
from mcpproxy.proxy.back.link import (
    OTHER_ID,
    Background,
    Greeting,
    OnMessage,
    Outgoing,
    is_announcement,
)
from mcpproxy.proxy.back.lost import Refusal, is_lost, refusal_of
from mcpproxy.proxy.back.questions import Questions
from mcpproxy.proxy.back.response import Response
from mcpproxy.proxy.core.errors import (
    BackendError,
    NotMcp,
    SessionGone,
    Unauthorized,
    Unreachable,
)
from mcpproxy.proxy.core.exchange import (
    CANCELLED,
    INITIALIZED,
    PROGRESS,
    Caller,
    Client,
    cancellation,
    cause_of,
)
from mcpproxy.proxy.wire import headers as h
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message

_INITIALIZED: Final = jsonrpc.encode(jsonrpc.told(INITIALIZED))
MAX_RESUMES: Final = RESUMED_STREAMS.value


class HttpLegacyLink:
    """A session of the legacy era, or the lack of one: `session_id` is None then."""

    def __init__(
        self,
        endpoint: Endpoint,
        greeting: Greeting,
        session_id: bytes | None,
        background: Background,
        *,
        shared: bool = False,
    ) -> None:
        """In a session that is `shared` by several clients, ids and progress tokens are our own.

        Where there is no session, each POST stands for itself, whatever its id is.
        """
        self.greeting = greeting
        self.stateful = session_id is not None
        self._endpoint = endpoint
        self._background = background
        self._questions = Questions(background, self._send, one_session=self.stateful)
        self._users = Users(ordered=False) if shared and self.stateful else None
        self._callers: dict[int, Outgoing] = {}
        """Requests in flight, in their order; what comes on no request's stream is for the latest,
        unless it names another one or may be for another client."""
        self._numbers = itertools.count(1)
        self._unheard: Response | None = None
        """What comes on no request's stream."""
        self._telling = False
        """Whether a part of that is being passed on."""
        self._headers: tuple[tuple[bytes, bytes], ...] = (
            (h.PROTOCOL_VERSION, greeting.revision.encode()),
        )
        if session_id is not None:
            self._headers += ((h.SESSION_ID, session_id),)

    @property
    def alive(self) -> bool:
        """See Link. Only the backend knows, and says so with 404."""
        return True

    async def request(self, outgoing: Outgoing, caller: Caller) -> Message:
        """See Link. A server request is answered while the stream is read on."""
        response: Response | None = outgoing.sent
        answered = False
        begun = outgoing.number
        if not begun:
            self._label(outgoing)
            self._enter(outgoing, caller.client)
        outgoing.caller = caller
        try:
            if begun:
                # What came before its answer, while no task waited, is told first.
                await asyncio.sleep(0)
            headers = (*self._headers, *outgoing.trace) if outgoing.trace else self._headers
            endpoint = self._endpoint.of(caller.client)
            try:
                response = await endpoint.post(
                    outgoing.body(), headers, sent=outgoing.sent, again=outgoing.repeatable
                )
            except Unauthorized:
                await self._make_sure(endpoint, outgoing, Refusal(0))
                raise
            if response.media_type != h.EVENT_STREAM:
                found = await self._plain(response, outgoing, endpoint)
            else:
                found = await self._streamed(response, outgoing, caller)
                if "error" in found:
                    refused = refusal_of(response.status, found)
                    await self._make_sure(endpoint, outgoing, refused)
            answered = True
            await self._drained(outgoing)
            found["id"] = outgoing.id
            return found
        except asyncio.CancelledError as error:
            if response is not None:
                response.close()
            told = cancellation(outgoing.known_as, cause_of(error))
            self._background.spawn(self._cancel(told))
            raise
        finally:
            self._leave(outgoing, answered=answered)
            self._questions.over(caller, answered=answered)

    def _label(self, outgoing: Outgoing) -> None:
        outgoing.number = next(self._numbers)
        if self._users is not None:
            outgoing.relabel(b"%d" % outgoing.number)

    def _enter(self, outgoing: Outgoing, client: Client) -> None:
        self._callers[outgoing.number] = outgoing
        if self._users is not None:
            self._users.enter(outgoing.number, client)

    def _leave(self, outgoing: Outgoing, *, answered: bool) -> None:
        self._callers.pop(outgoing.number, None)
        outgoing.caller = None
        if self._users is not None:
            self._users.leave(outgoing.number, answered=answered)
        if outgoing.inbox is not None:
            outgoing.inbox.close()
            outgoing.inbox = None

    def begin(
        self, outgoing: Outgoing, client: Client, done: Callable[[], None]
    ) -> Response | None:
        """See Link."""
        endpoint = self._endpoint.of(client) if client.headers else self._endpoint
        if not self.stateful:
            return endpoint.begin(outgoing.body(), self._headers, done)
        # As `_label` and `_enter`, whose calls would be a part of what a call costs.
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

    def completes(self, outgoing: Outgoing) -> bool:
        """See Link."""
        if not self.stateful:
            return True
        unheard = self._unheard
        if self._telling or (unheard is not None and unheard.waiting):
            return False
        del self._callers[outgoing.number]
        if self._users is not None:
            self._users.settle(outgoing.number)
        return True

    async def _make_sure(
        self, endpoint: Endpoint, outgoing: Outgoing, refused: Refusal | None
    ) -> None:
        """Raises SessionGone where a request was refused because the session is lost."""
        if refused is None or not self.stateful:
            return
        lost = refused.status == 404 or await is_lost(
            endpoint, self._headers, self.greeting.capabilities, outgoing.method, refused
        )
        if lost:
            raise SessionGone("its session does not exist any more")

    async def _plain(self, response: Response, outgoing: Outgoing, endpoint: Endpoint) -> Message:
        status = response.status
        passed_on = await outgoing.passed_on(response.rest, self._no_caller)
        if passed_on is not None:
            return passed_on
        known_as, caller = outgoing.known_as, outgoing.caller
        assert caller is not None
        message = await read_json(response, known_as, lambda part: self._told(part, caller))
        if (failure := failed(response, message)) is not None:
            raise failure
        await self._make_sure(endpoint, outgoing, refusal_of(status, message))
        if message is None or "method" in message:
            raise await no_response(response)
        if not jsonrpc.answers(message, known_as):
            raise NotMcp(OTHER_ID)
        return message

    async def _streamed(self, response: Response, outgoing: Outgoing, caller: Caller) -> Message:
        announced = foreign = False
        last_id: bytes | None = None
        for _ in range(MAX_RESUMES):
            reader = self._endpoint.events(response, last_id)
            while (messages := await reader.messages()) is not None:
                if reader.last_id is not None and not announced:
                    announced = True
                    await caller.streamed(reader.retry_ms)
                for message in messages:
                    if "method" in message:
                        await self._told(message, caller)
                    elif jsonrpc.answers(message, outgoing.known_as):
                        response.leave()
                        return message
                    else:
                        foreign = True
                passed_on = await outgoing.passed_on(reader.large, self._no_caller)
                if passed_on is not None:
                    response.leave()
                    return passed_on
            last_id = reader.last_id
            if last_id is None:
                break
            await caller.paused()
            await reader.pause()
            response = await self._resumed(last_id)
        else:
            RESUMED_STREAMS.record()
        if foreign:
            raise NotMcp(OTHER_ID)
        raise Unreachable(reader.without_response)

    async def _resumed(self, last_id: bytes) -> Response:
        """The stream of a response, behind the event of this id. Raises BackendError."""
        headers = (*self._headers, (h.LAST_EVENT_ID, last_id))
        response = await self._endpoint.get(headers)
        if response.status != 200 or response.media_type != h.EVENT_STREAM:
            response.close()
            raise Unreachable(f"its stream can't be resumed: it answers HTTP {response.status}")
        return response

    async def _told(self, message: Message, caller: Caller) -> None:
        """What comes on the stream of a request is about that one, unless it names another."""
        if "id" in message:
            await self._questions.put(message, caller)
        elif self._questions.open and await self._questions.withdrawn(message, caller):
            return
        elif self._users is None or not await self._named(message):
            await caller.notify(message)

    async def _named(self, message: Message) -> bool:
        """Pass on what names a request by an id of our own; whether it names one, or is to."""
        method = jsonrpc.string(message["method"])
        if method == CANCELLED:
            # Of a question that is over.
            return True
        token = progress_token(message) if method == PROGRESS else None
        if token is None:
            return method == PROGRESS
        number = own_id(token)
        outgoing = self._callers.get(int(number)) if number.isdigit() else None
        if outgoing is not None and outgoing.token is not None:
            await self._deliver(with_token(message, outgoing.token), outgoing)
        return True

    async def _deliver(self, message: Message, outgoing: Outgoing) -> None:
        """To the client of a request; one that is slow holds nobody else up."""
        caller = await self._taken_over(outgoing)
        if caller is None:
            return
        if len(self._callers) == 1:
            await caller.notify(message)
            return
        if outgoing.inbox is None:
            outgoing.inbox = Inbox(caller, self._background.spawn)
        outgoing.inbox.put(message)

    @staticmethod
    async def _drained(outgoing: Outgoing) -> None:
        """What came for the client elsewhere goes before the response."""
        if outgoing.inbox is not None:
            await outgoing.inbox.drained()

    def _no_caller(self, outgoing: Outgoing) -> None:
        """What comes on no request's stream is too late for who has got a part of the answer."""
        self._callers.pop(outgoing.number, None)

    async def _cancel(self, message: Message) -> None:
        try:
            await self.notify(message)
        except BackendError:
            return

    def begin_initialized(self, done: Callable[[], None]) -> Response | None:
        """POST `notifications/initialized`, if a connection is free; see `Connection.begin`."""
        return self._endpoint.begin(_INITIALIZED, self._headers, done)

    async def notify(self, message: Message, client: Client | None = None) -> None:
        """See Link."""
        endpoint = self._endpoint if client is None else self._endpoint.of(client)
        again = jsonrpc.string(message["method"]) == INITIALIZED
        await self._post(endpoint, jsonrpc.encode(message), again=again)

    async def _send(self, body: bytes) -> None:
        await self._post(self._endpoint, body)

    async def _post(self, endpoint: Endpoint, body: bytes, *, again: bool = False) -> None:
        status = await endpoint.deliver(body, self._headers, again=again)
        if status == 404 and self.stateful:
            raise SessionGone("its session does not exist any more")

    async def listen(
        self,
        standing: Caller,
        announced: OnMessage,
        ready: Callable[[], None],
        uris: Sequence[str] = (),
    ) -> None:
        """See Link: the stream of an HTTP GET."""
        response = await self._endpoint.get(self._headers)
        if response.status != 200 or response.media_type != h.EVENT_STREAM:
            response.close()
            if response.status == 404 and self.stateful:
                raise SessionGone("its session does not exist any more")
            ready()
            return
        ready()
        self._unheard = response
        try:
            reader = self._endpoint.events(response)
            while (messages := await reader.messages()) is not None:
                self._telling = True
                for message in messages:
                    await self._unrelated(message, standing, announced)
                self._telling = reader.has_more
                await hold_back(messages, self._endpoint.unrelated_rate)
        finally:
            self._unheard, self._telling = None, False
            response.close()

    @staticmethod
    async def _taken_over(outgoing: Outgoing) -> Caller | None:
        """The client's side of a request, which a task takes over if none has it."""
        if outgoing.caller is None and outgoing.leave is not None:
            outgoing.leave()
        if outgoing.caller is None:
            # The task that takes over is there after its first step.
            await asyncio.sleep(0)
        return outgoing.caller

    async def _latest(self, standing: Caller) -> Caller:
        """Who is told what comes on no request's stream."""
        if not self._callers:
            return standing
        if self._users is not None and not self._users.single:
            return NOBODY
        return await self._taken_over(next(reversed(self._callers.values()))) or standing

    async def _unrelated(self, message: Message, standing: Caller, announced: OnMessage) -> None:
        if is_announcement(message):
            await announced(message)
            return
        if "method" not in message:
            return
        asks = "id" in message
        if not asks and await self._questions.withdrawn(message, None):
            return
        if not asks and self._users is not None and await self._named(message):
            return
        if jsonrpc.string(message["method"]) == COMPLETED:
            caller = self._questions.elicited(message) or await self._latest(standing)
        else:
            caller = await self._latest(standing)
        await (self._questions.put(message, caller) if asks else caller.notify(message))

    async def close(self) -> None:
        """See Link: DELETE, where there is a session."""
        if self.stateful:
            try:
                await self._endpoint.delete(self._headers)
            except BackendError:
                return
