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
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mcp import Client
from mcp.shared.exceptions import MCPError

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


async def use_tools(url: str) -> None:
    """List and call tools through the proxy; how a call fails is for the suite to judge."""
    async with Client(url, mode="auto") as client:
        for tool in (await client.list_tools()).tools:
            with suppress(MCPError):
                await client.call_tool(tool.name, {})


def main(arguments: list[str]) -> int:
    """Run one scenario. The status is 0 if the proxy served."""
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    port, admin = free_ports(2)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        auth = {"clientCredentials": client_of(context, place / "values")}
        backend = {"name": "server", "url": arguments[-1], "prefix": "", "auth": auth}
        command = [MCPPROXY, "run", *manifest_of({"backends": [backend]}, place)]
        command += ["--transport", "http", "--port", str(port), "--admin-port", str(admin)]
        command += ["--values", os.fspath(place / "values")]
        with running(command, place / "proxy.log", port):
            asyncio.run(asyncio.wait_for(use_tools(f"http://127.0.0.1:{port}/mcp"), SECONDS))
        sys.stderr.write((place / "proxy.log").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
