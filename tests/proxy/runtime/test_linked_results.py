"""`backends[].results.onLarger: Link`: a client reads a large result as a resource."""

import json
from typing import Any

import httpx2
import pytest

from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import Raw, last, rpc
from tests.proxy.runtime.serving import LIVE, Proxy
from tests.proxy.runtime.test_limit_fields import ALICE, BOB, started

pytestmark = [*LIVE, pytest.mark.timeout(120)]
RESULTS = {"maxBytes": 2048, "onLarger": "Link"}
TEXT = "grüße " * 2000
CALL = {"name": "p_echo", "arguments": {"text": TEXT}}


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool echo answers with text alone."""
    echo = Peer.echo

    async def text_only(self: Peer, context: Any, params: Any) -> Any:
        answer = await echo(self, context, params)
        return answer.model_copy(update={"structured_content": None})

    monkeypatch.setattr(Peer, "echo", text_only)


async def _session(proxy: Proxy, http: httpx2.AsyncClient, **headers: str) -> Raw:
    client = Raw(proxy.url, http)
    await client.initialize(**headers)
    return client


async def _linked(client: Raw, **headers: str) -> Any:
    """The result of a call whose result is too large."""
    result = last(await client.post(rpc("tools/call", CALL), **headers))["result"]
    assert len(json.dumps(result)) < RESULTS["maxBytes"]  # type: ignore[operator]
    return result


async def _read(client: Raw, uri: str, **headers: str) -> Any:
    return last(await client.post(rpc("resources/read", {"uri": uri}), **headers))


@pytest.mark.usefixtures("plain")
async def test_a_client_reads_at_any_instance_what_the_link_names() -> None:
    async with started(results=RESULTS, count=2) as (_, proxies, http):
        first, second = [await _session(proxy, http) for proxy in proxies]
        note, link = (await _linked(first))["content"]
        assert link["type"] == "resource_link"
        assert link["uri"] in note["text"]
        assert link["size"] > len(TEXT)
        for client in (first, second):
            (content,) = (await _read(client, link["uri"]))["result"]["contents"]
            assert content["uri"] == link["uri"]
            assert json.loads(content["text"]) == {"text": TEXT}


@pytest.mark.usefixtures("plain")
async def test_a_modern_client_reads_it_at_any_instance() -> None:
    async with started(results=RESULTS, count=2) as (_, proxies, http):
        first, second = [Raw(proxy.url, http) for proxy in proxies]
        result = last(await first.call("tools/call", "p_echo", **CALL))["result"]
        uri = result["content"][1]["uri"]
        assert result["resultType"] == "complete"
        for client in (first, second):
            read = last(await client.call("resources/read", uri, uri=uri))["result"]
            assert json.loads(read["contents"][0]["text"]) == {"text": TEXT}
            assert (read["resultType"], read["ttlMs"]) == ("complete", 0)


@pytest.mark.usefixtures("plain")
async def test_another_principal_learns_no_more_than_of_an_unknown_result() -> None:
    async with started(results=RESULTS) as (_, (proxy,), http):
        alice = await _session(proxy, http, **ALICE)
        uri = (await _linked(alice, **ALICE))["content"][1]["uri"]
        assert "result" in await _read(alice, uri, **ALICE)
        bob = await _session(proxy, http, **BOB)
        foreign = (await _read(bob, uri, **BOB))["error"]
        proxy.runtime.gateway.kept_results.close()  # type: ignore[union-attr]
        gone = (await _read(alice, uri, **ALICE))["error"]
        assert foreign == gone
        assert "call the tool again" in gone["message"]
        made_up = (await _read(alice, "mcpproxy-result:AAAA", **ALICE))["error"]
        assert made_up["code"] == gone["code"]


@pytest.mark.usefixtures("plain")
async def test_a_result_whose_instance_is_gone_is_unknown() -> None:
    async with started(results=RESULTS, count=2) as (_, proxies, http):
        first, second = [await _session(proxy, http) for proxy in proxies]
        uri = (await _linked(first))["content"][1]["uri"]
        await proxies[0].stop()
        assert "unknown resource" in (await _read(second, uri))["error"]["message"]
        modern = Raw(proxies[1].url, http)
        error = last(await modern.call("resources/read", uri, uri=uri))["error"]
        assert "unknown resource" in error["message"]


async def test_structured_content_that_does_not_fit_makes_the_result_an_error_with_a_link() -> None:
    async with started(results=RESULTS) as (_, (proxy,), http):
        client = await _session(proxy, http)
        result = await _linked(client)
        assert result["isError"]
        assert "structuredContent" not in result
        contents = (await _read(client, result["content"][1]["uri"]))["result"]["contents"]
        assert [content["mimeType"] for content in contents] == ["text/plain", "application/json"]


@pytest.mark.usefixtures("plain")
async def test_clients_of_revisions_without_links_get_the_uri_as_text() -> None:
    async with started(results=RESULTS) as (_, (proxy,), http):
        client = Raw(proxy.url, http)
        await client.initialize("2025-03-26")
        (note,) = (await _linked(client))["content"]
        uri = next(word for word in note["text"].split() if word.startswith("mcpproxy-result:"))
        assert "result" in await _read(client, uri)
