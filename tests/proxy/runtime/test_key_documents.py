"""Metadata and key sets of real issuers: where they are looked for, and what is not accepted."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mcpproxy.api.v1alpha1 import JwtIssuer, Tls
from mcpproxy.limits.access import KEY_DOCUMENT, KEYS_FETCH
from mcpproxy.proxy.authentication import remote_keys
from mcpproxy.proxy.authentication.remote_keys import KeyDocuments
from mcpproxy.proxy.issuers.documents import IssuerError
from mcpproxy.proxy.issuers.metadata import metadata_urls
from mcpproxy.proxy.upstream.mounted.tls import TlsContext
from mcpproxy.proxy.upstream.mounted.values import MountedValues
from tests.proxy.runtime.issuing import KEYS_PATH, IssuerServer, issuing
from tests.proxy.runtime.serving import LIVE, free_port, serving
from tests.proxy.runtime.strangers import close, hang, stranger_at
from tests.support.authority import Authority, Mounted

pytestmark = LIVE
OAUTH = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"


def _no_tls() -> ssl.SSLContext:
    raise AssertionError("a connection with TLS")


def documents(server: IssuerServer, **more: Any) -> KeyDocuments:
    """The documents of an issuer."""
    entry = {"issuer": server.url, "insecureHttp": True, **more}
    return KeyDocuments(JwtIssuer.model_validate(entry), _no_tls, {})


@pytest_asyncio.fixture(loop_scope="session")
async def server(stack: AsyncExitStack) -> AsyncIterator[IssuerServer]:
    """An issuer whose URL has a path."""
    async with issuing("/realms/a") as result:
        result.metadata_at = f"/realms/a{OPENID}"
        result.metadata = {"jwks_uri": result.url.removesuffix("/realms/a") + KEYS_PATH}
        yield result


async def test_metadata_is_looked_for_where_both_standards_put_it() -> None:
    assert list(metadata_urls("https://a.example/realms/b")) == [
        f"https://a.example{OAUTH}/realms/b",
        f"https://a.example/realms/b{OPENID}",
        f"https://a.example/realms/b{OAUTH}",
        f"https://a.example{OPENID}/realms/b",
    ]
    bare = [f"https://a.example{OAUTH}", f"https://a.example{OPENID}"]
    assert list(metadata_urls("https://a.example")) == bare
    assert list(metadata_urls("https://a.example/")) == bare


@pytest.mark.parametrize(
    "path",
    [
        f"{OAUTH}/realms/a",
        f"/realms/a{OPENID}",
        f"/realms/a{OAUTH}",
        f"{OPENID}/realms/a",
    ],
)
async def test_keys_are_those_of_the_metadata_wherever_it_is(
    server: IssuerServer, path: str
) -> None:
    server.metadata_at = path
    assert await documents(server).fetch_keys() == server.keys


async def test_a_configured_key_set_needs_no_metadata(server: IssuerServer) -> None:
    url = server.url.removesuffix("/realms/a") + KEYS_PATH
    assert await documents(server, jwksUrl=url).fetch_keys() == server.keys
    assert server.paths == [KEYS_PATH]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (
            {"issuer": "https://evil.example"},
            'another issuer, "https://evil.example"; if it is in the tokens, set issuer to it',
        ),
        ({"issuer": None}, "another issuer, null; "),
        (
            {"jwks_uri": "http://evil.example/keys"},
            'not an https URL but "http://evil.example/keys"; correct the issuer, or set jwksUrl',
        ),
        ({"jwks_uri": "http://127.0.0.1:1/keys"}, "not an https URL"),
        ({"jwks_uri": "file:///etc/passwd"}, "not an https URL"),
        ({"jwks_uri": "https://user@evil.example/keys"}, "not an https URL"),
        ({"jwks_uri": "https://evil.example/\r\nkeys"}, "not an https URL"),
        ({"jwks_uri": None}, "not an https URL"),
    ],
)
async def test_metadata_that_does_not_match_the_issuer_is_not_used(
    server: IssuerServer, metadata: dict[str, Any], words: str
) -> None:
    server.metadata |= metadata
    server.metadata_at = f"{OAUTH}/realms/a"
    with pytest.raises(IssuerError, match=words):
        await documents(server).fetch_keys()
    assert KEYS_PATH not in server.paths


async def test_a_slash_at_the_end_makes_another_issuer(server: IssuerServer) -> None:
    server.metadata["issuer"] = f"{server.url}/"
    server.metadata_at = f"{OAUTH}/realms/a"
    with pytest.raises(IssuerError, match="another issuer"):
        await documents(server).fetch_keys()


async def test_an_issuer_without_metadata_is_named_with_the_remedy(server: IssuerServer) -> None:
    server.metadata_at = "/elsewhere"
    remedy = f"{OAUTH}/realms/a: HTTP 404; no metadata .+: correct issuer, or set jwksUrl"
    with pytest.raises(IssuerError, match=remedy):
        await documents(server).fetch_keys()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_s20_redirects_are_not_followed(server: IssuerServer, status: int) -> None:
    async with issuing() as other:
        server.status = status
        server.headers = [(b"location", f"{other.url}{KEYS_PATH}".encode())]
        with pytest.raises(IssuerError, match=f"HTTP {status}"):
            await documents(server).fetch_keys()
        assert other.paths == []


async def test_a_key_set_beyond_the_limit_is_not_read(server: IssuerServer) -> None:
    before = KEY_DOCUMENT.reached
    server.keys = b"x" * (10 * 2**20)
    with pytest.raises(IssuerError, match=f"more than {KEY_DOCUMENT.value} bytes"):
        await documents(server).fetch_keys()
    assert KEY_DOCUMENT.reached == before + 1


async def test_a_compressed_key_set_is_not_read(server: IssuerServer) -> None:
    server.keys = gzip.compress(b" " * 10**7)
    server.headers = [(b"content-encoding", b"gzip")]
    with pytest.raises(IssuerError):
        await documents(server).fetch_keys()


async def test_an_issuer_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = replace(KEYS_FETCH, value=1)
    monkeypatch.setattr(remote_keys, "KEYS_FETCH", quick)
    before = quick.reached
    port = free_port()
    async with stranger_at(port, hang):
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(IssuerError, match="no answer within 1 s"):
            async with asyncio.timeout(10):
                await documents(IssuerServer(url)).fetch_keys()
    assert quick.reached == before + 1


async def test_an_unreachable_issuer_is_tried_at_one_url_only() -> None:
    port = free_port()
    async with stranger_at(port, close) as stranger:
        unreachable = IssuerServer(f"http://127.0.0.1:{port}/realms/a")
        with pytest.raises(IssuerError, match=f"{OAUTH}/realms/a"):
            await documents(unreachable).fetch_keys()
    assert stranger.connections == 1


async def test_only_the_authorities_of_the_spec_are_trusted(tmp_path: Path) -> None:
    authority, mounted = Authority("One"), Mounted(tmp_path)
    certificate, key = authority.issue("login.example.com")
    chain = tmp_path / "chain.pem"
    chain.write_text(key + certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain)
    result = IssuerServer(metadata_at=OPENID)
    async with serving(result, tls=tls) as base:
        result.url = "https://login.example.com"
        entry = JwtIssuer.model_validate({"issuer": result.url})
        ca = {"caFrom": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}}
        context = TlsContext(Tls.model_validate(ca), MountedValues(tmp_path, lambda: 0.0))
        resolve = {"login.example.com": base.removeprefix("https://")}
        keys = KeyDocuments(entry, context, resolve)
        mounted.trust(Authority("Other"))
        remedy = "TLS failed: .+; name the authority of the certificate in caFrom"
        with pytest.raises(IssuerError, match=remedy):
            await keys.fetch_keys()
        mounted.trust(authority)
        assert await keys.fetch_keys() == result.keys
        (tmp_path / "configmap" / "ca" / "ca.crt").unlink()
        with pytest.raises(IssuerError, match="ConfigMap ca has no readable key"):
            await keys.fetch_keys()
