"""One call on its way to a backend: names inward, the right era, deadlines, names outward."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from msgspec import Raw

from mcpproxy.proxy.back.link import Greeting, Link, OnMessage, Outgoing, is_announcement
from mcpproxy.proxy.back.passing import Onward
from mcpproxy.proxy.back.sessions import Sessions
from mcpproxy.proxy.core import eras
from mcpproxy.proxy.core.deadlines import Deadline, Deadlines
from mcpproxy.proxy.core.errors import NotMcp, SessionGone, TimedOut
from mcpproxy.proxy.core.exchange import Caller, Client, Told
from mcpproxy.proxy.core.names import Names
from mcpproxy.proxy.core.rewrite import outward_error, outward_notification, outward_result
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire.jsonrpc import Message, RpcError

MAX_ROUNDS: Final = 16
"""How often a modern backend may ask a legacy client before its call ends in an error."""


class Mapping:
    """A caller of one backend: names are mapped, what concerns all clients goes its own way."""

    __slots__ = ("_announced", "_caller", "_names", "client", "log_level")

    def __init__(self, caller: Caller, names: Names, announced: OnMessage) -> None:
        self.client = caller.client
        self.log_level = caller.log_level
        self._caller = caller
        self._names = names
        self._announced = announced

    def notify(self, message: Message) -> Awaitable[None]:
        """See Caller."""
        if is_announcement(message):
            return self._announced(message)
        return self._caller.notify(outward_notification(message, self._names))

    async def ask(self, request: Message, told: Told | None = None) -> Message:
        """See Caller."""
        return await self._caller.ask(request, told)

    async def streamed(self, retry: int | None) -> None:
        """See Caller."""
        await self._caller.streamed(retry)

    async def paused(self) -> None:
        """See Caller."""
        await self._caller.paused()


class Timed(Mapping):
    """The caller of a request that has to be answered in time."""

    __slots__ = ("_asking", "_before", "_deadline", "_over", "_task")

    def __init__(
        self,
        caller: Caller,
        names: Names,
        announced: OnMessage,
        deadlines: Deadlines,
        task: "asyncio.Task[Any]",
        deadline: Deadline | None,
    ) -> None:
        """`task` is cancelled when the time is over; then `late` tells so.

        `deadline` is given where its time runs already.
        """
        super().__init__(caller, names, announced)
        self._task = task
        self._before = task.cancelling()
        self._asking = 0
        self._over = False
        self._deadline = deadline or deadlines.start(task.cancel)
        if deadline is not None:
            deadline.hand_to(task.cancel)

    def heard(self) -> None:
        """Who says something is not late."""
        if not (self._asking or self._over):
            self._deadline.restart()

    def suspend(self) -> None:
        """It is somebody else who is waited for, until more is heard."""
        self._deadline.cancel()

    def notify(self, message: Message) -> Awaitable[None]:
        """See Caller."""
        self.heard()
        return super().notify(message)

    async def ask(self, request: Message, told: Told | None = None) -> Message:
        """See Caller. While a person thinks, the backend is not late."""
        self._asking += 1
        self._deadline.cancel()
        try:
            return await super().ask(request, told)
        finally:
            self._asking -= 1
            if not (self._asking or self._over):
                self._deadline.restart()

    def late(self) -> bool:
        """Whether it was the deadline alone that cancelled the task; then that is over."""
        return self._deadline.missed and self._task.uncancel() <= self._before

    def answered(self) -> None:
        """The request has ended."""
        self._over = True
        self._deadline.cancel()


class Calls:
    """Sends requests of clients to one backend."""

    def __init__(
        self, names: Names, sessions: Sessions, timeout: float, announced: OnMessage
    ) -> None:
        """`timeout` is in seconds, from the last sign of life to the answer.

        `announced` gets what a backend tells all clients on the stream of one call.
        """
        self._announced = announced
        self._names = names
        self._sessions = sessions
        self._timeout = timeout
        self._deadlines: Deadlines | None = None

    async def call(self, outgoing: Outgoing, caller: Caller) -> Message:
        """The response, as this client understands it; its id is the request's.

        Raises BackendError, TimedOut among it.
        """
        deadlines = self._timing()
        task = asyncio.current_task(self._loop)
        assert task is not None
        timed = Timed(caller, self._names, self._announced, deadlines, task, outgoing.deadline)
        if outgoing.sink is not None:
            sink, method = outgoing.sink, outgoing.method
            outgoing.onward = Onward(sink, method, self._names, timed)
        link = self._sessions.sessionless(caller.client) if outgoing.sent is None else outgoing.link
        try:
            if link is None or outgoing.held is not None:
                answer = await self._sent(outgoing, timed)
            else:
                answer = await _on(link, outgoing, timed)
        except asyncio.CancelledError:
            if timed.late():
                raise TimedOut(f"no answer within {self._timeout:g} s") from None
            raise
        finally:
            timed.answered()
        return self._outward(outgoing.method, answer)

    def begin(
        self, outgoing: Outgoing, client: Client, done: Callable[[], None], levelled: bool
    ) -> bool:
        """Send a request at once, if that is possible; its answer is `outgoing.sent`.

        `done` is called when there is something to look at, see `Connection.begin`;
        `outgoing.leave` when its time is over, or something has to be told to who asks. Whatever
        then is not `complete` has to go to `call`. `levelled` says that the client has set a level
        for log messages.
        """
        link = self._sessions.sessionless(client)
        held = None
        if link is None:
            # Backends of the modern era keep no sessions.
            held = None if levelled or client.modern else self._sessions.hold(client)
            if held is None:
                return False
            link = held.link
        sent = outgoing
        if client.modern is not link.greeting.modern:
            if levelled:
                return False
            sent = outgoing.bridged = _bridged(outgoing, client, link.greeting)
        response = sent.sent = outgoing.sent = link.begin(sent, client, done)
        if response is None:
            if held is not None:
                self._sessions.give_back(held)
            return False
        outgoing.link = link
        if held is not None:
            outgoing.held = held
        assert outgoing.leave is not None
        outgoing.deadline = self._timing().start(outgoing.leave)
        return True

    def whole(self, outgoing: Outgoing) -> bytes | None:
        """The response, where `begin` brought a result that this client takes as it is; None
        where that takes a closer look, see `complete`."""
        response = outgoing.sent
        assert response is not None
        body = response.whole
        if body is None or response.status != 200:
            return None
        if response.headers.get(b"content-type") != b"application/json":
            return None
        found = jsonrpc.success(body)
        if found is None or found.id != outgoing.id:
            return None
        if outgoing.bridged is not None:
            result = _respelt(outgoing, bytes(found.result))
            if result is None:
                return None
            body = jsonrpc.response(found.id, result)
        if self._names.prefix and (b'"uri"' in body or b"\\u" in body):
            return None
        if outgoing.held is not None:
            assert outgoing.link is not None
            if not outgoing.link.completes(outgoing):
                return None
            self._sessions.release(outgoing.held)
        return body

    def complete(self, outgoing: Outgoing) -> Message | None:
        """The response, where `begin` brought it as one JSON message, as this client understands
        it; None otherwise. Raises BackendError, RpcError."""
        response = outgoing.sent
        assert response is not None
        assert outgoing.link is not None
        body = response.whole
        if not body or response.status != 200 or response.media_type != b"application/json":
            return None
        message = jsonrpc.parse(body)
        if "method" in message:
            return None
        if outgoing.bridged is not None:
            if outgoing.link.greeting.modern:
                if _wants_input(message):
                    return None
                message = _legacy_answer(outgoing, message)
            else:
                message = _modern_answer(outgoing, message)
        answer = self._outward(outgoing.method, message)
        if not outgoing.link.completes(outgoing):
            return None
        if outgoing.held is not None:
            self._sessions.release(outgoing.held)
        return answer

    def _timing(self) -> Deadlines:
        if self._deadlines is None:
            self._loop = asyncio.get_running_loop()
            self._deadlines = Deadlines(self._loop, self._timeout)
        return self._deadlines

    async def _sent(self, outgoing: Outgoing, caller: Caller) -> Message:
        try:
            async with self._sessions.use(caller.client, outgoing.held) as link:
                return await _on(link, outgoing, caller)
        except SessionGone:
            # The backend forgot the session and executed nothing: once more, with a new one.
            self._sessions.reset()
            outgoing.sent, outgoing.bridged, outgoing.number = None, None, 0
            async with self._sessions.use(caller.client) as link:
                return await _on(link, outgoing, caller)

    def _outward(self, method: str, answer: Message) -> Message:
        if not self._names.prefix:
            return answer
        if "result" in answer:
            result = outward_result(method, answer["result"], self._names)
            return answer if result is answer["result"] else {**answer, "result": result}
        return {**answer, "error": outward_error(answer["error"], self._names)}


def _on(link: Link, outgoing: Outgoing, caller: Caller) -> Coroutine[Any, Any, Message]:
    """Send a request over a link, translated where the eras of client and backend differ."""
    modern_client, modern_backend = caller.client.modern, link.greeting.modern
    if modern_client == modern_backend:
        if not modern_client and caller.log_level is not None and link.stateful:
            return _levelled(link, outgoing, caller)
        return link.request(outgoing, caller)
    if modern_client:
        return _to_legacy(link, outgoing, caller)
    return _to_modern(link, outgoing, caller)


async def _levelled(link: Link, outgoing: Outgoing, caller: Caller) -> Message:
    await _set_level(link, caller)
    return await link.request(outgoing, caller)


_levels: Final = itertools.count(1)


async def _set_level(link: Link, caller: Caller) -> None:
    if "logging" in link.greeting.capabilities:
        params = {"level": jsonrpc.dump(caller.log_level)}
        own = Raw(b'"mcpproxy-level-%d"' % next(_levels))
        await link.request(Outgoing(own, "logging/setLevel", params), caller)


def _bridged(
    outgoing: Outgoing, client: Client, greeting: Greeting, log_level: str | None = None
) -> Outgoing:
    """The request that stands for this one with a backend of the other era."""
    if not greeting.modern:
        return outgoing.having(eras.unstamped(outgoing.params))
    return outgoing.having(eras.stamped(outgoing.params, client, greeting.revision, log_level))


def _respelt(outgoing: Outgoing, result: bytes) -> bytes | None:
    """A result for a client of the other era than its backend's; None where it has to be read."""
    assert outgoing.link is not None
    if outgoing.link.greeting.modern:
        return eras.legacy_spelling(result)
    return eras.modern_spelling(outgoing.method, result)


def _modern_answer(outgoing: Outgoing, answer: Message) -> Message:
    """A legacy backend's answer for a modern client. Raises NotMcp."""
    if "result" in answer:
        _members(answer)
        return {**answer, "result": eras.modern_result(outgoing.method, answer["result"])}
    return {**answer, "error": eras.modern_error(answer["error"])}


def _legacy_answer(outgoing: Outgoing, answer: Message) -> Message:
    """A modern backend's answer, which wants no input, for a legacy client."""
    if "result" in answer:
        return {**answer, "id": outgoing.id, "result": eras.legacy_result(answer["result"])}
    error = eras.legacy_error(outgoing.method, answer["error"])
    return {**answer, "id": outgoing.id, "error": error}


def _wants_input(answer: Message) -> bool:
    """Whether the answer of a modern backend is a question. Raises NotMcp."""
    if "result" not in answer:
        return False
    return jsonrpc.string(_members(answer).get("resultType")) == "input_required"


async def _to_legacy(link: Link, outgoing: Outgoing, caller: Caller) -> Message:
    if caller.log_level is not None and link.stateful:
        await _set_level(link, caller)
    sent = outgoing.bridged or _bridged(outgoing, caller.client, link.greeting)
    return _modern_answer(outgoing, await link.request(sent, caller))


async def _to_modern(link: Link, outgoing: Outgoing, caller: Caller) -> Message:
    """Where the backend wants input, the client is asked and the call made again (new id)."""
    sent = outgoing.bridged or _bridged(outgoing, caller.client, link.greeting, caller.log_level)
    for round_ in range(MAX_ROUNDS):
        answer = await link.request(sent, caller)
        if not _wants_input(answer):
            return _legacy_answer(outgoing, answer)
        result = _members(answer)
        params = {**(sent.params or {}), **await inputs(result, caller)}
        if "requestState" not in result:
            params.pop("requestState", None)
        request_id = jsonrpc.dump(f"{jsonrpc.value(outgoing.id)}-retry-{round_ + 1}")
        sent = outgoing.having(params, request_id)
    raise NotMcp(f"it asked for input more than {MAX_ROUNDS} times")


def _members(answer: Message) -> Message:
    """The members of a result. Raises NotMcp when it is no object: the backend's fault."""
    try:
        return jsonrpc.members(answer["result"])
    except RpcError:
        raise NotMcp("its result is not a JSON object") from None


async def inputs(result: Message, caller: Caller) -> Message:
    """Ask the client for every input; the members to add to the params of the retry.

    Raises RpcError where the client has no answer.
    """
    wanted = jsonrpc.members(result.get("inputRequests", jsonrpc.EMPTY))
    answers: dict[str, Any] = {}
    for key, raw in wanted.items():
        request = {"jsonrpc": jsonrpc.VERSION, "id": jsonrpc.dump(key), **jsonrpc.members(raw)}
        answer = await caller.ask(request)
        error = jsonrpc.error_of(answer)
        if error is not None:
            raise error
        answers[key] = answer["result"]
    added: Message = {"inputResponses": jsonrpc.dump(answers)} if wanted else {}
    if "requestState" in result:
        added["requestState"] = result["requestState"]
    return added
