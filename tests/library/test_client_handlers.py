"""Handlers of a ProxyClient answer in the client's place, in all four pairs of eras."""

import json
from typing import Any

import httpx2
import mcp_types as t
import pytest
from mcp import MCPError

from mcpproxy import Proxy, ProxyClient, create_proxy
from tests.library.conftest import ERAS, text

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
pairs = pytest.mark.parametrize(
    ("mode", "era"), [(mode, era) for mode in ERAS for era in ("legacy", "modern")]
)


def _sampled(params: t.CreateMessageRequestParams) -> str:
    content: Any = params.messages[0].content
    return f"answered {content.text}"


async def _elicited(params: Any) -> t.ElicitResult:
    return t.ElicitResult(action="accept", content={"name": params.message})


@pairs
async def test_handlers_answer_server_requests_that_the_client_cannot(
    peer: Any, connect: Any, mode: str, era: str
) -> None:
    _, url = await peer(era=era)
    backend = ProxyClient(
        url, sampling_handler=_sampled, elicitation_handler=_elicited, roots=["file:///here"]
    )
    client = await connect(create_proxy(backend), mode)
    seen = json.loads(text(await client.call_tool("whoami", {})))
    assert {"sampling", "elicitation", "roots"} <= set(seen)
    assert text(await client.call_tool("sample", {"prompt": "Paris"})) == "model: answered Paris"
    assert text(await client.call_tool("elicit", {})) == "user: Who?"
    assert text(await client.call_tool("roots", {})) == "file:///here"


@pairs
async def test_unhandled_requests_still_reach_the_client(
    peer: Any, connect: Any, mode: str, era: str
) -> None:
    _, url = await peer(era=era)

    async def elicit(ctx: Any, params: Any) -> t.ElicitResult:
        return t.ElicitResult(action="accept", content={"name": "the client"})

    backend = ProxyClient(url, sampling_handler=_sampled)
    client = await connect(create_proxy(backend), mode, elicitation_callback=elicit)
    assert text(await client.call_tool("elicit", {})) == "user: the client"
    assert text(await client.call_tool("sample", {"prompt": "x"})) == "model: answered x"


@pairs
async def test_progress_and_logs_can_be_listened_to(
    peer: Any, connect: Any, mode: str, era: str
) -> None:
    _, url = await peer(era=era)
    logs: list[Any] = []
    done: list[float] = []
    backend = ProxyClient(
        url,
        log_handler=lambda params: logs.append(params.data),
        progress_handler=lambda progress, total, message: done.append(progress),
    )
    client = await connect(create_proxy(backend), mode, log_level="debug")
    if mode == "legacy":
        await client.set_logging_level("debug")

    async def never(progress: float, total: float | None, message: str | None) -> None:
        raise AssertionError("the handler takes it")

    await client.call_tool("noisy", {"say": "hi"}, progress_callback=never)
    assert logs == ["hi"]
    assert done == [1, 2]


@pairs
async def test_a_shared_session_asks_only_clients_that_can_answer(
    peer: Any, connect: Any, mode: str, era: str
) -> None:
    _, url = await peer(era=era)
    shared = ProxyClient(url)
    client = await connect(Proxy(client_factory=lambda: shared), mode)
    result = await client.call_tool("echo", {"a": 1})
    assert text(result) == '{"a": 1}'
    with pytest.raises(Exception, match=r"not offer|not support|declare|apabilit|nternal"):
        await client.call_tool("sample", {"prompt": "x"})


async def test_a_reused_session_is_given_a_log_level_once(peer: Any, connect: Any) -> None:
    server, url = await peer(era="legacy")
    shared = ProxyClient(url)
    client = await connect(Proxy(client_factory=lambda: shared), ERAS[1], log_level="debug")
    for _ in range(3):
        await client.call_tool("echo", {})
    assert server.gate.count("logging/setLevel") == 1


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_factories_may_choose_other_headers_each_time(peer: Any, era: str) -> None:
    result, url = await peer(era=era)
    tokens = iter(f"t{n}" for n in range(100))
    async with Proxy(
        client_factory=lambda: ProxyClient(url, headers={"X-Token": next(tokens)})
    ) as proxy:
        for _ in range(3):
            await proxy.call_tool("echo", {})
    calls = [r.headers["x-token"] for r in result.gate.seen if r.rpc == "tools/call"]
    assert len(set(calls)) == 3


async def test_factories_may_be_asynchronous(counter: Any) -> None:
    server, url = counter

    async def make() -> ProxyClient:
        return ProxyClient(url)

    async with Proxy(client_factory=make) as proxy:
        for _ in range(2):
            result = await proxy.call_tool("increment")
            assert result.structured_content == {"result": 1}
    assert len(server.counts) == 2


async def test_a_shared_session_that_the_server_lost_is_opened_again(counter: Any) -> None:
    server, url = counter
    shared = ProxyClient(url)
    async with Proxy(client_factory=lambda: shared) as proxy:
        await proxy.call_tool("increment")
        (session,) = server.counts
        async with httpx2.AsyncClient() as http:
            headers = {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25"}
            assert (await http.delete(url, headers=headers)).status_code == 200
        result = await proxy.call_tool("increment")
        assert result.structured_content == {"result": 1}


async def test_two_clients_of_one_server_share_nothing(counter: Any) -> None:
    server, url = counter
    async with ProxyClient(url) as item, item.new() as two:
        for client in (item, two):
            result = await create_proxy(client).call_tool("increment")
            assert result.structured_content == {"result": 1}
    assert len(server.counts) == 2


@pairs
async def test_a_handler_that_fails_is_an_error_of_the_call(
    peer: Any, connect: Any, mode: str, era: str
) -> None:
    _, url = await peer(era=era)

    def broken(params: Any) -> str:
        raise ValueError("a secret")

    client = await connect(create_proxy(ProxyClient(url, sampling_handler=broken)), mode)
    with pytest.raises(MCPError) as error:
        await client.call_tool("sample", {"prompt": "x"})
    assert "secret" not in str(error.value)
    assert text(await client.call_tool("echo", {})) == "{}"


async def test_a_factory_that_fails_is_an_error_of_the_call() -> None:
    def broken() -> ProxyClient:
        raise ValueError("no client today")

    with pytest.raises(MCPError, match="no client today"):
        await Proxy(client_factory=broken).call_tool("echo")
