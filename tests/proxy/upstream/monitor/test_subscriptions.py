"""Subscriptions with one backend: its last request about a resource is what clients want."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mcpproxy.proxy.core.errors import Unreachable
from mcpproxy.proxy.core.exchange import CallContext, NullContext
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.monitor.requester import Requester
from mcpproxy.proxy.upstream.monitor.subscriptions import UpstreamSubscriptions
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest
from tests.proxy.upstream.stage import ANN, FakeLink, settled

URI = "x://a"


class SlowLink(FakeLink):
    """A session whose backend answers when the test says so, in any order."""

    def __init__(self) -> None:
        super().__init__(ANN)
        self.asked: list[str] = []
        self.answers: list[Callable[[Any], None]] = []
        """Answers each request, with a result or an exception."""

    async def request(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        self.asked.append(outgoing.method.removeprefix("resources/"))
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.answers.append(answer.set_result)
        error = await answer
        if error is not None:
            raise error
        return {"result": jsonrpc.encode_raw({})}


class Stage:
    """The subscriptions of a legacy backend with such a session."""

    def __init__(self) -> None:
        self.link = SlowLink()
        requester = Requester(NullContext(ANN))
        self.changes: list[tuple[str, Message]] = []
        """The changes that subscribers get, with the name of the backend."""
        self.subscriptions = UpstreamSubscriptions(
            "b", requester, lambda: None, self._listen, lambda *change: self.changes.append(change)
        )

    async def _listen(self) -> None:
        """The stream is open."""

    async def added(self) -> "asyncio.Task[None]":
        """Begin to add a subscriber."""
        task = asyncio.create_task(self.subscriptions.add(self.link, URI))
        await settled()
        return task

    async def removed(self) -> "asyncio.Task[None]":
        """Begin to remove a subscriber."""
        task = asyncio.create_task(self.subscriptions.remove(self.link, URI))
        await settled()
        return task

    async def answer(self, number: int, error: Exception | None = None) -> None:
        """Answer a request."""
        self.link.answers[number](error)
        await settled()


@pytest.fixture
async def stage() -> Stage:
    stage = Stage()
    task = await stage.added()
    await stage.answer(0)
    await task
    return stage


async def test_a_subscription_waits_for_the_end_of_an_unsubscription(stage: Stage) -> None:
    removed, added = await stage.removed(), await stage.added()
    assert stage.link.asked == ["subscribe", "unsubscribe"]
    await stage.answer(1)
    await removed
    assert stage.link.asked == ["subscribe", "unsubscribe", "subscribe"]
    await stage.answer(2)
    await added
    assert stage.subscriptions.uris == [URI]


async def test_an_unsubscription_is_not_sent_if_another_client_has_subscribed(
    stage: Stage,
) -> None:
    first = await stage.removed()
    added, second = await stage.added(), await stage.removed()
    again = await stage.added()
    for number in (1, 2):
        await stage.answer(number)
    await asyncio.gather(first, second, added)
    if len(stage.link.answers) > 3:
        await stage.answer(3)
    await again
    assert stage.link.asked[-1] == "subscribe"
    assert stage.subscriptions.uris == [URI]


async def test_an_unsubscription_that_fails_lets_the_next_request_pass(stage: Stage) -> None:
    removed, added = await stage.removed(), await stage.added()
    await stage.answer(1, Unreachable("gone"))
    await stage.answer(2)
    await asyncio.gather(removed, added)
    assert stage.subscriptions.uris == [URI]


async def test_a_client_that_leaves_while_it_waits_holds_up_no_other(stage: Stage) -> None:
    removed, added = await stage.removed(), await stage.added()
    added.cancel()
    later = await stage.added()
    await stage.answer(1)
    await stage.answer(2)
    await asyncio.gather(removed, later)
    assert stage.subscriptions.uris == [URI]
    assert stage.link.asked == ["subscribe", "unsubscribe", "subscribe"]


async def test_a_client_that_leaves_while_the_stream_opens_leaves_no_subscription() -> None:
    opening = asyncio.Event()

    async def listen() -> None:
        await opening.wait()

    requester = Requester(NullContext(ANN))
    subscriptions = UpstreamSubscriptions(
        "b", requester, lambda: None, listen, lambda *change: None
    )
    task = asyncio.create_task(subscriptions.add(SlowLink(), URI))
    await settled()
    assert subscriptions.uris == [URI]
    task.cancel()
    await asyncio.wait([task])
    assert subscriptions.uris == []


async def test_after_a_new_session_a_change_of_each_resource_is_announced() -> None:
    stage = Stage()
    adding = await stage.added()
    stage.link.answers[0](None)
    await adding
    restoring = asyncio.create_task(stage.subscriptions.restore(stage.link))
    await settled()
    assert stage.changes == []
    stage.link.answers[1](None)
    await restoring
    ((name, message),) = stage.changes
    assert name == "b"
    assert jsonrpc.decode(message["method"]) == "notifications/resources/updated"
    assert jsonrpc.decode(message["params"]) == {"uri": URI}


async def test_a_resource_without_a_subscriber_so_far_has_no_missed_changes() -> None:
    stage = Stage()
    adding = await stage.added()
    stage.subscriptions.catch_up()
    assert stage.changes == []
    stage.link.answers[0](None)
    await adding
