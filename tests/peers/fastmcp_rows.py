"""Program that runs the code of a table with FastMCP and with this project, and compares them.

It reads one JSON object, `{"url", "script", "rows": [[task, fastmcp, mcpproxy], ...]}`, and writes
`{task: [components of FastMCP, components of this project]}`. It runs in the environment that has
both.
"""

import asyncio
import json
import logging
import sys
import textwrap
from pathlib import Path
from typing import Any

import fastmcp
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.server import create_proxy as fastmcp_proxy
from fastmcp.server.providers.proxy import FastMCPProxy
from fastmcp.server.providers.proxy import ProxyClient as FastMCPProxyClient
from fastmcp.server.providers.proxy import ProxyProvider as FastMCPProxyProvider

import mcpproxy


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def _shared(url: str, script: str) -> dict[str, Any]:
    """The names that both cells of a row may use."""
    inner: Any = fastmcp.FastMCP("inner")
    inner.tool(add)
    servers = {"a": {"url": url}, "b": {"command": sys.executable, "args": [script]}}
    return {
        "Path": Path,
        "url": url,
        "script": script,
        "config": {"mcpServers": servers},
        "add": add,
        "fastmcp_server": inner,
        "FastMCPClient": fastmcp.Client,
        "StreamableHttpTransport": StreamableHttpTransport,
    }


def _of_fastmcp() -> dict[str, Any]:
    return {
        "create_proxy": fastmcp_proxy,
        "ProxyClient": FastMCPProxyClient,
        "ProxyProvider": FastMCPProxyProvider,
        "FastMCPProxy": FastMCPProxy,
        "main": fastmcp.FastMCP("main"),
    }


def _ours() -> dict[str, Any]:
    return {
        "create_proxy": mcpproxy.create_proxy,
        "ProxyClient": mcpproxy.ProxyClient,
        "ProxyProvider": mcpproxy.ProxyProvider,
        "Proxy": mcpproxy.Proxy,
        "main": mcpproxy.Server("main"),
    }


async def _run(code: str, names: dict[str, Any]) -> Any:
    """Run the code of a cell, and return its `main`."""
    body = textwrap.indent("\n".join(code.split("; ")), "    ")
    shown = "main = names['main']\n    " if "main =" not in code else ""
    exec(f"async def cell():\n    {shown}\n{body}\n    return main\n", names)
    return await names["cell"]()


async def _tools(client: Any) -> list[str]:
    async with client:
        listed = await client.list_tools()
        tools = getattr(listed, "tools", listed)
        for tool in tools:
            if "text" in (tool.input_schema.get("properties") or {}):
                await client.call_tool(tool.name, {"text": "hello"})
    return sorted(tool.name for tool in tools)


async def _compare(row: list[str], value: dict[str, Any]) -> list[Any]:
    _, theirs, ours = row
    names = {**_shared(value["url"], value["script"]), **_of_fastmcp()}
    names["names"] = names
    of_fastmcp = await _tools(fastmcp.Client(await _run(theirs, names)))
    names = {**_shared(value["url"], value["script"]), **_ours()}
    names["names"] = names
    return [of_fastmcp, await _tools((await _run(ours, names)).client())]


async def _both(value: dict[str, Any]) -> list[Any]:
    """A proxy as a provider of FastMCP, and a client of FastMCP that connects to a proxy."""
    proxy, main = mcpproxy.create_proxy(value["url"]), fastmcp.FastMCP("main")
    main.add_provider(proxy.fastmcp_provider(), namespace="weather")
    mounted = fastmcp.FastMCP("main")
    mcpproxy.mount(mounted, proxy, "weather")
    return [
        await _tools(fastmcp.Client(main)),
        await _tools(fastmcp.Client(mounted)),
        await _tools(fastmcp.Client(proxy.fastmcp_transport())),
    ]


async def _main() -> None:
    logging.disable(logging.WARNING)
    document = json.load(sys.stdin)
    result: dict[str, Any] = {}
    for row in document["rows"]:
        try:
            result[row[0]] = await _compare(row, document)
        except Exception as error:
            result[row[0]] = [f"{type(error).__name__}: {error}", row[1:]]
    result["both"] = await _both(document)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    asyncio.run(_main())
