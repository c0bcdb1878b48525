"""A client of the conformance suite's authorization scenarios: `mcpproxy` with clientCredentials.

The suite starts an authorization server and an MCP server, and then this program with the URL of
the latter. The proxy finds the authorization server by the metadata of the MCP server, and this
program lists and calls tools through the proxy.
"""

import asyncio
import json
import os
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from scripts.conformance_enterprise import publishing, recover_key, spec_of
from scripts.conformance_servers import MCPPROXY, manifest_of, running
from scripts.demo_local import free_ports

SECONDS: Final = 12.0
_CLIENT: Final = "mcpproxy"


def client_of(context: dict[str, Any], values: Path) -> dict[str, Any]:
    """Return `clientCredentials` for a scenario, and store its secret where a pod mounts it."""
    is_key = "private_key_pem" in context
    name, field = ("key", "privateKeyFrom") if is_key else ("secret", "clientSecretFrom")
    text = context.get("private_key_pem") or context.get("client_secret") or "secret"
    file = values / "secret" / "client" / name
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    return {
        "clientId": context.get("client_id", _CLIENT),
        field: {"secretKeyRef": {"name": "client", "key": name}},
        "insecureHttp": True,
    }


async def use_tools(url: str, token: str) -> None:
    """List and call tools through the proxy, with a token unless it is empty; how a call fails is
    for the suite to judge."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http), mode="auto") as client,
    ):
        for tool in (await client.list_tools()).tools:
            with suppress(MCPError):
                await client.call_tool(tool.name, {})


def main(arguments: list[str]) -> int:
    """Run one scenario. The status is 0 if the proxy served."""
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    port, admin = free_ports(2)
    token = context.get("idp_id_token", "")
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        place = Path(directory)
        client, spec = client_of(context, place / "values"), {}
        auth: dict[str, Any] = {"clientCredentials": client}
        if token:
            keys = stack.enter_context(publishing(recover_key(token)))
            spec["authentication"], auth = spec_of(context, client, keys, place / "values")
        backend = {"name": "server", "url": arguments[-1], "prefix": "", "auth": auth}
        command = [MCPPROXY, "run", *manifest_of({**spec, "backends": [backend]}, place)]
        command += ["--transport", "http", "--port", str(port), "--admin-port", str(admin)]
        command += ["--values", os.fspath(place / "values")]
        with running(command, place / "proxy.log", port):
            asyncio.run(asyncio.wait_for(use_tools(f"http://127.0.0.1:{port}/mcp", token), SECONDS))
        sys.stderr.write((place / "proxy.log").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
