"""An instance ends: the errors of what it held say whether the calls may have run."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from mcpproxy.proxy.downstream.peers.forwarding import PeerForwarder, PeerUnavailable
from mcpproxy.proxy.protocol.batches import REVISION
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import META, MODERN, Raw, last, modern, rpc
from tests.proxy.runtime.serving import LIVE, Proxy, proxied, serving
from tests.proxy.runtime.strangers import KEY
from tests.proxy.runtime.test_instances import TOKEN, called, without_records, worlds
from tests.proxy.runtime.waiting import eventually

pytestmark = [*LIVE, pytest.mark.timeout(120)]
__all__ = ["without_records"]
LOST = {"reason": "InstanceLost", "mayHaveRun": True}


async def test_a_call_that_waited_for_input_at_an_instance_that_has_ended_may_have_run() -> None:
    peer = Peer("p", "legacy")
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(serving(peer.gate))
        spec = {"name": "p", "url": f"{base}/mcp"}
        options = {"keys": (KEY,), "drain": 1}
        first, second = [
            await stack.enter_async_context(proxied(spec, options=options)) for _ in range(2)
        ]
        limits = httpx2.Limits(max_keepalive_connections=0)
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30, limits=limits))
        able: Any = {f"{META}clientCapabilities": {"elicitation": {"form": {}}}}

        async def call(url: str, token: str, **more: Any) -> Any:
            params = {"name": "p_elicit", "arguments": {}}
            request = modern("tools/call", **params, **more, _meta=able)
            headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call"}
            headers |= {"mcp_name": "p_elicit", "authorization": token}
            return last(await Raw(url, http).post(request, **headers))

        parked = (await call(first.url, "Bearer ann"))["result"]
        assert parked["resultType"] == "input_required"
        (key,) = parked["inputRequests"]
        answers = {key: {"action": "accept", "content": {"name": "Ann"}}}
        retry = {"requestState": parked["requestState"], "inputResponses": answers}
        await first.stop()
        error = (await call(second.url, "Bearer ann", **retry))["error"]
        assert (error["code"], error["data"]) == (-32000, LOST)
        assert error["message"].endswith("; the request may have run")
        error = (await call(second.url, "Bearer bo", **retry))["error"]
        assert error == {"code": -32602, "message": "invalid or expired requestState"}


async def test_each_request_of_a_batch_at_an_instance_that_has_ended_may_have_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def lose(*_: object) -> None:
        raise PeerUnavailable("gone", may_have_run=True)

    async with worlds() as world:
        begun = Raw(world.first.url, world.http)
        await begun.initialize(REVISION, authorization=TOKEN)
        client = Raw(world.second.url, world.http)
        client.session = begun.session
        monkeypatch.setattr(PeerForwarder, "forward", lose)
        call = {"name": "c_increment", "arguments": {}}
        batch = [rpc("tools/call", call, 1), 5, rpc("tools/call", call, "b")]
        answer = await client.post(batch, authorization=TOKEN)
    assert answer.status_code == 200
    lines = answer.text.splitlines()
    messages = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    errors = {message["id"]: message["error"] for message in messages}
    assert (errors[1]["data"], errors["b"]["data"]) == (LOST, LOST)
    assert errors[None]["code"] == -32600
    assert len(messages) == 3


@pytest.mark.usefixtures("without_records")
async def test_the_end_of_a_session_tells_that_the_request_did_not_run() -> None:
    async with worlds() as world:
        (client,) = await world.session(world.second)
        await world.first.stop()
        answer = await called(client, "c_increment")
        assert answer.status_code == 404
        assert "the request did not run; initialize again" in answer.text
        assert not world.counter.counts


async def test_a_call_gets_the_answer_to_its_question_while_its_instance_stops() -> None:
    peer = Peer("p", "legacy")
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(serving(peer.gate))
        spec = {"name": "p", "url": f"{base}/mcp"}
        options = {"keys": (KEY,)}
        first, second = [
            await stack.enter_async_context(proxied(spec, options=options)) for _ in range(2)
        ]
        limits = httpx2.Limits(max_keepalive_connections=0)
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30, limits=limits))
        begun, other = Raw(first.url, http), Raw(second.url, http)
        await begun.initialize(capabilities={"elicitation": {}})
        other.session = begun.session
        messages = begun.messages(rpc("tools/call", {"name": "p_elicit", "arguments": {}}, 7))
        question = await anext(messages)
        assert question["method"] == "elicitation/create"
        first.runtime.stop()
        await eventually(lambda: _is_stopping(first), "the instance to stop")
        result = {"action": "accept", "content": {"name": "Ann"}}
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": result}
        assert (await other.post(answer)).status_code == 202
        async with asyncio.timeout(10):
            response = await anext(messages)
        assert "result" in response, response
        await first.serving
        with pytest.raises(httpx2.ConnectError):
            await begun.post(rpc("ping"))


async def _is_stopping(proxy: Proxy) -> bool:
    return await proxy.runtime.not_ready() == "shutting down"
