"""Content codings that nobody asked for: decoded within bounds, and never asked for."""

import functools
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from mcpproxy.limits.backends import DECODED_RATIO
from mcpproxy.proxy.core.errors import ProtocolError
from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient
from tests.proxy.upstream.answering import ON_HTTP, Told, answering, called

gzipped = functools.partial(gzip.compress, mtime=0)
ASKED = b"\r\naccept-encoding: identity\r\n"


def _raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


def _members(body: bytes) -> bytes:
    return gzipped(body[:20]) + gzipped(body[20:])


def _trailing(body: bytes) -> bytes:
    return gzipped(body) + b"\0\0"


CODINGS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzipped),
    "x-gzip": (b"X-GZIP", gzipped),
    "members": (b"gzip", _members),
    "trailing": (b"gzip", _trailing),
    "deflate": (b"deflate", zlib.compress),
    "raw-deflate": (b"deflate", _raw_deflate),
    "identity": (b"identity", bytes),
    "both": (b"identity, gzip", gzipped),
}


def _body(transport: str, text: str = "hello") -> bytes:
    response = json.dumps({"jsonrpc": "2.0", "id": 7, "result": {"a": text}}).encode()
    log = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}'
    streamed = transport.endswith("stream")
    return b"data: %b\n\ndata: %b\n\n" % (log, response) if streamed else response


def _coded(name: bytes) -> bytes:
    return b"content-encoding: %b\r\n" % name


@pytest.mark.parametrize("transport", ON_HTTP)
@pytest.mark.parametrize("coding", CODINGS)
async def test_a_body_with_a_content_coding_is_decoded(transport: str, coding: str) -> None:
    name, code = CODINGS[coding]
    caller = Told()
    coded = code(_body(transport))
    async with answering(transport, coded, more=_coded(name)) as (link, server):
        assert (await called(link, caller))["result"] == {"a": "hello"}
    assert all(head.count(ASKED) == 1 for head in server.heads)
    assert caller.methods == (["notifications/message"] if "stream" in transport else [])


@pytest.mark.parametrize("transport", ON_HTTP)
async def test_a_large_body_with_a_content_coding_is_decoded_whole(transport: str) -> None:
    text = "".join(f"{n} " for n in range(50_000))
    coded = gzipped(_body(transport, text))
    async with answering(transport, coded, more=_coded(b"gzip")) as (link, _):
        assert (await called(link))["result"] == {"a": text}


@pytest.mark.parametrize("transport", ON_HTTP)
@pytest.mark.parametrize("code", [gzipped, zlib.compress])
async def test_a_decompression_bomb_is_refused(
    transport: str, code: Callable[[bytes], bytes]
) -> None:
    before = DECODED_RATIO.reached
    name = b"gzip" if code is gzipped else b"deflate"
    coded = code(_body(transport, "x" * 8_000_000))
    async with answering(transport, coded, more=_coded(name)) as (link, _):
        with pytest.raises(ProtocolError, match="more than 100 times as large"):
            await called(link)
    assert DECODED_RATIO.reached == before + 1


@pytest.mark.parametrize("transport", ON_HTTP)
@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        (b"gzip", b"\x1f\x8bnonsense", "does not match its Content-Encoding"),
        (b"br", b"\x0b\x02\x80hello\x03", "the Content-Encoding 'br'"),
        (b"gzip, gzip", gzipped(b""), "the Content-Encoding 'gzip, gzip'"),
        (b"gzip", b"", "without a"),
    ],
)
async def test_a_body_that_cannot_be_decoded_ends_the_call_with_a_reason(
    transport: str, name: bytes, body: bytes, reason: str
) -> None:
    async with answering(transport, body, more=_coded(name)) as (link, _):
        with pytest.raises(Exception, match=reason) as caught:
            await called(link)
    assert not isinstance(caught.value, TimeoutError)


async def test_a_configured_accept_encoding_is_sent_unchanged() -> None:
    configured = ((b"accept-encoding", b"gzip"),)
    endpoint = McpHttpClient(HttpClient("http://h/mcp", 1), lambda: configured)
    head: Any = endpoint._head("/mcp", (), configured)
    assert head.count(b"accept-encoding: ") == 1
    assert b"accept-encoding: gzip\r\n" in head
