"""Streamable HTTP backends of the legacy era."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Final

from mcpproxy.proxy.back.connection import Response
from mcpproxy.proxy.back.endpoint import MAX_MESSAGE, Endpoint, EventReader, read_json
from mcpproxy.proxy.back.link import (
    Background,
    Greeting,
    OnMessage,
    Outgoing,
    is_announcement,
)
from mcpproxy.proxy.back.questions import Questions
from mcpproxy.proxy.core.errors import (
    BackendError,
    NotMcp,
    SessionGone,
    Unreachable,
)
from mcpproxy.proxy.core.exchange import Caller, Client, cancellation, cause_of
from mcpproxy.proxy.wire import headers as h
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message

MAX_RESUMES: Final = 100


class HttpLegacyLink:
    """A session of the legacy era, or the lack of one: `session_id` is None then."""

    def __init__(
        self,
        endpoint: Endpoint,
        greeting: Greeting,
        session_id: bytes | None,
        background: Background,
    ) -> None:
        self.greeting = greeting
        self.stateful = session_id is not None
        self._endpoint = endpoint
        self._background = background
        self._questions = Questions(background, self._send, one_session=self.stateful)
        self._callers: dict[int, Caller | Outgoing] = {}
        """By the order of their requests; what comes on no request's stream is for the latest.

        A request that no task waits for stands for itself.
        """
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
        number = outgoing.number = begun or next(self._numbers)
        self._callers[number] = caller
        try:
            if begun:
                # What came before its answer, while no task waited, is told first.
                await asyncio.sleep(0)
            headers = (*self._headers, *outgoing.trace) if outgoing.trace else self._headers
            endpoint = self._endpoint.of(caller.client)
            response = await endpoint.post(outgoing.body(), headers, sent=outgoing.sent)
            if response.media_type != h.EVENT_STREAM:
                found = await self._plain(response, outgoing)
            else:
                found = await self._streamed(response, outgoing, caller)
            answered = True
            return found
        except asyncio.CancelledError as error:
            if response is not None:
                response.close()
            self._background.spawn(self._cancel(cancellation(outgoing.id, cause_of(error))))
            raise
        finally:
            self._callers.pop(number, None)
            self._questions.over(caller, answered=answered)

    def begin(
        self, outgoing: Outgoing, client: Client, done: Callable[[], None]
    ) -> Response | None:
        """See Link."""
        endpoint = self._endpoint.of(client) if client.headers else self._endpoint
        sent = endpoint.begin(outgoing.body(), self._headers, done)
        if self.stateful and sent is not None:
            outgoing.number = next(self._numbers)
            self._callers[outgoing.number] = outgoing
        return sent

    def completes(self, outgoing: Outgoing) -> bool:
        """See Link."""
        if not self.stateful:
            return True
        unheard = self._unheard
        if self._telling or (unheard is not None and unheard.waiting):
            return False
        del self._callers[outgoing.number]
        return True

    async def _plain(self, response: Response, outgoing: Outgoing) -> Message:
        status = response.status
        passed_on = await outgoing.passed_on(response.rest, self._no_caller)
        if passed_on is not None:
            return passed_on
        message = await read_json(response)
        if status == 404 and self.stateful:
            raise SessionGone("its session does not exist any more")
        if message is None or "method" in message:
            raise NotMcp(f"it answers HTTP {status} without a JSON-RPC response")
        return message

    async def _streamed(self, response: Response, outgoing: Outgoing, caller: Caller) -> Message:
        announced = False
        last_id: bytes | None = None
        for _ in range(MAX_RESUMES):
            reader = EventReader(response, last_id)
            while (messages := await reader.messages()) is not None:
                if reader.last_id is not None and not announced:
                    announced = True
                    await caller.streamed(reader.retry_ms)
                for message in messages:
                    if "method" in message:
                        await self._told(message, caller)
                    elif jsonrpc.same_id(message.get("id"), outgoing.id):
                        response.leave()
                        return message
                passed_on = await outgoing.passed_on(reader.large, self._no_caller)
                if passed_on is not None:
                    response.leave()
                    return passed_on
            last_id = reader.last_id
            if last_id is None:
                break
            await caller.paused()
            await reader.pause()
            response = await self._endpoint.get((*self._headers, (h.LAST_EVENT_ID, last_id)))
        raise Unreachable("its stream ended without a response")

    async def _told(self, message: Message, caller: Caller) -> None:
        if "id" in message:
            await self._questions.put(message, caller)
        elif not (self._questions.open and await self._questions.withdrawn(message, caller)):
            await caller.notify(message)

    def _no_caller(self, outgoing: Outgoing) -> None:
        """What comes on no request's stream is too late for who has got a part of the answer."""
        self._callers.pop(outgoing.number, None)

    async def _cancel(self, message: Message) -> None:
        try:
            await self.notify(message)
        except BackendError:
            return

    async def notify(self, message: Message, client: Client | None = None) -> None:
        """See Link."""
        endpoint = self._endpoint if client is None else self._endpoint.of(client)
        await self._post(endpoint, jsonrpc.encode(message))

    async def _send(self, body: bytes) -> None:
        await self._post(self._endpoint, body)

    async def _post(self, endpoint: Endpoint, body: bytes) -> None:
        response = await endpoint.post(body, self._headers)
        await response.read(MAX_MESSAGE)
        if response.status == 404 and self.stateful:
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
            reader = EventReader(response)
            while (messages := await reader.messages()) is not None:
                self._telling = True
                for message in messages:
                    await self._unrelated(message, standing, announced)
                self._telling = False
        finally:
            self._unheard, self._telling = None, False
            response.close()

    async def _latest(self, standing: Caller) -> Caller:
        """Who is told what comes on no request's stream."""
        if not self._callers:
            return standing
        number, found = next(reversed(self._callers.items()))
        if isinstance(found, Outgoing):
            if found.leave is not None:
                found.leave()
            # The task that takes over is a caller after its first step.
            await asyncio.sleep(0)
            found = self._callers.get(number, found)
        return standing if isinstance(found, Outgoing) else found

    async def _unrelated(self, message: Message, standing: Caller, announced: OnMessage) -> None:
        if is_announcement(message):
            await announced(message)
            return
        caller = await self._latest(standing)
        if "method" in message and "id" in message:
            await self._questions.put(message, caller)
        elif "method" in message and not await self._questions.withdrawn(message, caller):
            await caller.notify(message)

    async def close(self) -> None:
        """See Link: DELETE, where there is a session."""
        if self.stateful:
            try:
                async with asyncio.timeout(5):
                    await self._endpoint.delete(self._headers)
            except (BackendError, TimeoutError):
                return
