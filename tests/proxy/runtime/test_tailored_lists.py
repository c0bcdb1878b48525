"""Lists of backends that offer more to clients that declare more."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import mcp_types as t
import pytest
from mcp import Client

from mcpproxy.limits.backends import LIST_VARIANTS
from mcpproxy.proxy.core.catalog.list_variant import EVERYONE
from mcpproxy.proxy.core.exchange import ClientIdentity as Asking
from mcpproxy.proxy.gateway import list_variants
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.protocol.kinds import TOOLS
from mcpproxy.proxy.upstream.monitor import list_cache, list_waits
from mcpproxy.proxy.upstream.monitor import list_variants as tailored
from tests.proxy.runtime.serving import LIVE, Proxy
from tests.proxy.runtime.waiting import eventually, soon

pytestmark = LIVE
SERVER = Path(__file__).with_name("tailoring.py")
MODES = ("legacy", "2026-07-28")
pairs = pytest.mark.parametrize(
    ("mode", "era"), [(mode, era) for mode in MODES for era in ("legacy", "modern", "dual")]
)
SAMPLER = Asking("2025-11-25", b'{"sampling":{}}')


async def _sample(context: Any, params: Any) -> Any:
    content = t.TextContent(type="text", text="Paris")
    return t.CreateMessageResult(role="assistant", content=content, model="none")


async def _elicit(context: Any, params: Any) -> t.ElicitResult:
    return t.ElicitResult(action="accept", content={"name": "Bo"})


async def _names(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


async def _choosy(peer: Any, era: str = "legacy", name: str = "p") -> tuple[Any, str]:
    """A peer that lists its tool `sample` only to clients that can sample."""
    server, url = await peer(name, era)
    server.needs = {"sample": "sampling", "elicit": "elicitation"}
    return server, url


async def _listed(running: Proxy, client: Asking = SAMPLER) -> list[str]:
    result = await running.runtime.gateway.aggregate.listing(
        TOOLS, None, modern=False, client=client
    )
    return [tool["name"] for tool in json.loads(result)["tools"]]


@pairs
async def test_clients_get_the_list_variant_of_their_capabilities(
    peer: Any, proxy: Any, mode: str, era: str
) -> None:
    _, url = await _choosy(peer, era)
    running = await proxy({"name": "p", "url": url})
    direct_mode = {"legacy": "legacy", "modern": "2026-07-28", "dual": mode}[era]
    callbacks: list[dict[str, Any]] = [
        {},
        {"sampling_callback": _sample},
        {"elicitation_callback": _elicit},
        {"sampling_callback": _sample, "elicitation_callback": _elicit},
    ]
    seen = []
    for callback in callbacks:
        async with (
            Client(url, mode=direct_mode, **callback) as direct,
            Client(running.url, mode=mode, **callback) as through,
        ):
            pages, cursor = [], None
            while True:
                page = await direct.list_tools(cursor=cursor)
                pages += [f"p_{tool.name}" for tool in page.tools]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert await _names(through) == pages
            seen.append(len(pages))
            if "p_sample" in pages:
                called = await through.call_tool("p_sample", {"prompt": "?"})
                assert called.content == [t.TextContent(type="text", text="model: Paris")]
    assert seen == [7, 8, 8, 9]


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_s24_a_backend_never_sees_more_capabilities_than_the_client_declared(
    peer: Any, proxy: Any, era: str
) -> None:
    server, url = await _choosy(peer, era)
    running = await proxy({"name": "p", "url": url})
    declared = [{}, {"sampling": {}}, {"elicitation": {"form": {}}}]
    for capabilities in declared:
        text = json.dumps(capabilities, separators=(",", ":")).encode()
        await _listed(running, Asking("2025-11-25", text))
    told = []
    for request in server.gate.seen:
        params = (json.loads(request.body) if request.body else {}).get("params") or {}
        for result in (
            params.get("capabilities") if request.rpc == "initialize" else None,
            params.get("_meta", {}).get("io.modelcontextprotocol/clientCapabilities"),
        ):
            if result is not None and result not in told:
                told.append(result)
    assert told == declared


async def test_capabilities_removed_by_forward_do_not_affect_lists(peer: Any, proxy: Any) -> None:
    server, url = await _choosy(peer)
    running = await proxy({"name": "p", "url": url, "forward": {"sampling": False}})
    before = server.gate.count("initialize")
    assert "p_sample" not in await _listed(running)
    assert server.gate.count("initialize") == before
    both = Asking("2025-11-25", b'{"elicitation":{},"sampling":{}}')
    assert {"p_sample", "p_elicit"} & {*await _listed(running, both)} == {"p_elicit"}


async def test_concurrent_lists_of_clients_that_declare_the_same_are_one_flight(
    peer: Any, proxy: Any
) -> None:
    server, url = await _choosy(peer)
    running = await proxy({"name": "p", "url": url})
    before = server.gate.count("tools/list"), server.gate.count("initialize")
    result = await asyncio.gather(*(_listed(running) for _ in range(30)))
    assert len({tuple(names) for names in result}) == 1
    assert server.gate.count("tools/list") == before[0] + 2
    assert server.gate.count("initialize") == before[1] + 1


async def test_fresh_lists_send_no_requests_for_any_capabilities(
    peer: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailored, "MIN_REFRESH_AGE", 3600.0)
    monkeypatch.setattr(list_cache, "MIN_REFRESH_AGE", 3600.0)
    server, url = await _choosy(peer)
    running = await proxy({"name": "p", "url": url})
    await _listed(running)
    before = server.gate.count("tools/list")
    for _ in range(5):
        assert "p_sample" in await _listed(running)
    assert server.gate.count("tools/list") == before


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_tool_that_is_only_for_some_is_announced_and_then_listed_to_them(
    peer: Any, proxy: Any, era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_waits, "APART", 0.01)
    server, url = await _choosy(peer, era)
    running = await proxy({"name": "p", "url": url})
    changed = asyncio.Event()

    async def handle(message: Any) -> None:
        if isinstance(message, t.ToolListChangedNotification):
            changed.set()

    async with Client(
        running.url, mode="legacy", message_handler=handle, sampling_callback=_sample
    ) as client:
        assert "p_new" not in await _names(client)
        await soon(lambda: running.runtime.gateway.metrics.streams._value.get() == 1, "a stream")
        await server.grow("new", needs="sampling")
        async with asyncio.timeout(10):
            await changed.wait()
        assert "p_new" in await _names(client)
    assert "p_new" not in await _listed(running, Asking("2025-11-25"))


async def test_a_backend_that_hangs_for_some_clients_delays_the_others_only_briefly(
    peer: Any, proxy: Any
) -> None:
    server, url = await _choosy(peer)
    _, other = await peer("q", "legacy")
    running = await proxy({"name": "p", "url": url}, {"name": "q", "url": other})
    await running.until("p", "Healthy")
    await running.until("q", "Healthy")
    app, blocked = server.gate.app, asyncio.Event()

    async def hang(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        messages = []
        more = scope["method"] == "POST"
        while more:
            messages.append(await receive())
            body += messages[-1]["body"]
            more = messages[-1].get("more_body", False)
        if b'"sampling"' in body:
            await blocked.wait()

        async def again() -> Any:
            return messages.pop(0) if messages else await receive()

        await app(scope, again, send)

    server.gate.app = hang
    try:
        result, plain = await asyncio.gather(
            _listed(running), _listed(running, Asking("2025-11-25"))
        )
        assert result == plain
        assert {name[0] for name in result} == {"p", "q"}
        assert await running.state("p") == "Healthy"
    finally:
        blocked.set()
    await eventually(lambda: _has(running, "p_sample"), "the list that was late")


async def _has(running: Proxy, name: str) -> bool:
    return name in await _listed(running)


async def test_clients_refused_by_a_backend_get_the_common_list(peer: Any, proxy: Any) -> None:
    server, url = await _choosy(peer)
    running = await proxy({"name": "p", "url": url})
    app = server.gate.app

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        if b'"sampling"' in message.get("body", b""):
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        messages = [message]

        async def again() -> Any:
            return messages.pop() if messages else await receive()

        await app(scope, again, send)

    server.gate.app = refuse
    result = await _listed(running)
    assert len(result) == 7
    before = server.gate.count("initialize")
    assert await _listed(running) == result
    assert server.gate.count("initialize") == before


async def test_list_variants_of_a_lost_backend_are_also_dropped(peer: Any, proxy: Any) -> None:
    server, url = await _choosy(peer)
    running = await proxy({"name": "p", "url": url})
    assert "p_sample" in await _listed(running)
    server.gate.status = 503
    await running.until("p", "Unhealthy")
    with pytest.raises(RpcError, match="backend p: the backend responded with HTTP 503"):
        await _listed(running)
    server.gate.status = None
    await running.until("p", "Healthy")
    assert "p_sample" in await _listed(running)


async def test_counts_and_the_hash_do_not_depend_on_clients(peer: Any, proxy: Any) -> None:
    _, url = await _choosy(peer)
    running = await proxy({"name": "p", "url": url})
    before = await running.report()
    assert len(await _listed(running)) == 8
    after = await running.report()
    assert after == before
    assert after.backends[0].components is not None
    assert after.backends[0].components.tools == 7


async def test_capabilities_of_any_size_and_number_are_served_from_a_bounded_memory(
    peer: Any, proxy: Any
) -> None:
    _, url = await _choosy(peer, "modern")
    running = await proxy({"name": "p", "url": url})
    gateway = running.runtime.gateway
    for number in range(LIST_VARIANTS.value + 10):
        declared = b'{"experimental":{"n%d":{}},"sampling":{}}' % number
        assert "p_sample" in await _listed(running, Asking("2025-11-25", declared))
    assert len(gateway.catalog.known("p", TOOLS)) == LIST_VARIANTS.value + 1
    assert len(gateway.aggregate._variants._recent) == list_variants.MAX_VARIANTS
    huge = b'{"experimental":{"x":"%b"},"sampling":{}}' % (b"x" * 10_000)
    assert gateway.aggregate._variants.of(Asking("2025-11-25", huge)) is EVERYONE


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "protocol"), [("legacy", "legacy"), ("2026-07-28", "auto")])
async def test_a_stdio_backend_starts_one_process_for_lists_and_the_call_after_them(
    proxy: Any, tmp_path: Path, mode: str, protocol: str
) -> None:
    pids = tmp_path / "pids"

    def started() -> list[int]:
        return [int(pid) for pid in pids.read_text(encoding="ascii").split()]

    stdio = {"command": sys.executable, "args": [str(SERVER), str(pids)]}
    running = await proxy({"name": "s", "stdio": stdio, "protocol": protocol})
    await running.until("s", "Healthy")
    await soon(lambda: len(started()) == 2, "the process of the first client")
    async with Client(running.url, mode=mode, sampling_callback=_sample) as client:
        assert await _names(client) == ["s_pid", "s_sample"]
        await asyncio.gather(client.list_prompts(), client.list_resources())
        processes = started()
        assert len(processes) == 2
        called = await client.call_tool("s_pid", {})
        assert called.structured_content["result"] in processes
