"""Programs of both eras that start slowly: what a new process is spoken to in."""

import os
from pathlib import Path

import pytest
from msgspec import Raw

from mcpproxy.api.defaults import effective_settings
from mcpproxy.proxy.core.exchange import ClientIdentity, NullContext
from mcpproxy.proxy.core.translation.era_translation import add_client_meta
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.upstream.connect.stdio_connector import StdioConnector
from mcpproxy.proxy.upstream.transports import stdio
from mcpproxy.proxy.upstream.transports.session import TaskSet, UpstreamRequest
from scripts import npm
from tests.peers.world import NODE
from tests.support.builders import an_mcpproxy

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]
START = 4
"""Seconds that the program takes to start: more than the probe has."""
CLIENTS = {
    "modern": ClientIdentity("2026-07-28", info=b'{"name":"c","version":"1"}'),
    "legacy": ClientIdentity("2025-11-25", info=b'{"name":"c","version":"1"}'),
}


@pytest.mark.parametrize("era", CLIENTS)
async def test_a_slow_typescript_stdio_server_is_used_in_the_era_of_its_client(
    tmp_path: Path, era: str
) -> None:
    npm.install()
    command = (NODE, os.fspath(npm.PEERS / "slow.mjs"), str(START))

    async def spawn() -> stdio.StdioChannel:
        return await stdio.spawn("slow", command, dict(os.environ), os.fspath(tmp_path))

    spec = an_mcpproxy(backends=[{"name": "slow", "stdio": {"command": NODE}}]).spec
    background, client = TaskSet(), CLIENTS[era]
    connector = StdioConnector(spawn, effective_settings(spec, spec.backends[0]), background)
    link = await connector.open(client)
    try:
        params = {"name": Raw(b'"era"'), "arguments": jsonrpc.EMPTY}
        if link.server.modern:
            params = add_client_meta(params, client, link.server.revision, None)
        caller = NullContext(client)
        answer = await link.request(UpstreamRequest(Raw(b"1"), "tools/call", params), caller)
        assert link.server.modern is client.modern
        assert jsonrpc.decode(answer["result"])["content"][0]["text"] == era
    finally:
        await link.close()
        await background.close()
