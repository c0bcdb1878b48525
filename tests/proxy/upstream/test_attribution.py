"""A session over one stream that several clients share: which client receives a message."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from msgspec import Raw

from mcpproxy.limits.backends import ABANDONED_REQUESTS, ELICITATIONS
from mcpproxy.proxy.core.exchange import ClientIdentity, NotificationHandler, NullContext
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.attribution import SessionUsers, unattributed
from mcpproxy.proxy.upstream.transports.multiplexed import MultiplexedSession
from mcpproxy.proxy.upstream.transports.session import TaskSet, UpstreamRequest
from tests.proxy.upstream.pipe import Pipe
from tests.proxy.upstream.stage import settled

LEGACY, MODERN = "2025-11-25", "2026-07-28"
QUESTION = {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}}


class Heard(NullContext):
    """A client that records its messages, and answers server requests with its name if allowed."""

    def __init__(self, session: str, revision: str = LEGACY) -> None:
        super().__init__(ClientIdentity(revision, session=session))
        self.told: list[Any] = []
        self.may = asyncio.Event()

    async def notify(self, message: Message) -> None:
        self.told.append(json.loads(bytes(message["params"])))

    async def ask(
        self, request: Message, notify_backend: NotificationHandler | None = None
    ) -> Message:
        self.told.append(json.loads(bytes(request["method"])))
        await self.may.wait()
        return {"result": Raw(json.dumps(self.client.session).encode())}


class Shared:
    """One session, and the calls in it."""

    def __init__(self) -> None:
        self.pipe = Pipe()
        self.background = TaskSet()
        self.link = MultiplexedSession(self.pipe, self.background)

    async def call(self, caller: NullContext, **params: Any) -> tuple["asyncio.Task[Message]", int]:
        """Start a call with the client's id 7, and return its id at the backend."""
        encoded = {name: Raw(json.dumps(content).encode()) for name, content in params.items()}
        outgoing = UpstreamRequest(Raw(b"7"), "tools/call", encoded)
        task = asyncio.create_task(self.link.request(outgoing, caller))
        return task, (await self.sent())["id"]

    async def sent(self) -> Any:
        """Return the next message to the backend."""
        return await asyncio.wait_for(self.pipe.sent.get(), 5)

    async def says(self, **message: Any) -> None:
        """Send a message from the backend, and wait until it is processed."""
        self.pipe.says(**message)
        await settled()

    async def logs(self, data: str) -> None:
        await self.says(method="notifications/message", params={"level": "info", "data": data})

    async def cancelled(self, task: "asyncio.Task[Message]") -> None:
        """Cancel a call, and wait until the backend knows it."""
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await self.sent())["method"] == "notifications/cancelled"


@pytest_asyncio.fixture
async def shared() -> AsyncIterator[Shared]:
    session = Shared()
    yield session
    await session.link.close()
    await session.background.close()


def _data(caller: Heard) -> list[Any]:
    return [
        message.get("data") if isinstance(message, dict) else message for message in caller.told
    ]


async def test_s9_a_log_message_is_dropped_while_requests_of_two_clients_run(
    shared: Shared,
) -> None:
    ann, bo = Heard("ann"), Heard("bo")
    await shared.call(ann)
    _, of_bo = await shared.call(bo)
    before = dict(unattributed)
    await shared.logs("of ann or of bo")
    assert unattributed["log"] == before["log"] + 1
    await shared.says(id=of_bo, result={})
    await shared.logs("of ann")
    assert (_data(ann), _data(bo)) == (["of ann"], [])
    assert unattributed["log"] == before["log"] + 1


async def test_s9_a_question_is_refused_with_the_reason_while_requests_of_two_clients_run(
    shared: Shared,
) -> None:
    ann, bo = Heard("ann"), Heard("bo")
    await shared.call(ann)
    await shared.call(bo)
    await shared.says(id="q", **QUESTION)
    answer = await shared.sent()
    assert answer["id"] == "q"
    assert "several clients" in answer["error"]["message"]
    assert "session.mode" in answer["error"]["message"]
    assert ann.told == bo.told == []
    await shared.says(id="p", method="ping")
    assert await shared.sent() == {"jsonrpc": "2.0", "id": "p", "result": {}}


async def test_requests_of_one_client_are_those_of_its_session(shared: Shared) -> None:
    ann = Heard("ann")
    await shared.call(ann)
    await shared.call(ann)
    await shared.logs("hers")
    assert _data(ann) == ["hers"]


async def test_s9_requests_without_a_session_are_of_one_client_each(shared: Shared) -> None:
    first, second = Heard("", MODERN), Heard("", MODERN)
    _, of_first = await shared.call(first)
    await shared.call(second)
    await shared.logs("of either")
    await shared.says(id=of_first, result={})
    await shared.logs("of the second")
    assert (_data(first), _data(second)) == ([], ["of the second"])


async def test_s9_messages_about_an_abandoned_call_reach_no_other_client(
    shared: Shared,
) -> None:
    ann, bo = Heard("ann"), Heard("bo")
    task, of_ann = await shared.call(ann)
    await shared.cancelled(task)
    await shared.call(bo)
    await shared.logs("of ann")
    await shared.says(id="q", **QUESTION)
    assert "error" in await shared.sent()
    await shared.says(id=of_ann, result={})
    await shared.logs("of bo")
    assert (_data(ann), _data(bo)) == ([], ["of bo"])


async def test_a_client_still_gets_messages_about_its_abandoned_call(
    shared: Shared,
) -> None:
    ann = Heard("ann")
    task, _ = await shared.call(ann)
    await shared.cancelled(task)
    await shared.call(ann)
    await shared.logs("hers")
    assert _data(ann) == ["hers"]


async def test_s9_a_message_after_a_response_does_not_reach_the_recipient_of_the_response(
    shared: Shared,
) -> None:
    ann, bo = Heard("ann"), Heard("bo")
    await shared.call(bo)
    task, of_ann = await shared.call(ann)
    shared.pipe.says(id=of_ann, result={})
    await shared.logs("of bo")
    await task
    assert (_data(ann), _data(bo)) == ([], ["of bo"])


@pytest.mark.parametrize("spelt", ["{0}", "{0}.0", '"{0}"'])
async def test_s9_progress_goes_to_the_request_that_its_token_names(
    shared: Shared, spelt: str
) -> None:
    ann, bo = Heard("ann"), Heard("bo")
    meta = {"progressToken": "mine"}
    _, of_ann = await shared.call(ann, _meta=meta)
    _, of_bo = await shared.call(bo, _meta=meta)
    assert of_ann != of_bo
    for token, about in ((str(of_ann), "ann"), (str(of_bo), "bo"), ("99", "?"), ('"mine"', "?")):
        named = token if "mine" in token else spelt.format(token)
        params = f'{{"progressToken":{named},"progress":1,"message":"{about}"}}'
        shared.pipe.writes(
            f'{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}'
        )
    await settled()
    for caller in (ann, bo):
        expected = {**meta, "progressToken": "mine", "progress": 1}
        assert caller.told == [{**expected, "message": caller.client.session}]


async def test_a_second_response_with_the_same_id_is_dropped(shared: Shared) -> None:
    ann, bo = Heard("ann"), Heard("bo")
    first, of_ann = await shared.call(ann)
    second, of_bo = await shared.call(bo)
    for result in ("first", "second"):
        shared.pipe.says(id=of_ann, result=result)
    shared.pipe.writes(f'{{"jsonrpc":"2.0","id":"{of_bo}","result":"bo"}}')
    answers = [await asyncio.wait_for(task, 5) for task in (first, second)]
    assert [bytes(answer["result"]) for answer in answers] == [b'"first"', b'"bo"']
    assert [bytes(answer["id"]) for answer in answers] == [b"7", b"7"]


async def test_a_server_request_with_the_id_of_a_pending_one_is_refused(shared: Shared) -> None:
    ann = Heard("ann")
    await shared.call(ann)
    shared.pipe.says(id=1, **QUESTION)
    shared.pipe.says(id="1", **QUESTION)
    await settled()
    shared.pipe.writes(json.dumps({"jsonrpc": "2.0", "id": 1.0, **QUESTION}))
    refused = await shared.sent()
    assert refused["id"] == 1
    assert "pending request with the same id" in refused["error"]["message"]
    ann.may.set()
    answers = [await shared.sent(), await shared.sent()]
    assert [answer["id"] for answer in answers] == [1, "1"]
    assert all(answer["result"] == "ann" for answer in answers)
    assert ann.told == [QUESTION["method"]] * 2


async def test_the_cancellation_of_a_completed_server_request_is_dropped(shared: Shared) -> None:
    ann = Heard("ann")
    await shared.call(ann)
    await shared.says(method="notifications/cancelled", params={"requestId": 7})
    assert ann.told == []


def _elicitation(number: int) -> dict[str, Any]:
    params = {"mode": "url", "elicitationId": f"e{number}", "url": "https://a", "message": "?"}
    return {"id": f"q{number}", "method": "elicitation/create", "params": params}


async def _completed(shared: Shared, number: int) -> None:
    params = {"elicitationId": f"e{number}"}
    await shared.says(method="notifications/elicitation/complete", params=params)


async def test_s9_the_completion_of_an_elicitation_reaches_the_asked_client(shared: Shared) -> None:
    ann, bo = Heard("ann"), Heard("bo")
    await shared.call(ann)
    await shared.says(**_elicitation(1))
    await shared.call(bo)
    await _completed(shared, 1)
    await _completed(shared, 2)
    assert (ann.told, bo.told) == (["elicitation/create", {"elicitationId": "e1"}], [])


async def test_beyond_the_limit_the_completion_of_the_oldest_elicitation_is_dropped(
    shared: Shared,
) -> None:
    ann, bo = Heard("ann"), Heard("bo")
    ann.may.set()
    await shared.call(ann)
    reached = ELICITATIONS.reached
    for number in range(ELICITATIONS.value + 1):
        await shared.says(**_elicitation(number))
    await shared.call(bo)
    ann.told.clear()
    await _completed(shared, 0)
    await _completed(shared, 1)
    assert (ann.told, bo.told) == ([{"elicitationId": "e1"}], [])
    assert ELICITATIONS.reached == reached + 1


async def test_a_session_with_too_many_abandoned_requests_attributes_no_message() -> None:
    users, ann = SessionUsers(ordered=True), ClientIdentity(LEGACY, session="ann")
    for number in range(ABANDONED_REQUESTS.value):
        users.enter(number, ann)
        users.leave(number, answered=False)
    assert users.single
    reached = ABANDONED_REQUESTS.reached
    users.enter("more", ann)
    users.leave("more", answered=False)
    assert not users.single
    assert ABANDONED_REQUESTS.reached == reached + 1


async def test_s9_on_separate_streams_a_response_may_overtake_earlier_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    users, ann, bo = (
        SessionUsers(ordered=False),
        ClientIdentity(LEGACY, session="a"),
        ClientIdentity(LEGACY, session="b"),
    )
    for number, client in enumerate((ann, bo, ann)):
        users.enter(number, client)
        users.leave(number, answered=True)
    users.enter("b", bo)
    assert not users.single
    now += 6
    assert users.single
    users.enter("a", ann)
    users.leave("a", answered=True)
    assert not users.single
    now += 6
    assert users.single
