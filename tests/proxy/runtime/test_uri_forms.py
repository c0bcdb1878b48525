"""URIs that are written in another form than the listed one: every form of a URI is judged."""

import json
from typing import Any

import httpx2
import pytest

from mcpproxy.proxy.protocol.headers import encode_value
from tests.proxy.runtime.authorized import ALICE, DEV, worlds
from tests.proxy.runtime.callers import Caller, caller, rule, sign_in
from tests.proxy.runtime.raw import MODERN, last, modern
from tests.proxy.runtime.serving import LIVE, proxied, serving
from tests.proxy.runtime.shelf import Shelf

pytestmark = LIVE
eras = pytest.mark.parametrize("era", ["legacy", "modern"])
SECRET = (
    "file://a//pub/../etc/passwd",
    "file://a//pub/x/../../etc/passwd",
    "file://a//pub/%2e%2e/etc/passwd",
    "file://a//pub/.%2E/etc/passwd",
    "file://a//pub/\\../../etc/passwd",
    "file://a//pub/.\t./etc/passwd",
    "file://a//pub/.\n./etc/passwd",
)
OF_PRIVATE_NOTE = (
    "note://a/pri\tvate/1",
    "NOTE://a/private/1",
    "note://a/%70rivate/1",
    "note://a/private/./1",
    "note://a/private/x/../1",
    "note://a/private/1 ",
)


@pytest.fixture(autouse=True)
def _sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(monkeypatch)


async def _read(who: Caller, uri: str) -> Any:
    """The response to a request for a resource; headers contain odd names in encoded form."""
    if who.era == "legacy":
        return last(await who.send("resources/read", uri=uri))
    names = {"mcp_method": "resources/read", "mcp_name": encode_value(uri).decode()}
    headers = {"mcp_protocol_version": MODERN, **names, **who.headers}
    return last(await who.raw.post(modern("resources/read", uri=uri), **headers))


async def _is_refused(who: Caller, uri: str) -> bool:
    """True if every request with the URI is refused."""
    ref = {"ref": {"type": "ref/resource", "uri": uri}, "argument": {"name": "id", "value": ""}}
    answers = [await _read(who, uri)]
    answers.append(last(await who.send("completion/complete", **ref)))
    if who.era == "legacy":
        answers.append(last(await who.send("resources/subscribe", uri=uri)))
    refused = {"error" in answer for answer in answers}
    assert len(refused) == 1, answers
    return refused.pop()


@eras
async def test_a_rule_for_some_uris_allows_no_form_of_others(era: str) -> None:
    only = rule("pub", DEV, {"resources": ["file://a//pub/*"]})
    async with worlds(only) as world:
        alice = await world.caller(era, ALICE)
        assert "result" in await _read(alice, "file://a//pub/new")
        assert "result" in await _read(alice, "file://a//pub/x/../new")
        for uri in SECRET:
            assert await _is_refused(alice, uri), uri


@eras
async def test_with_the_default_allow_no_form_of_a_mentioned_uri_is_open(era: str) -> None:
    closed = rule("ops", {"groups": ["ops"]}, {"resources": ["file://a//etc/*"]})
    async with worlds(closed, default="Allow") as world:
        alice = await world.caller(era, ALICE)
        assert "result" in await _read(alice, "file://a//new")
        for uri in SECRET:
            assert await _is_refused(alice, uri), uri


@eras
@pytest.mark.parametrize("uri", OF_PRIVATE_NOTE)
async def test_no_form_of_an_excluded_uri_is_served(era: str, uri: str) -> None:
    excluded: dict[str, Any] = {"resources": {"exclude": ["note://private/*"]}}
    async with (
        serving(Shelf("a").gate) as url,
        httpx2.AsyncClient(timeout=30) as http,
        proxied({"name": "a", "url": f"{url}/mcp", **excluded}) as proxy,
    ):
        who = await caller(proxy.url, http, era)
        assert "result" in await _read(who, "note://a/public")
        assert await _is_refused(who, uri)


@eras
async def test_no_form_of_a_resource_that_is_not_approved_is_served(era: str) -> None:
    catalog = {"onDrift": "Withhold", "approved": {"resources": {"x": "0" * 64}}}
    async with (
        serving(Shelf("a").gate) as url,
        httpx2.AsyncClient(timeout=30) as http,
        proxied({"name": "a", "url": f"{url}/mcp"}, catalog=catalog) as proxy,
    ):
        who = await caller(proxy.url, http, era)
        for uri in ("file://a//etc/passwd", *SECRET, "FILE://a//etc/passwd"):
            assert "error" in await _read(who, uri), uri


@eras
async def test_a_proxy_without_rules_forwards_uris_as_written(era: str) -> None:
    async with (
        serving(Shelf("a").gate) as url,
        httpx2.AsyncClient(timeout=30) as http,
        proxied({"name": "a", "url": f"{url}/mcp"}) as proxy,
    ):
        who = await caller(proxy.url, http, era)
        for uri in (*SECRET[:4], "note://a/b c"):
            answer = await _read(who, uri)
            assert "result" in answer, json.dumps(answer)
