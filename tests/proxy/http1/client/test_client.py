"""The thin HTTP client against real servers on the loopback interface."""

import asyncio
import contextlib
import dataclasses
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mcpproxy.limits.backends import CONNECTIONS
from mcpproxy.proxy.http1.client import client as client_module
from mcpproxy.proxy.http1.client.client import HttpClient, Origin, encode_request
from mcpproxy.proxy.http1.client.connection import HIGH_WATER, ClientConnection, ClientResponse
from mcpproxy.proxy.http1.errors import (
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    InvalidResponse,
)
from tests.proxy.byhand import served
from tests.proxy.runtime.waiting import soon

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Peer:
    """A server that answers by hand."""

    def __init__(self, *answers: bytes, close: bool = False) -> None:
        self.answers = list(answers)
        self.close = close
        self.connections = 0
        self.requests: list[bytes] = []
        self.closed = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: the last answer is given again and again."""
        self.connections += 1
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                body = await reader.readexactly(int(length or 0))
                self.requests.append(head + body)
                answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
                writer.write(answer)
                await writer.drain()
                if self.close:
                    break
        self.closed.set()
        writer.close()


@asynccontextmanager
async def client_of(peer: Peer) -> AsyncIterator[HttpClient]:
    """A client of a peer."""
    async with served(peer.serve) as port:
        client = HttpClient(f"http://127.0.0.1:{port}/mcp?a=b c", 5)
        try:
            yield client
        finally:
            client.close()


async def get(client: HttpClient, limit: int = 10**9) -> bytes:
    response = await client.request(b"POST", [(b"x-a", b"1")], b"hello")
    return await response.read(limit)


async def test_a_request_is_encoded_as_http_requires() -> None:
    peer = Peer(OK)
    async with client_of(peer) as client:
        assert await get(client) == b"ok"
        authority = client.origin.authority
    assert peer.requests == [
        b"POST /mcp?a=b%20c HTTP/1.1\r\nhost: " + authority + b"\r\nx-a: 1\r\n"
        b"accept-encoding: identity\r\ncontent-length: 5\r\n\r\nhello"
    ]


async def test_concurrent_requests_have_a_connection_each() -> None:
    peer = Peer(OK)
    async with client_of(peer) as client:
        assert await asyncio.gather(*(get(client) for _ in range(5))) == [b"ok"] * 5
        assert peer.connections == 5
        await get(client)
    assert peer.connections == 5


async def test_a_connection_with_connection_close_is_not_reused() -> None:
    peer = Peer(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    async with client_of(peer) as client:
        assert [await get(client), await get(client)] == [b"ok", b"ok"]
    assert peer.connections == 2


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            b"abc",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
async def test_bodies_of_every_framing_are_read(answer: bytes, body: bytes) -> None:
    peer = Peer(answer)
    async with client_of(peer) as client:
        assert [await get(client), await get(client)] == [body, body]
    assert peer.connections == 1


async def test_a_body_that_ends_with_its_connection_is_read() -> None:
    async with client_of(Peer(b"HTTP/1.1 200 OK\r\n\r\nabc", close=True)) as client:
        assert await get(client) == b"abc"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-",
        b"",
    ],
)
async def test_a_truncated_response_is_an_error_and_never_a_short_body(answer: bytes) -> None:
    async with client_of(Peer(answer, close=True)) as client:
        with pytest.raises(ConnectionLost):
            await get(client)


@pytest.mark.parametrize("answer", [b"SSH-2.0\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0\0\0\0"])
async def test_a_response_that_is_not_http_is_an_error(answer: bytes) -> None:
    async with client_of(Peer(answer)) as client:
        with pytest.raises(InvalidResponse):
            await get(client)


async def test_a_head_beyond_the_limit_is_an_error() -> None:
    head = b"".join(b"x-%d: %b\r\n" % (n, b"y" * 1000) for n in range(100))
    async with client_of(Peer(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")) as client:
        with pytest.raises(InvalidResponse):
            await get(client)


@pytest.mark.parametrize("more", [OK, b"HTTP/1.1 200", b"\x00garbage"])
async def test_bytes_after_a_response_are_not_the_response_to_the_next_request(
    more: bytes,
) -> None:
    answer = OK.replace(b"content-length", b"content-type: application/json\r\ncontent-length")
    peer = Peer(answer + more, OK.replace(b"ok", b"my"))
    free: list[ClientConnection | None] = []
    there = asyncio.Event()
    async with client_of(peer) as client:

        def done() -> None:
            # Where the next request would be sent at once.
            free.append(client.take())
            there.set()

        connection = await client.connect()
        response = connection.begin(encode_request(client.head(b"POST", "/", ()), b""), done)
        await asyncio.wait_for(there.wait(), 5)
        assert free == [None]
        assert await response.read(10) == b"ok"
        assert await get(client) == b"my"
        assert peer.connections == 2


@pytest.mark.parametrize("size", [3, 100, 300_000])
async def test_a_body_beyond_the_limit_is_an_error(size: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (size, b"x" * size)
    async with client_of(Peer(answer)) as client:
        assert len(await get(client, size)) == size
        with pytest.raises(InvalidResponse):
            await get(client, size - 1)


async def test_a_cancelled_request_closes_its_connection() -> None:
    peer = Peer(b"")
    async with client_of(peer) as client:
        request = asyncio.create_task(get(client))
        await soon(lambda: peer.requests, "the request")
        request.cancel()
        await asyncio.wait_for(peer.closed.wait(), 5)


async def test_an_abandoned_body_closes_its_connection() -> None:
    peer = Peer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", OK)
    async with client_of(peer) as client:
        response = await client.request(b"GET", [])
        response.close()
        await asyncio.wait_for(peer.closed.wait(), 5)
        assert await get(client) == b"ok"
    assert peer.connections == 2


async def test_a_slow_reader_pauses_the_peer() -> None:
    sent = 0
    total = 64 * 1024 * 1024
    chunk = b"x" * 65536

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        with contextlib.suppress(ConnectionError):
            while sent < total:
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
        writer.close()

    async with served(flood) as port:
        client = HttpClient(f"http://127.0.0.1:{port}/", 5)
        response = await client.request(b"GET", [])
        await soon(lambda: response._size > HIGH_WATER, "the buffer to fill")
        held = response._size
        for _ in range(50):
            await asyncio.sleep(0)
        assert response._size <= held + 1024 * 1024
        assert sent < total
        size = 0
        while part := await response.next_chunk():
            size += len(part)
        assert size == total
        client.close()


async def test_a_missing_listener_is_reported() -> None:
    async with served(Peer().serve) as port:
        pass
    client = HttpClient(f"http://127.0.0.1:{port}/", 5)
    with pytest.raises(ConnectError, match="refused"):
        await get(client)


async def test_an_unknown_name_is_reported() -> None:
    client = HttpClient("http://name.invalid/", 5)
    with pytest.raises((ConnectError, ConnectTimeout)):
        await get(client)


async def test_connections_use_the_configured_address_of_a_host() -> None:
    peer = Peer(OK)
    async with served(peer.serve) as port:
        client = HttpClient("http://a.b.svc:80/mcp", 5, None, {"a.b.svc": f"127.0.0.1:{port}"})
        assert await get(client) == b"ok"
        client.close()
    assert b"\r\nhost: a.b.svc:80\r\n" in peer.requests[0]


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("http://h/other", True),
        ("http://h:80/", True),
        ("http://H/", True),
        ("http://h:81/", False),
        ("https://h/", False),
        ("http://h2/", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, same: bool) -> None:
    assert Origin("http://h/mcp").same(Origin(url)) is same


# TLS


def _certificates(directory: Path, name: str) -> tuple[Path, Path]:
    """A CA and a server's chain for `name`, as PEM files."""

    def built(
        subject: str,
        issuer: str,
        key: ec.EllipticCurvePrivateKey,
        signed_by: ec.EllipticCurvePrivateKey,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        ca = subject == issuer
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            names = x509.SubjectAlternativeName([x509.DNSName(subject)])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(signed_by, hashes.SHA256())

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem = serialization.Encoding.PEM
    ca_file, chain = directory / "ca.pem", directory / "server.pem"
    ca_file.write_bytes(built("Test CA", "Test CA", ca_key, ca_key).public_bytes(pem))
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain.write_bytes(private + built(name, "Test CA", key, ca_key).public_bytes(pem))
    return ca_file, chain


@pytest.mark.parametrize(
    ("name", "trusted", "error"),
    [
        ("good.example", True, None),
        ("other.example", True, "TLS failed|certificate"),
        ("good.example", False, "TLS failed|certificate"),
    ],
)
async def test_a_server_is_trusted_only_with_its_certificate(
    tmp_path: Path, name: str, trusted: bool, error: str | None
) -> None:
    ca, chain = _certificates(tmp_path, name)
    serverside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serverside.load_cert_chain(chain)
    mine = ssl.create_default_context(cafile=ca if trusted else None)
    peer = Peer(OK)
    async with served(peer.serve, serverside) as port:
        resolve = {"good.example": f"127.0.0.1:{port}"}
        client = HttpClient("https://good.example/mcp", 5, lambda: mine, resolve)
        if error is None:
            assert [await get(client), await get(client)] == [b"ok", b"ok"]
        else:
            with pytest.raises(ConnectError, match=error):
                await get(client)
            assert peer.requests == []
        client.close()


async def test_unread_chunks_are_read_again_before_the_rest() -> None:
    response = ClientResponse(ClientConnection(asyncio.get_running_loop()))
    for part in (b"one ", b"two "):
        response.feed(part)
    parts = [await response.next_chunk()]
    response.feed(b"three ")
    parts.append(await response.next_chunk())
    response.feed(b"four")
    response.unread(parts)
    assert parts == [b"one two ", b"three "]
    response.complete = True
    assert response.whole == b"one two three four"
    assert await response.read(18) == b"one two three four"


async def test_a_client_with_many_connections_leaves_some_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "CONNECTIONS", dataclasses.replace(CONNECTIONS, value=16))
    shares = HttpClient("http://127.0.0.1:9", 1.0)._shares
    while shares.admits(("network", "greedy")):
        shares.add(len(shares), ("network", "greedy"))
    assert len(shares) == 14
    assert shares.admits(("network", "other"))
