"""Sessions that keep something between requests, and those that have ended."""

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Raw

from mcpproxy.limits.clients import (
    ALL_OUTBOX_BYTES,
    ENDED_SESSIONS,
    LIVE_SESSIONS,
    OUTBOX_BYTES,
    PARKED_CALLS,
    STREAMS,
    SUBSCRIPTIONS,
)
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.downstream.legacy import requests
from mcpproxy.proxy.downstream.legacy.sessions import RunningRequest, SessionRegistry, SessionState
from mcpproxy.proxy.downstream.message_queue import MessageQueue
from mcpproxy.proxy.downstream.modern.input_required import SuspendedCalls
from mcpproxy.proxy.downstream.stream_shares import OpenStreams
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.relay import Call
from tests.proxy.runtime.waiting import soon
from tests.proxy.upstream.stage import settled


def _sessions() -> SessionRegistry:
    return SessionRegistry(Sealer([b"k" * 16], os.urandom), "here", 1800.0)


def _client(session: str, principal: str = "ann") -> ClientIdentity:
    return ClientIdentity("2025-11-25", principal=principal, session=session, network="net")


async def test_an_ended_session_is_remembered_as_long_as_its_id_could_be_valid() -> None:
    sessions = _sessions()
    await sessions.end(_client("one"), 0.0)
    await sessions.end(_client("two"), 50.0)
    sessions.reap(100.0, 60.0)
    assert "one" not in sessions.ended
    assert "two" in sessions.ended


async def test_the_most_recently_ended_sessions_are_remembered() -> None:
    sessions = _sessions()
    sessions._enders.limit = 3
    for number, session in enumerate(("a", "b", "c", "a", "d")):
        await sessions.end(_client(session), float(number))
    assert [letter for letter in "abcd" if letter in sessions.ended] == ["a", "c", "d"]


async def test_a_client_that_ends_many_sessions_does_not_revive_those_of_others() -> None:
    sessions = _sessions()
    before = ENDED_SESSIONS.reached
    await sessions.end(_client("victim", "bo"), 0.0)
    for number in range(ENDED_SESSIONS.value + 100):
        await sessions.end(_client(f"{number}"), float(number))
    assert "victim" in sessions.ended
    assert "0" not in sessions.ended
    assert len(sessions.ended) == len(sessions._enders) == ENDED_SESSIONS.value
    assert ENDED_SESSIONS.reached == before + 101


def _use(
    sessions: SessionRegistry, client: ClientIdentity, now: float, level: str | None = None
) -> None:
    """Serve one request of a session, which may set its log level."""
    live = sessions.acquire(client.session, now)
    live.log_level = level or live.log_level
    sessions.release(client, live)


async def test_beyond_the_limit_the_idlest_session_of_the_largest_holder_ends() -> None:
    sessions = _sessions()
    sessions._kept.limit = 100
    before = LIVE_SESSIONS.reached
    _use(sessions, _client("victim", "bo"), 0.0, "debug")
    ended = []

    async def end() -> None:
        ended.append("subscription")

    for number in range(110):
        live = sessions.acquire(f"{number}", float(number))
        live.subscriptions["x://y"] = end
        sessions.release(_client(f"{number}"), live)
        # The first one is used again and again.
        _use(sessions, _client("0"), float(number))
    await settled()
    assert len(sessions) == 100
    assert LIVE_SESSIONS.reached == before + 11
    assert sessions.find("victim") is not None
    assert [n for n in range(20) if f"{n}" in sessions.ended] == list(range(1, 12))
    assert len(ended) == 11


async def test_a_session_with_a_stream_or_request_ends_neither_for_another_nor_by_its_age() -> None:
    """A request that waits, for the reply to an earlier one or for keys, is in flight later."""
    sessions, names = _sessions(), ("stream", "request", "waits")
    sessions._kept.limit = 3
    for name in names:
        _use(sessions, _client(name), 0.0, "debug")
    sessions.acquire("stream", 0.0).stream = MessageQueue()
    sessions.acquire("request", 0.0).in_flight[b"1"] = RunningRequest(None)
    sessions.acquire("waits", 0.0)
    _use(sessions, _client("new"), 1.0, "debug")
    sessions.reap(1802.0, 60.0)
    assert [name for name in names if sessions.find(name) is None or name in sessions.ended] == []
    assert sessions.find("new") is None


async def test_a_backend_that_does_not_end_subscriptions_keeps_no_session_alive() -> None:
    sessions = _sessions()
    hanging = asyncio.Event()
    cancelled = []

    async def end() -> None:
        try:
            await hanging.wait()
        except asyncio.CancelledError as error:
            cancelled.append(error)
            raise

    for name in ("one", "two"):
        live = sessions.acquire(name, 0.0)
        live.subscriptions["x://y"] = end
        sessions.release(_client(name), live)
    sessions.reap(1801.0, 60.0)
    await settled()
    assert len(sessions) == 0
    sessions.close()
    await settled()
    assert len(cancelled) == 2


async def test_sessions_without_state_are_not_kept() -> None:
    sessions = _sessions()
    for number in range(100):
        _use(sessions, _client(f"{number}"), 0.0)
    assert len(sessions) == len(sessions._kept) == 0


async def test_s11_an_unused_session_loses_its_state() -> None:
    sessions = _sessions()
    _use(sessions, _client("one"), 0.0, "debug")
    sessions.reap(1799.0, 60.0)
    assert sessions.find("one") is not None
    sessions.reap(1801.0, 60.0)
    assert len(sessions) == len(sessions._kept) == 0


class _Gateway:
    """Confirms subscriptions a little later."""

    def __init__(self) -> None:
        self.open = 0
        self.error: RpcError | None = None

    async def subscribe_resource(self, uri: str, listener: Any, holder: Any, client: Any) -> Any:
        await settled()
        if self.error is not None:
            raise self.error
        self.open += 1

        async def end() -> None:
            self.open -= 1

        return end


async def _subscribe(gateway: Any, live: SessionState, uri: str, method: str = "subscribe") -> None:
    params: Message = {"uri": jsonrpc.encode_raw(uri)}
    await requests._handle_subscription(gateway, live, f"resources/{method}", params, _client("s"))


async def test_simultaneous_subscriptions_of_one_session_are_bounded() -> None:
    gateway, live = _Gateway(), SessionState()
    before = SUBSCRIPTIONS.reached
    results = await asyncio.gather(
        *(_subscribe(gateway, live, f"x://{n}") for n in range(SUBSCRIPTIONS.value + 50)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, RpcError) for result in results) == 50
    assert gateway.open == len(live.subscriptions) == SUBSCRIPTIONS.value
    assert SUBSCRIPTIONS.reached == before + 50
    await live.unsubscribe()
    assert gateway.open == 0


async def test_a_resource_that_is_subscribed_to_twice_at_once_is_subscribed_to_once() -> None:
    gateway, live = _Gateway(), SessionState()
    await asyncio.gather(*(_subscribe(gateway, live, "x://y") for _ in range(5)))
    assert gateway.open == 1
    await _subscribe(gateway, live, "x://y", "unsubscribe")
    assert gateway.open == 0


async def test_a_subscription_that_is_cancelled_before_it_opens_is_closed() -> None:
    gateway, live = _Gateway(), SessionState()
    making = asyncio.create_task(_subscribe(gateway, live, "x://y"))
    await asyncio.sleep(0)
    await live.unsubscribe()
    await making
    assert gateway.open == 0
    assert not live.subscriptions


async def test_a_failed_subscription_does_not_count_towards_the_limit() -> None:
    gateway, live = _Gateway(), SessionState()
    gateway.error = RpcError(-32002, "no")
    with pytest.raises(RpcError):
        await _subscribe(gateway, live, "x://y")
    assert not live.subscriptions


VICTIM = ClientIdentity("2025-11-25", principal="victim")
HOSTILE = ClientIdentity("2025-11-25", principal="hostile")


async def test_beyond_the_limit_the_oldest_stream_of_the_largest_holder_ends() -> None:
    streams = OpenStreams()
    streams._shares.limit = 100
    before = STREAMS.reached
    victim = streams.open("net", VICTIM)
    hostile = [streams.open("net", HOSTILE) for _ in range(110)]
    assert not victim.ended
    assert [stream.ended for stream in hostile[:20]] == [True] * 11 + [False] * 9
    assert STREAMS.reached == before + 11


async def test_messages_that_wait_for_all_clients_are_bounded() -> None:
    streams = OpenStreams()
    before = ALL_OUTBOX_BYTES.reached
    victim = streams.open("net", VICTIM)
    victim.put(b"for the victim")
    hostile = [streams.open("net", HOSTILE) for _ in range(100)]
    message = b"x" * (OUTBOX_BYTES.value // 2)
    for stream in (*hostile, *hostile):
        stream.put(message)
        assert streams._size <= ALL_OUTBOX_BYTES.value
        assert streams._size == sum(item.size for item in (victim, *hostile))
    assert not victim.ended
    assert await victim.get(1) == b"for the victim"
    assert ALL_OUTBOX_BYTES.reached > before
    for stream in (victim, *hostile):
        streams.close(stream)
    assert streams._size == 0


QUESTION: Message = {
    "jsonrpc": jsonrpc.VERSION,
    "id": Raw(b"1"),
    "method": Raw(b'"elicitation/create"'),
    "params": jsonrpc.EMPTY,
}


async def parked(parking: SuspendedCalls, principal: str, network: str = "net") -> Message:
    """A call that asks its client, and waits."""

    async def start(caller: CallContext) -> Message:
        await caller.ask(QUESTION)
        return {"jsonrpc": jsonrpc.VERSION, "id": Raw(b"1"), "result": jsonrpc.EMPTY}

    async def notify(message: Message) -> None:
        """Nobody listens."""

    request: Message = {"id": Raw(b"1"), "method": Raw(b'"tools/call"')}
    client = ClientIdentity("2026-07-28", principal=principal)
    return await parking.run(start, request, {}, client, None, notify, network)


async def test_beyond_the_limit_the_oldest_parked_call_of_the_largest_holder_is_cancelled() -> None:
    parking = SuspendedCalls(Sealer([b"k" * 16], os.urandom), "here", lambda: 0.0)
    parking._shares.limit = 8
    before = PARKED_CALLS.reached
    await parked(parking, "victim")
    await parked(parking, "", "10.0.0.1")
    for _ in range(20):
        await parked(parking, "hostile")
    assert parking.count == 8
    assert PARKED_CALLS.reached == before + 14
    assert parking._shares.held(("net", "victim")) == 1
    assert parking._shares.held(("10.0.0.1", "")) == 1
    tasks = [exchange.task for exchange in parking._parked.values()]
    parking.close()
    await soon(lambda: all(task is not None and task.done() for task in tasks), "their end")
    assert len(parking._shares) == 0


async def test_a_retry_that_cannot_be_read_leaves_the_call_to_the_next_retry() -> None:
    parking = SuspendedCalls(Sealer([b"k" * 16], os.urandom), "here", lambda: 0.0)
    first = jsonrpc.decode((await parked(parking, "ann"))["result"])
    state = jsonrpc.encode_raw(first["requestState"])
    (key,) = first["inputRequests"]
    answers = jsonrpc.encode_raw({key: {"action": "accept"}})

    async def retry(responses: Raw) -> Message:
        request: Message = {"id": Raw(b"2"), "method": Raw(b'"tools/call"')}
        params: Message = {"requestState": state, "inputResponses": responses}
        client = ClientIdentity("2026-07-28", principal="ann")
        return await parking.run(_unused, request, params, client, None, _unused, "net")

    with pytest.raises(RpcError, match="not a JSON object"):
        await retry(Raw(b"[]"))
    assert parking.count == 1
    assert "result" in await retry(answers)
    assert parking.count == 0


async def _unused(_: Any) -> Any:
    raise AssertionError("the call continues, and is not sent again")


async def test_the_state_of_a_session_is_given_to_no_other_while_a_request_uses_it() -> None:
    sessions = _sessions()
    first = sessions.acquire("x", 0.0)
    # A request that has not begun, or has asked another instance for the state, is not in flight.
    _use(sessions, _client("x"), 0.0)
    assert sessions.acquire("y", 0.0) is not first
    assert sessions.find("x") is first
    first.in_flight[b"1"] = RunningRequest(None)
    del first.in_flight[b"1"]
    sessions.release(_client("x"), first)
    assert sessions.find("x") is None


async def test_the_end_of_a_request_does_not_release_a_newer_session_of_the_same_id() -> None:
    sessions = _sessions()
    old = sessions.acquire("x", 0.0)
    await sessions.end(_client("x"), 0.0)
    new = sessions.acquire("x", 0.0)
    sessions.release(_client("x"), old)
    assert sessions.find("x") is new is not old
    assert len(new.users) == 1


def _call() -> Call:
    """A call with the id 1 that no task has taken over."""
    gateway: Any = SimpleNamespace()
    request: Any = SimpleNamespace(id=Raw(b"1"))
    return Call(gateway, gateway, request, _client("x"))


async def test_the_cancellation_of_a_call_waits_for_its_task_and_concerns_no_other_one() -> None:
    live, call = SessionState(), _call()
    live.in_flight[b"1"] = call
    live.cancel(Raw(b"1"))
    task = asyncio.create_task(asyncio.Event().wait())
    running = RunningRequest(task)
    live.take_over(b"1", running, call)
    assert running.cancelled
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_cancelled_call_whose_task_has_ended_cancels_no_later_request_of_its_id() -> None:
    live, call = SessionState(), _call()
    live.in_flight[b"1"] = call
    live.cancel(Raw(b"1"))
    live.drop(call)
    assert not live.in_flight
    live.in_flight[b"1"] = other = _call()
    live.cancel(Raw(b"1"))
    running = RunningRequest(asyncio.create_task(settled()))
    live.take_over(b"1", running, _call())
    assert not running.cancelled, "it has the same id, and is another call"
    live.drop(other)
    for later in (None, _call()):
        running = RunningRequest(asyncio.create_task(settled()))
        live.take_over(b"1", running, later)
        await settled()
        assert not running.cancelled


async def test_state_that_the_owner_has_too_is_dropped_without_ending_the_session() -> None:
    sessions = _sessions()
    sessions._kept.limit = 1
    for name in ("copy", "shared", "level"):
        live = sessions.acquire(name, 0.0)
        if name == "copy":
            live.synchronize("debug", 1.0)
        elif name == "shared":
            live.share_with("another instance")
        else:
            live.stand_in(1.0)
            live.log_level = "debug"
        sessions.release(_client(name), live)
    _use(sessions, _client("new"), 2.0, "debug")
    assert list(sessions._live) == ["new"]
    assert list(sessions.ended) == ["level"]
