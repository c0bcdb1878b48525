"""TLS with real servers: trust, client certificates, and files that change."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from mcpproxy.api.defaults import health_policy
from mcpproxy.proxy.bootstrap import build_backend_context
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.core.errors import MissingReference, TlsInvalid
from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.http1.errors import ConnectError, HttpClientError
from mcpproxy.proxy.upstream.factory import build_backend
from mcpproxy.proxy.upstream.mounted.tls import TlsContext
from tests.proxy.byhand import served
from tests.support.authority import Authority, Mounted
from tests.support.builders import a_backend, an_mcpproxy

HOST = "good.example"
CA = {"caFrom": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}}
MUTUAL = {**CA, "clientCertificateFrom": {"secretRef": {"name": "client"}}}


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    return Mounted(tmp_path / "values")


class Server:
    """Responds to each request with the name in the client's certificate, or `nobody`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def show(self, certificate: str, key: str) -> None:
        """Set the server's certificate for new connections."""
        chain = self._directory / "server.pem"
        chain.write_text(key + certificate)
        self.context.load_cert_chain(chain)

    def ask(self, authority: Authority) -> None:
        """Accept only clients with a certificate of this authority."""
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.load_verify_locations(cadata=authority.pem)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                peer = writer.get_extra_info("peercert") or {}
                names = [value for _, value in peer.get("subjectAltName", ())] or ["nobody"]
                body = names[0].encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            writer.close()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@asynccontextmanager
async def client_of(
    server: Server, context: TlsContext, name: str | None = None
) -> AsyncIterator[HttpClient]:
    """A client of the server, as a backend at https://good.example."""
    async with served(server.serve, server.context) as port:
        resolve = {HOST: f"127.0.0.1:{port}"}
        client = HttpClient(f"https://{HOST}/mcp", 30, context, resolve, name)
        yield client
        client.close()


async def _get(client: HttpClient) -> str:
    response = await client.request(b"GET", ())
    return (await response.read(100)).decode()


async def test_a_server_of_the_configured_authority_is_trusted(
    mounted: Mounted, server: Server
) -> None:
    authority = Authority("One")
    mounted.trust(authority)
    server.show(*authority.issue(HOST))
    async with client_of(server, mounted.context(CA)) as client:
        assert await _get(client) == "nobody"


@pytest.mark.parametrize("name", ["inner.example", HOST, None])
async def test_the_server_has_the_requested_name(
    mounted: Mounted, server: Server, name: str | None
) -> None:
    authority = Authority("One")
    mounted.trust(authority)
    server.show(*authority.issue("inner.example"))
    async with client_of(server, mounted.context(CA), name) as client:
        if name == "inner.example":
            assert await _get(client) == "nobody"
        else:
            with pytest.raises(ConnectError, match=r"TLS failed: Hostname mismatch[^;]+$"):
                await _get(client)


async def test_a_server_of_another_authority_is_trusted_only_with_verification_disabled(
    mounted: Mounted, server: Server
) -> None:
    mounted.trust(Authority("One"))
    server.show(*Authority("Two").issue("any.example"))
    async with client_of(server, mounted.context(CA)) as client:
        remedy = "TLS failed: .+; name the authority of the certificate in caFrom"
        with pytest.raises(ConnectError, match=remedy):
            await _get(client)
    async with client_of(server, mounted.context({"insecureSkipVerify": True})) as client:
        assert await _get(client) == "nobody"


async def test_a_server_that_requests_a_client_certificate_gets_it(
    mounted: Mounted, server: Server
) -> None:
    authority = Authority("One")
    mounted.trust(authority)
    mounted.client(*authority.issue("me.example"))
    server.show(*authority.issue(HOST))
    server.ask(authority)
    async with client_of(server, mounted.context(MUTUAL)) as client:
        assert await _get(client) == "me.example"
    async with client_of(server, mounted.context(CA)) as client:
        with pytest.raises(HttpClientError):
            await _get(client)


async def test_new_files_hold_for_new_connections_and_the_old_ones_continue(
    mounted: Mounted, server: Server
) -> None:
    old, new = Authority("Old"), Authority("New")
    mounted.trust(old)
    mounted.client(*old.issue("old.example"))
    server.show(*old.issue(HOST))
    server.ask(old)
    async with client_of(server, mounted.context(MUTUAL)) as client:
        kept = await client.connect()
        mounted.trust(new)
        mounted.client(*new.issue("new.example"))
        server.show(*new.issue(HOST))
        server.ask(new)
        fresh = await client.connect()
        names = []
        for connection in (kept, fresh):
            response = await connection.send(client.head(b"GET", "/mcp", ()) + b"\r\n")
            names.append((await response.read(100)).decode())
        assert names == ["old.example", "new.example"]


async def test_a_renewed_client_uses_no_connection_again_and_cuts_none(
    mounted: Mounted, server: Server
) -> None:
    authority = Authority("One")
    mounted.trust(authority)
    server.show(*authority.issue(HOST))
    async with client_of(server, mounted.context(CA)) as client:
        await _get(client)
        idle, busy = client.take(), await client.connect()
        assert idle is not None
        response = await idle.send(client.head(b"GET", "/mcp", ()) + b"\r\n")
        # One connection is idle, one is in use, and one is being opened.
        assert await response.read(100) == b"nobody"
        made = asyncio.create_task(client.connect())
        await asyncio.sleep(0)
        client.renew()
        assert idle.lost
        assert client.take() is None
        for connection in (busy, await made):
            response = await connection.send(client.head(b"GET", "/mcp", ()) + b"\r\n")
            assert await response.read(100) == b"nobody"
            assert connection.lost
        assert client.take() is None
        assert await _get(client) == "nobody"
        assert client.take() is not None


def test_the_context_is_made_once_for_the_same_files(mounted: Mounted) -> None:
    mounted.trust(Authority("One"))
    context = mounted.context(CA)
    assert context() is context()


@pytest.mark.parametrize(
    ("path", "content", "error"),
    [
        ("configmap/ca/ca.crt", "junk", "key ca.crt of ConfigMap ca contains no PEM certificates"),
        ("configmap/ca/ca.crt", None, "ConfigMap ca has no readable key ca.crt"),
        ("secret/client/tls.crt", "", "key tls.crt of Secret client contains no PEM certificates"),
        (
            "secret/client/tls.key",
            "junk",
            "key tls.key of Secret client contains no unencrypted PEM private key",
        ),
        (
            "secret/client/tls.key",
            "other",
            "key tls.key of Secret client does not match the client certificate",
        ),
        ("secret/client/tls.crt", "expired", "certificate in key tls.crt .* expired on 20"),
    ],
)
def test_a_problem_of_a_file_is_reported_until_it_is_fixed(
    mounted: Mounted, path: str, content: str | None, error: str
) -> None:
    authority = Authority("One")
    mounted.trust(authority)
    mounted.client(*authority.issue("me.example"))
    good = {name: (mounted.directory / name).read_text() for name in (path,)}
    context = mounted.context(MUTUAL)
    context()
    if content is None:
        (mounted.directory / path).unlink()
    elif content == "other":
        mounted.write(path, authority.issue("me.example")[1])
    elif content == "expired":
        certificate, key = authority.issue("me.example", timedelta(days=-1))
        good["secret/client/tls.key"] = (mounted.directory / "secret/client/tls.key").read_text()
        mounted.client(certificate, key)
    else:
        mounted.write(path, content)
    for _ in range(2):
        with pytest.raises((TlsInvalid, MissingReference), match=error):
            context()
    for name, text in good.items():
        mounted.write(name, text)
    assert context().verify_mode is ssl.CERT_REQUIRED


async def test_the_status_reports_disabled_verification(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls = {"insecureSkipVerify": True}
    proxy = an_mcpproxy(backends=[a_backend(url=f"https://{HOST}/mcp", tls=tls)])
    context = build_backend_context(
        health_policy(proxy.spec), RuntimeOptions(values=tmp_path), tmp_path
    )
    backend = build_backend(proxy, proxy.spec.backends[0], context)
    message = "the proxy does not verify the backend's certificate (tls.insecureSkipVerify)"
    assert message in (backend.status().message or "")
    assert f"backend weather: {message}" in caplog.text
    await backend.close()
