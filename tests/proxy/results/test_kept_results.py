"""Results that are kept for their clients are bounded, and belong to them."""

import asyncio
import json
import secrets
from typing import Any

import pytest

from mcpproxy.limits.clients import KEPT_RESULT_BYTES, KEPT_RESULT_TIME, KEPT_RESULTS
from mcpproxy.limits.limit import Limit
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.results import kept_results
from mcpproxy.proxy.results.kept_results import KeptResults
from mcpproxy.proxy.results.linked_content import contents_of


@pytest.fixture
def kept() -> KeptResults:
    return KeptResults(Sealer([b"k" * 32], secrets.token_bytes))


def _client(principal: str, revision: str = "2025-11-25") -> ClientIdentity:
    return ClientIdentity(revision, principal=principal, network=principal)


def _link(kept: KeptResults, client: ClientIdentity, text: str = "x") -> str:
    """Keep a result; return its URI."""
    result = {"content": [{"type": "text", "text": text}]}
    linked = kept.link("logs", client, 1024, result, len(text))
    assert linked is not None
    uri: str = json.loads(bytes(linked))["content"][1]["uri"]
    return uri


def _is_kept(kept: KeptResults, uri: str, client: ClientIdentity) -> bool:
    try:
        kept.read(uri, client)
    except RpcError:
        return False
    return True


@pytest.mark.parametrize("limit", ["count", "bytes"])
async def test_beyond_the_limit_the_largest_holder_loses_its_oldest_result(
    kept: KeptResults, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    few, many = _client("few"), _client("many")
    if limit == "bytes":
        monkeypatch.setattr(kept_results, "KEPT_RESULT_BYTES", _smaller(KEPT_RESULT_BYTES, 64_000))
    text = "x" if limit == "count" else "x" * 7000
    earlier = _link(kept, few, text)
    count = KEPT_RESULTS.value + 10 if limit == "count" else 20
    uris = [_link(kept, many, text) for _ in range(count)]
    assert _is_kept(kept, earlier, few)
    assert not _is_kept(kept, uris[0], many)
    assert _is_kept(kept, uris[-1], many)


def _smaller(limit: Limit, value: int) -> Limit:
    return Limit(limit.name, value, limit.unit, limit.counts, limit.share, limit.beyond, limit.test)


async def test_a_result_that_is_read_stays_longer_than_one_that_is_not(kept: KeptResults) -> None:
    client = _client("one")
    uris = [_link(kept, client) for _ in range(KEPT_RESULTS.value)]
    assert _is_kept(kept, uris[0], client)
    _link(kept, client)
    assert [_is_kept(kept, uri, client) for uri in uris[:2]] == [True, False]


async def test_a_result_beyond_an_eighth_of_the_room_is_not_kept(kept: KeptResults) -> None:
    result = {"content": [{"type": "text", "text": "x"}]}
    size = KEPT_RESULT_BYTES.value // 8 + 1
    assert kept.link("logs", _client("one"), 1024, result, size) is None


async def test_a_result_is_forgotten_after_its_time(
    kept: KeptResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_results, "KEPT_RESULT_TIME", _smaller(KEPT_RESULT_TIME, 0))
    client = _client("one")
    uri = _link(kept, client)
    assert _is_kept(kept, uri, client)
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    loop.call_later(0, passed.set_result, None)
    await passed
    assert not _is_kept(kept, uri, client)


async def test_a_result_of_another_process_or_principal_is_unknown(kept: KeptResults) -> None:
    client = _client("one")
    uri = _link(kept, client)
    assert not _is_kept(kept, uri, _client("two"))
    kept.serve_as("10.0.0.1:8080#other")
    assert not _is_kept(kept, uri, client)


async def test_a_changed_uri_names_no_backend(kept: KeptResults) -> None:
    uri = _link(kept, _client("one"))
    assert kept.backend_of(uri) == "logs"
    assert kept.backend_of(uri[:-1] + ("A" if uri[-1] != "A" else "B")) is None
    assert kept.backend_of("file:///etc/passwd") is None


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "a"}, {"mimeType": "text/plain", "text": "a"}),
        (
            {"type": "image", "data": "AAAA", "mimeType": "image/png"},
            {"mimeType": "image/png", "blob": "AAAA"},
        ),
        (
            {"type": "audio", "data": "AAAA"},
            {"mimeType": "application/octet-stream", "blob": "AAAA"},
        ),
        (
            {"type": "resource_link", "uri": "a:b", "name": "b"},
            {
                "mimeType": "application/json",
                "text": '{"type":"resource_link","uri":"a:b","name":"b"}',
            },
        ),
        ("odd", {"mimeType": "application/json", "text": '"odd"'}),
        ({"type": "text", "text": 1}, {"mimeType": "application/json", "text": None}),
    ],
)
async def test_each_part_of_the_content_is_content_of_the_resource(
    part: Any, expected: dict[str, Any]
) -> None:
    (content,) = contents_of({"content": [part]}, "u:1")
    if expected.get("text", "") is None:
        expected = {**expected, "text": json.dumps(part, separators=(",", ":"))}
    assert content == {"uri": "u:1", **expected}


async def test_an_embedded_resource_keeps_its_own_uri() -> None:
    embedded = {"uri": "file:///a", "text": "a"}
    (content,) = contents_of({"content": [{"type": "resource", "resource": embedded}]}, "u:1")
    assert content == embedded
