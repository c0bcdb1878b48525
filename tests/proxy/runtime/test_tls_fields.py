"""`tls`: whom a whole proxy believes, and as whom it comes, in front of real TLS servers."""

import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.differential.backend import Backend, Call
from tests.proxy.runtime.dns import Dns
from tests.proxy.runtime.serving import LIVE, Gate, Proxy, serving
from tests.support.authority import Authority, Mounted

pytestmark = LIVE
HOST = "backend.example.svc"
CA = {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}
AUTHORITY = Authority("One")


async def _answer(call: Call) -> None:
    raise NotImplementedError


class Stage:
    """A TLS server and proxies in front of it."""

    def __init__(self, directory: Path, stack: AsyncExitStack, proxy: Any) -> None:
        self.values = Mounted(directory / "values")
        self.asked: list[str | None] = []
        """The names that connections have asked for (SNI)."""
        self.server = Gate(Backend("legacy", _answer))
        self._stack = stack
        self._proxy = proxy
        self._chain = directory / "server.pem"
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.sni_callback = lambda connection, name, context: self.asked.append(name)

    async def serve(self, name: str, *, clients: Authority | None = None) -> int:
        """Serve with a certificate of this name, perhaps only clients with one; gives the port."""
        certificate, key = AUTHORITY.issue(name)
        self._chain.write_text(key + certificate)
        self._tls.load_cert_chain(self._chain)
        if clients is not None:
            self._tls.verify_mode = ssl.CERT_REQUIRED
            self._tls.load_verify_locations(cadata=clients.pem)
        port = urlsplit(await self._stack.enter_async_context(serving(self.server, tls=self._tls)))
        assert port.port is not None
        return port.port

    async def proxied(self, tls: dict[str, Any], **reached: Any) -> Proxy:
        """A proxy that reaches the server so."""
        backend = {"name": "t", **reached, "tls": tls}
        result: Proxy = await self._proxy(backend, options={"values": self.values.directory})
        return result


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Dns:
    result = Dns(monkeypatch)
    result.known.add(HOST)
    return result


@pytest.fixture
def stage(tmp_path: Path, stack: AsyncExitStack, proxy: Any, dns: Dns) -> Stage:
    result = Stage(tmp_path, stack, proxy)
    result.values.trust(AUTHORITY)
    return result


async def _refused(running: Proxy, why: str) -> None:
    await running.until("t", "Unhealthy")
    (backend,) = (await running.report()).backends
    assert why in (backend.message or "")


async def test_only_a_known_authority_counts(stage: Stage) -> None:
    url = f"https://{HOST}:{await stage.serve(HOST)}/mcp"
    await (await stage.proxied({"caFrom": CA}, url=url)).until("t", "Healthy")
    await _refused(await stage.proxied({}, url=url), "TLS failed")


async def test_authorities_may_lie_in_a_secret(stage: Stage) -> None:
    url = f"https://{HOST}:{await stage.serve(HOST)}/mcp"
    stage.values.write("secret/roots/bundle.pem", AUTHORITY.pem)
    source = {"secretKeyRef": {"name": "roots", "key": "bundle.pem"}}
    await (await stage.proxied({"caFrom": source}, url=url)).until("t", "Healthy")


async def test_the_certificate_has_the_name_of_the_spec(stage: Stage) -> None:
    url = f"https://{HOST}:{await stage.serve('inner.example')}/mcp"
    tls = {"caFrom": CA, "serverName": "inner.example"}
    await (await stage.proxied(tls, url=url)).until("t", "Healthy")
    assert set(stage.asked) == {"inner.example"}
    assert {item.headers["host"].partition(":")[0] for item in stage.server.seen} == {HOST}
    await _refused(await stage.proxied({"caFrom": CA}, url=url), "Hostname mismatch")


async def test_a_backend_that_requests_a_certificate_gets_the_one_from_the_secret(
    stage: Stage,
) -> None:
    clients = Authority("Clients")
    url = f"https://{HOST}:{await stage.serve(HOST, clients=clients)}/mcp"
    stage.values.client(*clients.issue("proxy.example"))
    tls = {"caFrom": CA, "clientCertificateFrom": {"secretRef": {"name": "client"}}}
    await (await stage.proxied(tls, url=url)).until("t", "Healthy")
    await (await stage.proxied({"caFrom": CA}, url=url)).until("t", "Unhealthy")


@pytest.mark.parametrize("namespace", [{}, {"namespace": "far"}])
async def test_a_service_with_tls_is_reached_over_https_by_its_name(
    stage: Stage, dns: Dns, namespace: dict[str, str]
) -> None:
    host = f"peer.{namespace.get('namespace', 'team')}.svc"
    dns.known.add(host)
    service = {"name": "peer", "port": await stage.serve(host), **namespace}
    await (await stage.proxied({"caFrom": CA}, service=service)).until("t", "Healthy")
    assert set(stage.asked) == {host}
    assert {item.headers["host"] for item in stage.server.seen} == {f"{host}:{service['port']}"}


async def test_a_service_of_another_name_than_its_certificate_needs_the_servers_name(
    stage: Stage, dns: Dns
) -> None:
    dns.known.add("peer.team.svc")
    service = {"name": "peer", "port": await stage.serve("peer.example")}
    await _refused(await stage.proxied({"caFrom": CA}, service=service), "Hostname mismatch")
    tls = {"caFrom": CA, "serverName": "peer.example"}
    await (await stage.proxied(tls, service=service)).until("t", "Healthy")


async def test_a_service_with_empty_tls_is_reached_over_https(stage: Stage, dns: Dns) -> None:
    dns.known.add("peer.team.svc")
    service = {"name": "peer", "port": await stage.serve("peer.team.svc")}
    # Nobody believes this authority.
    await _refused(await stage.proxied({}, service=service), "TLS failed")
    assert stage.asked == ["peer.team.svc"] * len(stage.asked) != []


async def test_insecure_skip_verify_disables_verification(stage: Stage) -> None:
    url = f"https://{HOST}:{await stage.serve('whatever.example')}/mcp"
    await (await stage.proxied({"insecureSkipVerify": True}, url=url)).until("t", "Healthy")
    await _refused(await stage.proxied({"insecureSkipVerify": False}, url=url), "TLS failed")
