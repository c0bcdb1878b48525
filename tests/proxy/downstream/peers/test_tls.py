"""Instances prove the sealing key to each other before anything else crosses."""

import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mcpproxy.limits import instances as limits
from mcpproxy.proxy.downstream.peers.forwarding import PeerForwarder, PeerUnavailable
from mcpproxy.proxy.downstream.peers.tls import PeerCertificate, PeerCertificates
from tests.proxy.downstream.peers.instances import (
    KEY,
    NEW_KEY,
    Pair,
    an_inbound,
    client_hello,
    connect,
    is_refused,
    sealer,
)
from tests.proxy.http1.server.served import Gate, Served

OWNER = "127.0.0.1:8080#abc"


@pytest_asyncio.fixture
async def pair(served: Served) -> AsyncIterator[Pair]:
    """Two instances with one sealing key."""
    result = Pair(served)
    await result.start(sealer(), sealer())
    yield result
    await result.stop()


async def test_one_connection_serves_many_requests(pair: Pair) -> None:
    for _ in range(10):
        status, body = await pair.tell()
        assert (status, b'"path": "/mcp"' in body) == (200, True)
    assert len(pair.server.connections) == 1


async def test_a_request_and_its_answer_are_forwarded_unchanged(pair: Pair, served: Served) -> None:
    client = await served.client()
    body = b"x" * 300_000
    answer = await client.ask("/mcp", body, "Content-Type: application/json", "Mcp-Name: n")
    assert answer.status == 200
    assert answer.echo["body"] == body.decode()
    assert answer.echo["headers"]["mcp-name"] == "n"
    assert answer.echo["headers"]["content-type"] == "application/json"


async def test_an_instance_of_another_key_is_refused_at_both_ends(pair: Pair) -> None:
    name = pair.other.credentials.own.name_of(pair.owner.owner)
    stranger = PeerCertificate(NEW_KEY, "127.0.0.1:2#x")
    context = stranger.client_context
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(pair.port, context, name)
    # The one who connects may look away; the one who accepts does not.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    assert await is_refused(pair.port, context, name)
    assert pair.app.served == []


async def test_a_connection_without_a_certificate_is_refused(pair: Pair) -> None:
    name = pair.other.credentials.own.name_of(pair.owner.owner)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    assert await is_refused(pair.port, context, name)
    assert pair.app.served == []


async def test_an_older_version_of_tls_is_refused(pair: Pair) -> None:
    credential = PeerCertificate(KEY, OWNER)
    context = credential.client_context
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await is_refused(pair.port, context, credential.name_of(pair.owner.owner))
    assert pair.app.served == []


async def test_a_process_other_than_the_owner_is_not_the_owner(pair: Pair) -> None:
    address = pair.owner.owner.partition("#")[0]
    with pytest.raises(PeerUnavailable):
        await pair.other.send(f"{address}#another", "POST", an_inbound(), b"{}")
    assert pair.app.served == []


async def test_tls_that_does_not_name_this_process_is_a_malformed_request(pair: Pair) -> None:
    client = await pair.accepted.client()
    await client.send(client_hello("example.com"))
    assert (await client.answer()).status == 400


async def test_a_tls_hello_that_is_too_long_is_refused_as_a_malformed_request(pair: Pair) -> None:
    before = limits.HELLO.reached
    hello = client_hello(pair.other.credentials.own.name_of(pair.owner.owner))
    client = await pair.accepted.client()
    await client.send(hello + bytes(limits.HELLO.value))
    assert (await client.answer()).status == 400
    assert limits.HELLO.reached == before + 1


async def test_tls_is_accepted_only_as_the_first_bytes_of_a_connection(pair: Pair) -> None:
    client = await pair.accepted.client()
    assert (await client.ask("/")).status == 200
    pair.accepted.app.handlers["/waits"] = gate = Gate()
    hello = client_hello(pair.other.credentials.own.name_of(pair.owner.owner))
    await client.send(b"POST /waits HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n" + hello)
    await gate.entered.wait()
    gate.opened.set()
    assert (await client.answer()).body == b'"late"'
    assert (await client.answer()).status == 400
    assert pair.app.served == []


@pytest.mark.parametrize(
    ("owner", "other", "meet"),
    [
        ((KEY,), (KEY,), True),
        ((KEY, NEW_KEY), (KEY,), True),
        ((KEY, NEW_KEY), (NEW_KEY, KEY), True),
        ((NEW_KEY, KEY), (KEY, NEW_KEY), True),
        ((NEW_KEY,), (NEW_KEY, KEY), True),
        ((KEY,), (NEW_KEY,), False),
    ],
)
async def test_instances_meet_by_any_key_that_both_have_in_use(
    served: Served, owner: tuple[bytes, ...], other: tuple[bytes, ...], meet: bool
) -> None:
    pair = Pair(served)
    await pair.start(sealer(*owner), sealer(*other))
    try:
        if meet:
            assert (await pair.tell())[0] == 200
        else:
            with pytest.raises(PeerUnavailable):
                await pair.tell()
    finally:
        await pair.stop()


async def test_a_changed_key_is_proven_on_new_connections(served: Served) -> None:
    pair, keys, others = Pair(served), sealer(KEY), sealer(KEY)
    await pair.start(keys, others)
    try:
        assert (await pair.tell())[0] == 200
        keys.rekey([NEW_KEY, KEY])
        others.rekey([KEY, NEW_KEY])
        assert (await pair.tell())[0] == 200
        others.rekey([NEW_KEY, KEY])
        assert (await pair.tell())[0] == 200
        keys.rekey([NEW_KEY])
        assert (await pair.tell())[0] == 200
        # Who has missed the change for that long proves nothing any more.
        others.rekey([KEY])
        with pytest.raises(PeerUnavailable):
            await pair.tell()
    finally:
        await pair.stop()


def test_an_owner_has_another_name_for_each_key_and_no_two_owners_have_one() -> None:
    credentials = [PeerCertificate(key, OWNER) for key in (KEY, NEW_KEY)]
    names = {each.name_of(owner) for each in credentials for owner in (OWNER, f"{OWNER}d")}
    assert len(names) == 4


def test_a_credential_is_kept_while_its_key_is_in_use() -> None:
    keys = sealer(KEY)
    credentials = PeerCertificates(keys, OWNER)
    first = credentials.own
    keys.rekey([KEY, NEW_KEY])
    assert credentials.own is first
    keys.rekey([NEW_KEY, KEY])
    assert credentials.own is not first
    hello = client_hello(first.name_of(OWNER))
    assert credentials.named_in(hello) is first
    keys.rekey([NEW_KEY])
    assert credentials.named_in(hello) is None


async def test_an_address_of_ipv6_is_connected_to(served: Served) -> None:
    pair = Pair(served, host="::1")
    await pair.start(sealer(), sealer())
    try:
        assert (await pair.tell())[0] == 200
        assert pair.owner.owner.startswith("[::1]:")
    finally:
        await pair.stop()


async def test_a_predecessor_at_the_same_address_counts_as_gone() -> None:
    peers = PeerForwarder(sealer(), "127.0.0.1:8080", "/mcp")
    with pytest.raises(PeerUnavailable):
        await peers.send("127.0.0.1:8080#before", "POST", an_inbound(), b"{}")
