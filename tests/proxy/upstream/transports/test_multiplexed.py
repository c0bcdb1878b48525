"""A session over one stream in each direction: the recipients of its messages."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from msgspec import Raw

from mcpproxy.limits.backends import UNREAD_BYTES, UNREAD_MESSAGES
from mcpproxy.proxy.core.errors import SlowClient, Unreachable
from mcpproxy.proxy.core.exchange import ClientIdentity, NotificationHandler, NullContext
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.transports.multiplexed import MultiplexedSession
from mcpproxy.proxy.upstream.transports.session import ServerDescription, TaskSet, UpstreamRequest
from tests.proxy.upstream.pipe import Pipe

LEGACY, MODERN = "2025-11-25", "2026-07-28"
MAX_MESSAGES, MAX_BYTES = UNREAD_MESSAGES.value, UNREAD_BYTES.value


class Listener(NullContext):
    """A context that records its notifications."""

    def __init__(self) -> None:
        super().__init__(ClientIdentity(MODERN))
        self.received: list[str] = []

    async def notify(self, message: Message) -> None:
        self.received.append(json.loads(bytes(message["method"])))


class Slow(NullContext):
    """A context that accepts nothing before the test says so."""

    def __init__(self) -> None:
        super().__init__(ClientIdentity(LEGACY))
        self.may = asyncio.Event()
        self.told: list[str] = []

    async def notify(self, message: Message) -> None:
        await self.may.wait()
        params = json.loads(bytes(message["params"]))
        self.told.append(params.get("data") or params["message"])

    async def ask(
        self, request: Message, notify_backend: NotificationHandler | None = None
    ) -> Message:
        self.told.append(json.loads(bytes(request["method"])))
        return {"result": Raw(b"{}")}


@pytest_asyncio.fixture
async def pipe() -> Pipe:
    return Pipe()


@pytest_asyncio.fixture
async def link(pipe: Pipe) -> AsyncIterator[MultiplexedSession]:
    background = TaskSet()
    session = MultiplexedSession(pipe, background)
    yield session
    await session.close()
    await background.close()


def _call(link: MultiplexedSession, caller: NullContext, **params: Any) -> "asyncio.Task[Message]":
    encoded = {name: Raw(json.dumps(content).encode()) for name, content in params.items()}
    return asyncio.create_task(
        link.request(UpstreamRequest(Raw(b"7"), "tools/call", encoded), caller)
    )


def _log(data: str) -> dict[str, Any]:
    return {"method": "notifications/message", "params": {"level": "info", "data": data}}


def _progress(token: Any, text: str) -> dict[str, Any]:
    params = {"progressToken": token, "progress": 1, "message": text}
    return {"method": "notifications/progress", "params": params}


async def test_the_acknowledgement_of_our_own_listening_reaches_no_caller() -> None:
    pipe, background, caller = Pipe(), TaskSet(), Listener()
    link = MultiplexedSession(pipe, background)
    link.server = ServerDescription(MODERN, {})

    async def announced(message: Message) -> None:
        raise AssertionError(message)

    listening = asyncio.create_task(link.listen(Listener(), announced, lambda: None))
    assert (await pipe.sent.get())["method"] == "subscriptions/listen"
    call = asyncio.create_task(link.request(UpstreamRequest(Raw(b"7"), "tools/call", {}), caller))
    sent = await pipe.sent.get()
    pipe.says(method="notifications/subscriptions/acknowledged", params={"notifications": {}})
    pipe.says(method="notifications/message", params={"level": "info", "data": "working"})
    pipe.says(id=sent["id"], result={})
    assert bytes((await call)["id"]) == b"7"
    assert caller.received == ["notifications/message"]
    listening.cancel()
    await link.close()
    await background.close()


@pytest.mark.parametrize("spelled", ["1", "1.0", "1e0", "10E-1"])
async def test_ids_and_progress_tokens_are_matched_regardless_of_their_encoding(
    pipe: Pipe, link: MultiplexedSession, spelled: str
) -> None:
    caller = Listener()
    call = _call(link, caller, _meta={"progressToken": "theirs"})
    assert (await pipe.sent.get())["id"] == 1
    progress = f'"method":"notifications/progress","params":{{"progressToken":{spelled}}}'
    pipe.writes(f'{{"jsonrpc":"2.0",{progress}}}')
    pipe.writes(f'{{"jsonrpc":"2.0","id":{spelled},"result":{{}}}}')
    await asyncio.wait_for(call, 5)
    assert caller.received == ["notifications/progress"]


async def test_messages_of_the_backend_reach_the_caller_in_order(
    pipe: Pipe, link: MultiplexedSession
) -> None:
    caller = Slow()
    caller.may.set()
    call = _call(link, caller)
    sent = await pipe.sent.get()
    for number in range(500):
        pipe.says(**_log(str(number)))
        if number % 100 == 50:
            pipe.says(id=f"ask{number}", method="roots/list")
    pipe.says(id=sent["id"], result={})
    await asyncio.wait_for(call, 5)
    expected = []
    for number in range(500):
        expected += [str(number)] + ["roots/list"] * (number % 100 == 50)
    assert caller.told == expected


@pytest.mark.parametrize(("count", "size"), [(MAX_MESSAGES, 1), (9, MAX_BYTES // 8)])
async def test_a_slow_caller_delays_no_other_and_ends_when_too_much_waits(
    pipe: Pipe, link: MultiplexedSession, count: int, size: int
) -> None:
    quick, slow = Slow(), Slow()
    quick.may.set()
    other = _call(link, quick)
    own = (await pipe.sent.get())["id"]
    stuck = _call(link, slow, _meta={"progressToken": "slow"})
    sent = await pipe.sent.get()
    reached = UNREAD_MESSAGES.reached + UNREAD_BYTES.reached
    for _ in range(count + 2):
        pipe.says(**_progress(sent["id"], "x" * size))
    pipe.says(id=own, result={})
    await asyncio.wait_for(other, 5)
    notification = await asyncio.wait_for(pipe.sent.get(), 5)
    assert notification["method"] == "notifications/cancelled"
    assert notification["params"]["requestId"] == sent["id"]
    assert UNREAD_MESSAGES.reached + UNREAD_BYTES.reached == reached + 1
    pipe.says(**_log("nobody's"))
    third = _call(link, quick)
    pipe.says(id=(await pipe.sent.get())["id"], result={})
    await asyncio.wait_for(third, 5)
    slow.may.set()
    with pytest.raises(SlowClient):
        await asyncio.wait_for(stuck, 5)
    assert len(slow.told) == 1


async def test_a_long_progress_token_counts_with_each_message_that_carries_it(
    pipe: Pipe, link: MultiplexedSession
) -> None:
    stuck = _call(link, Slow(), _meta={"progressToken": "t" * (MAX_BYTES // 4)})
    _call(link, Slow())
    sent = await pipe.sent.get()
    await pipe.sent.get()
    for _ in range(7):
        pipe.says(**_progress(sent["id"], "x"))
    assert (await asyncio.wait_for(pipe.sent.get(), 5))["method"] == "notifications/cancelled"
    assert not stuck.done()


async def test_a_single_slow_caller_pauses_the_backend_and_loses_no_message(
    pipe: Pipe, link: MultiplexedSession
) -> None:
    slow = Slow()
    call = _call(link, slow)
    own = (await pipe.sent.get())["id"]
    for number in range(2 * MAX_MESSAGES):
        pipe.says(**_log(str(number)))
    pipe.says(id=own, result={})
    for _ in range(3 * MAX_MESSAGES // 64):
        await asyncio.sleep(0)
    assert pipe.waiting() >= MAX_MESSAGES - 1
    slow.may.set()
    await asyncio.wait_for(call, 15)
    assert slow.told == [str(number) for number in range(2 * MAX_MESSAGES)]


async def test_messages_before_the_end_are_forwarded(pipe: Pipe, link: MultiplexedSession) -> None:
    slow = Slow()
    call = _call(link, slow)
    await pipe.sent.get()
    pipe.says(**_log("last words"))
    pipe.says(**_log("the end"))
    await pipe.close()
    slow.may.set()
    with pytest.raises(Unreachable):
        await asyncio.wait_for(call, 5)
    assert slow.told == ["last words", "the end"]


async def test_a_ping_is_answered_while_a_caller_is_slow(
    pipe: Pipe, link: MultiplexedSession
) -> None:
    slow = Slow()
    call = _call(link, slow)
    await pipe.sent.get()
    pipe.says(**_log("stuck"))
    pipe.says(id="p", method="ping")
    answer = await asyncio.wait_for(pipe.sent.get(), 5)
    assert answer == {"jsonrpc": "2.0", "id": "p", "result": {}}
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def test_a_server_request_cancelled_before_forwarding_never_reaches_the_client(
    pipe: Pipe, link: MultiplexedSession
) -> None:
    slow = Slow()
    call = _call(link, slow)
    own = (await pipe.sent.get())["id"]
    pipe.says(**_log("stuck"))
    pipe.says(id="a", method="roots/list")
    pipe.writes(
        '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"\\u0061"}}'
    )
    pipe.says(id=own, result={})
    for _ in range(20):
        await asyncio.sleep(0)
    slow.may.set()
    await asyncio.wait_for(call, 5)
    assert slow.told == ["stuck"]
    assert pipe.sent.empty()


@pytest.mark.parametrize("is_own", [True, False])
async def test_a_request_during_a_call_never_goes_to_a_later_request_of_the_proxy(
    pipe: Pipe, link: MultiplexedSession, is_own: bool
) -> None:
    # The proxy lists over the client's own session, too.
    client = ClientIdentity(LEGACY, session="s")
    caller, lister = Slow(), Slow()
    caller.client = lister.client = client
    call = asyncio.create_task(link.request(UpstreamRequest(Raw(b"1"), "tools/call", {}), caller))
    called = (await pipe.sent.get())["id"]
    listing = UpstreamRequest(Raw(b"2"), "tools/list", {}, repeatable=is_own)
    lists = asyncio.create_task(link.request(listing, lister))
    listed = (await pipe.sent.get())["id"]
    pipe.says(id=7, method="sampling/createMessage", params={})
    assert (await pipe.sent.get())["id"] == 7
    assert (caller.told, lister.told) == (
        (["sampling/createMessage"], []) if is_own else ([], ["sampling/createMessage"])
    )
    for number in (called, listed):
        pipe.says(id=number, result={})
    await asyncio.gather(call, lists)


class Broken(Pipe):
    """A channel whose reader fails in a way that nothing expects."""

    async def receive(self) -> bytes | None:
        await super().receive()
        raise KeyError("unexpected")


async def test_a_session_whose_reader_fails_unexpectedly_is_over() -> None:
    pipe, background = Broken(), TaskSet()
    link = MultiplexedSession(pipe, background)
    call = _call(link, Listener())
    await pipe.sent.get()
    pipe.says(id=1, result={})
    with pytest.raises(Unreachable, match="the stream has ended"):
        await asyncio.wait_for(call, 5)
    assert not link.alive
    with pytest.raises(KeyError):
        await link._reader
    await link.close()
    await background.close()
