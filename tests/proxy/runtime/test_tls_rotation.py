"""Authorities and certificates of a backend are replaced while a whole proxy serves."""

import json
import ssl
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mcpproxy.proxy.back import client as http_client
from mcpproxy.proxy.back import values
from tests.authority import Authority, Mounted
from tests.differential.backend import Backend, Call
from tests.differential.client import Client
from tests.proxy.runtime.serving import LIVE, proxied, serving

pytestmark = LIVE
HOST = "backend.example"
TOOL = '{"name":"t","inputSchema":{"type":"object"}}'


async def _answer(call: Call) -> None:
    result = {"jsonrpc": "2.0", "id": call.message["id"], "result": {"content": []}}
    await call.finish(json.dumps(result))


class Identity:
    """What a server shows and whom it lets in, for connections from now on."""

    def __init__(self, directory: Path) -> None:
        self._chain = directory / "server.pem"
        self.outer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.outer.sni_callback = self._choose
        self._inner = self.outer
        self.refused = 0

    def be(self, issuer: Authority, *trusted: Authority) -> None:
        """A certificate of this issuer; clients need one of the trusted."""
        certificate, key = issuer.issue(HOST)
        self._chain.write_text(key + certificate)
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.outer):
            context.load_cert_chain(self._chain)
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata="".join(one.pem for one in trusted))
            if context is not self.outer:
                self._inner = context

    def _choose(self, connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._inner


async def _calls(client: Client, first: int) -> None:
    for number in range(first, first + 5):
        params = {"name": "t_t", "arguments": {}}
        message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        *_, last = await client.exchange(json.dumps(message).encode())
        assert "result" in json.loads(last), last


async def test_authorities_and_certificates_are_replaced_and_no_call_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each request has a connection of its own, and files are read for each.
    monkeypatch.setattr(http_client, "KEPT_FOR", 0.0)
    monkeypatch.setattr(values, "FRESH", 0.0)
    old, new = Authority("Old"), Authority("New")
    identity, mounted = Identity(tmp_path), Mounted(tmp_path / "values")
    identity.be(old, old)
    mounted.trust(old)
    mounted.client(*old.issue("proxy.example"))
    backend = Backend("legacy", _answer, {"tools": [TOOL]})
    async with serving(backend, tls=identity.outer) as base:
        spec = {
            "name": "t",
            "url": f"https://{HOST}/mcp",
            "tls": {
                "caFrom": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}},
                "clientCertificateFrom": {"secretRef": {"name": "client"}},
            },
        }
        options = {"values": tmp_path / "values", "resolve": {HOST: base.removeprefix("https://")}}
        async with (
            proxied(spec, options=options) as running,
            httpx2.AsyncClient(timeout=20) as http,
        ):
            client = Client(http, running.url, "legacy")
            await client.initialize()
            await _calls(client, 1)
            # Both sides learn of the new authority before anyone uses it.
            mounted.trust(old, new)
            identity.be(old, old, new)
            await _calls(client, 11)
            identity.be(new, old, new)
            mounted.client(*new.issue("proxy.example"))
            await _calls(client, 21)
            mounted.trust(new)
            identity.be(new, new)
            await _calls(client, 31)
            assert await running.state("t") == "Healthy"
            # Whoever is not told of an authority does not get in: the check above is one.
            mounted.client(*old.issue("proxy.example"))
            answer = await client.exchange(
                b'{"jsonrpc":"2.0","id":99,"method":"tools/call","params":{"name":"t_t"}}'
            )
            assert "error" in json.loads(answer[-1])
