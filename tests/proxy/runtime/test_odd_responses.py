"""Responses that are not what the schema says, from a backend to the client of either era."""

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.shaped import END, HEAD, KINDS, called, chunk, plain, stage

pytestmark = LIVE


def event(body: bytes) -> bytes:
    """A stream of one event."""
    return HEAD + chunk(b"data: %b\n\n" % body) + END


def zipped(body: bytes) -> bytes:
    """One JSON message with a content coding."""
    return plain(gzip.compress(body), more=b"content-encoding: gzip\r\n")


TEXT = b'{"content":[{"type":"text","text":%b}],"resultType":"complete"}'
SHAPES = [plain, event, zipped]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (b'"result":%b,"error":null' % (TEXT % b'"hi"'), "hi"),
        (b'"result":%b' % (TEXT % b'"cut \\ud83d"'), "cut \ufffd"),
        (b'"result":%b' % (TEXT % b'"\xe9"'), "\ufffd"),
        (b'"error":{"code":-7,"message":"no","data":NaN}', -7),
        (b'"error":"no"', -32603),
        (b'"result":{"content":[}', "NotMCP"),
    ],
    ids=["error-null", "surrogate", "latin-1", "NaN", "error-text", "malformed"],
)
async def test_a_call_gets_a_readable_response_or_an_immediate_error(
    proxy: Any,
    http: Any,
    kind: str,
    shape: Callable[[bytes], bytes],
    members: bytes,
    expected: Any,
) -> None:
    async def writes(request_id: Any, writer: asyncio.StreamWriter) -> None:
        own = json.dumps(request_id).encode()
        writer.write(shape(b'{"jsonrpc":"2.0","id":%b,%b}' % (own, members)))

    async with stage(proxy, http, kind, plain, timeout="20s") as (backend, client):
        backend.writes = writes
        answer = await called(client, kind)
    if "result" in answer:
        assert answer["result"]["content"][0]["text"] == expected
    elif expected == "NotMCP":
        assert answer["error"]["data"]["reason"] == "NotMCP"
        assert '"result":{"content":[}' in answer["error"]["message"]
    else:
        assert answer["error"]["code"] == expected


def zipped_event(body: bytes) -> bytes:
    """A stream of one event with a content coding."""
    head = HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    return head + chunk(gzip.compress(b"data: %b\n\n" % body)) + END


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [zipped, zipped_event])
async def test_a_large_result_with_a_content_coding_reaches_the_client(
    proxy: Any, http: Any, kind: str, shape: Callable[[bytes], bytes]
) -> None:
    text = "".join(f"{number} " for number in range(60_000))
    async with stage(proxy, http, kind, shape, timeout="20s") as (backend, client):
        backend.result = {"content": [{"type": "text", "text": text}], "resultType": "complete"}
        for _ in range(2):
            answer = await called(client, kind)
            assert answer["result"]["content"][0]["text"] == text
