"""A client of the conformance suite's authorization scenarios: `mcpproxy run` with a sign-in.

The suite starts an authorization server and an MCP server, and then this program with the URL of
the latter. The authorization endpoint of the suite redirects at once, so that a browser is a
program that follows redirects.
"""

import asyncio
import json
import os
import shlex
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import Tool

from scripts.conformance_servers import MCPPROXY, running
from scripts.demo_local import free_ports

SECONDS: Final = 20.0
METADATA: Final = "https://conformance-test.local/client-metadata.json"
"""Client ID of the suite for servers that support such documents."""
WAITING: Final = "waits for a sign-in"
_FOLLOW: Final = "import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=10).read()"


def servers_file(url: str, context: dict[str, Any], place: Path) -> list[str]:
    """Return the arguments of a proxy whose user signs in."""
    names = {"clientId": "client_id", "clientSecret": "client_secret"}
    client = {name: context[key] for name, key in names.items() if context.get(key)}
    client = client or {"clientMetadataUrl": METADATA}
    server = {"url": url, "oauth": client}
    file = place / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"server": server}}), encoding="utf-8")
    return [os.fspath(file)]


async def use_tools(url: str) -> None:
    """List and call tools through the proxy; how a call fails is for the suite to judge."""
    async with Client(url, mode="auto") as client:
        for tool in await list_tools(client):
            with suppress(MCPError):
                await client.call_tool(tool.name, {})


async def list_tools(client: Client) -> list[Tool]:
    """Return the tools; none if the sign-in failed. A busy machine signs in slowly."""
    while True:
        try:
            return (await client.list_tools(cache_mode="bypass")).tools
        except MCPError as error:
            if WAITING not in str(error):
                return []
        await asyncio.sleep(0.5)


def main(arguments: list[str]) -> int:
    """Run one scenario. The status is 0 if the proxy served."""
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    port, admin = free_ports(2)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        os.environ["XDG_STATE_HOME"] = directory
        os.environ["BROWSER"] = shlex.join([sys.executable, "-c", _FOLLOW, "%s"])
        command = [MCPPROXY, "run", *servers_file(arguments[-1], context, place)]
        command += ["--transport", "http", "--port", str(port), "--admin-port", str(admin)]
        with running(command, place / "proxy.log", port):
            asyncio.run(asyncio.wait_for(use_tools(f"http://127.0.0.1:{port}/mcp"), SECONDS))
        sys.stderr.write((place / "proxy.log").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
