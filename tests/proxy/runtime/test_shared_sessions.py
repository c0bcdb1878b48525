"""A session with a backend over HTTP that serves several clients: each gets what is its own."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mcpproxy.limits.http import ENVELOPE_MEMBERS
from mcpproxy.proxy.http1.server.connection import ServerConnection
from mcpproxy.proxy.upstream.attribution import unattributed
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.shaped import ASKED, END, HEAD, LOGGED, ByHand, chunk, plain, stage
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE


class Routing:
    """Answers as the SDKs do: to the connection that the id was last seen on, when it may."""

    def __init__(self, backend: ByHand, calls: int) -> None:
        self.order: list[Any] = []
        """The ids of the calls."""
        self.writers: dict[Any, asyncio.StreamWriter] = {}
        self.whose: dict[str, Any] = {}
        """Name of a client → id and progress token of its call."""
        self.session = b""
        self.there = asyncio.Event()
        self.may = asyncio.Event()
        self._calls = calls
        self._backend = backend
        backend.writes = self.write

    async def write(self, request_id: Any, writer: asyncio.StreamWriter) -> None:
        """Answer one call, once all are there."""
        params = self._backend.calls[-1]["params"]
        who, token = params["arguments"]["who"], params["_meta"]["progressToken"]
        self.session = self._backend.asked[-1][0]
        self.writers[request_id] = writer
        self.order.append(request_id)
        self.whose[who] = request_id, token
        if len(self.order) == self._calls:
            self.there.set()
        await self.may.wait()
        result = {"content": [{"type": "text", "text": who}]}
        body = json.dumps({"jsonrpc": "2.0", "id": request_id, "result": result}).encode()
        self.writers[request_id].write(plain(body))


def _call(who: str) -> Any:
    params = {"name": "p_x", "arguments": {"who": who}, "_meta": {"progressToken": 1}}
    return rpc("tools/call", params, 1)


async def _clients(backend_stage: tuple[ByHand, Raw], more: int) -> list[Raw]:
    """So many other clients that the backend can't tell from the first one."""
    _, first = backend_stage
    results = [first]
    for _ in range(more):
        client = Raw(first.url, first.http)
        await client.initialize(capabilities={"elicitation": {}})
        results.append(client)
    return results


async def _heard(client: Raw, who: str, answers: Any = None) -> list[Any]:
    """All messages of the answer to a call; questions are answered."""
    received = []
    async for message in client.messages(_call(who)):
        received.append(message)
        if "method" in message and "id" in message:
            reply = {"jsonrpc": "2.0", "id": message["id"], "result": answers}
            assert (await client.post(reply)).status_code == 202
    return received


@pytest.mark.parametrize("warm", [True, False])
async def test_s9_clients_that_use_the_same_ids_at_once_get_their_own_results(
    proxy: Any, http: Any, warm: bool
) -> None:
    async with stage(proxy, http, "Reused", plain, timeout="5s") as staged:
        backend, _ = staged
        clients = await _clients(staged, 5)
        if warm:
            await asyncio.gather(*(client.post(_call("warm")) for client in clients))
        routing = Routing(backend, len(clients))
        calls = [asyncio.create_task(c.post(_call(str(n)))) for n, c in enumerate(clients)]
        await asyncio.wait_for(routing.there.wait(), 5)
        routing.may.set()
        for number, answer in enumerate(await asyncio.gather(*calls)):
            assert last(answer)["result"]["content"][0]["text"] == str(number)
            assert last(answer)["id"] == 1
        assert len({session for session, method in backend.asked if method == "tools/call"}) == 1
        assert len(set(routing.order)) == len(clients)


async def test_a_call_in_a_shared_session_needs_no_task(
    proxy: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(proxy, http, "Reused", plain) as (backend, client):
        await client.post(_call("warm"))
        taken: list[Any] = []
        monkeypatch.setattr(ServerConnection, "run", lambda self, *work: taken.append(work))
        for _ in range(2):
            answer = last(await client.post(_call("x")))
            assert answer["id"] == 1
        assert taken == []
        assert backend.calls[-1]["id"] != backend.calls[-2]["id"]


async def test_a_call_with_too_many_members_of_metadata_keeps_no_shared_session_in_use(
    proxy: Any, http: Any
) -> None:
    async with stage(proxy, http, "Reused", plain) as (backend, client):
        await client.post(_call("warm"))
        meta = {f"k{number}": number for number in range(ENVELOPE_MEMBERS.value + 1)}
        params = {"name": "p_x", "arguments": {}, "_meta": {"progressToken": 1, **meta}}
        answer = last(await client.post(rpc("tools/call", params, 1)))
        assert "has more than" in answer["error"]["message"]
        assert [lease.users for lease in backend.sessions._held.values()] == [0]
        assert len(backend.calls) == 1


async def test_s9_messages_on_the_stream_of_a_session_are_dropped_while_two_clients_call(
    proxy: Any, http: Any
) -> None:
    async with stage(proxy, http, "Reused", plain, timeout="5s") as staged:
        backend, _ = staged
        ann, bo = await _clients(staged, 1)
        routing = Routing(backend, 2)
        calls = [asyncio.create_task(_heard(c, w)) for c, w in ((ann, "ann"), (bo, "bo"))]
        await asyncio.wait_for(routing.there.wait(), 5)
        before = dict(unattributed)
        backend.say(routing.session, LOGGED)
        backend.say(routing.session, ASKED)
        await soon(lambda: backend.answers, "the answer to the question")
        routing.may.set()
        for received in await asyncio.gather(*calls):
            assert [message.get("method") for message in received] == [None]
        assert unattributed["log"] == before["log"] + 1
        assert unattributed["request"] == before["request"] + 1
        (answer,) = backend.answers
        assert answer["id"] == ASKED["id"]
        assert "several clients" in answer["error"]["message"]


async def test_s9_progress_on_the_stream_of_the_session_reaches_the_call_that_it_names(
    proxy: Any, http: Any
) -> None:
    async with stage(proxy, http, "Reused", plain, timeout="5s") as staged:
        backend, _ = staged
        clients = await _clients(staged, 2)
        names = ["ann", "bo", "cy"]
        routing = Routing(backend, 3)
        calls = [asyncio.create_task(_heard(c, w)) for c, w in zip(clients, names, strict=True)]
        await asyncio.wait_for(routing.there.wait(), 5)
        tokens = {who: token for who, (_, token) in routing.whose.items()}
        assert len(set(tokens.values())) == 3
        for who, token in (*tokens.items(), ("nobody", 1000), ("nobody", "x")):
            params = {"progressToken": token, "progress": 1, "message": who}
            backend.say(
                routing.session, {**LOGGED, "method": "notifications/progress"} | {"params": params}
            )
        await backend.streams[routing.session].drain()
        # What a session is asked behind it is dealt with behind it.
        backend.say(routing.session, {"jsonrpc": "2.0", "id": "p", "method": "ping"})
        await soon(lambda: backend.answers, "the answer to the ping")
        routing.may.set()
        for who, received in zip(names, await asyncio.gather(*calls), strict=True):
            told, answer = received
            assert told["params"] == {"progressToken": 1, "progress": 1, "message": who}
            assert answer["result"]["content"][0]["text"] == who


async def test_s9_messages_on_the_stream_of_a_call_reach_its_client_unless_they_name_another(
    proxy: Any, http: Any
) -> None:
    async with stage(proxy, http, "Reused", plain, timeout="5s") as staged:
        backend, _ = staged
        clients = await _clients(staged, 1)
        names = ["ann", "bo"]
        routing = Routing(backend, 2)
        asked: list[Any] = []

        async def written(request_id: Any, writer: asyncio.StreamWriter) -> None:
            asked.append(request_id)
            who = backend.calls[-1]["params"]["arguments"]["who"]
            other = next(name for name in names if name != who)
            writer.write(HEAD)
            routing.whose[who] = request_id, request_id
            if len(routing.whose) == 2:
                routing.there.set()
            await routing.there.wait()
            question = {**ASKED, "id": f"q-{who}", "params": {**ASKED["params"], "message": who}}
            told = {"progressToken": routing.whose[other][1], "progress": 1, "message": other}
            log = {**LOGGED, "params": {"level": "info", "data": who}}
            for message in (log, {**LOGGED, "method": "notifications/progress", "params": told}):
                writer.write(chunk(b"data: %b\n\n" % json.dumps(message).encode()))
            writer.write(chunk(b"data: %b\n\n" % json.dumps(question).encode()))
            await soon(lambda: len(backend.answers) == 2, "the answers")
            result = {"content": [{"type": "text", "text": who}]}
            body = {"jsonrpc": "2.0", "id": request_id, "result": result}
            writer.write(chunk(b"data: %b\n\n" % json.dumps(body).encode()) + END)

        backend.writes = written
        calls = [_heard(c, w, {"who": w}) for c, w in zip(clients, names, strict=True)]
        for who, received in zip(names, await asyncio.gather(*calls), strict=True):
            assert received[-1]["result"]["content"][0]["text"] == who
            about = [m["params"].get("data") or m["params"]["message"] for m in received[:-1]]
            assert about == [who] * 3
        for answer in backend.answers:
            assert answer["id"] == f"q-{answer['result']['who']}"


async def test_dropped_messages_are_counted_in_a_metric(
    proxy: Any, http: Any, stack: AsyncExitStack
) -> None:
    async with stage(proxy, http, "Reused", plain, timeout="5s") as staged:
        _, first = staged
        running = await proxy({"name": "p", "url": first.url})
        text = (await http.get(f"{running.admin}/metrics")).text
        for kind in ("log", "notification", "request"):
            assert f'mcpproxy_unattributed_messages_total{{kind="{kind}"}}' in text
