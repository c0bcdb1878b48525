"""A server on standard streams: it lists a tool only to clients that can sample.

It adds its process id to the file that is its argument.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import mcp_types as t
from mcp.server import Server
from mcp.server.stdio import stdio_server

EMPTY: dict[str, Any] = {"type": "object"}


async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
    """One tool for all, one for some."""
    declared = ctx.session.client_capabilities
    can_sample = declared is not None and declared.sampling is not None
    names = ["pid", *(["sample"] if can_sample else [])]
    return t.ListToolsResult(tools=[t.Tool(name=name, input_schema=EMPTY) for name in names])


async def list_prompts(ctx: Any, params: Any) -> t.ListPromptsResult:
    """No prompt."""
    return t.ListPromptsResult(prompts=[])


async def list_resources(ctx: Any, params: Any) -> t.ListResourcesResult:
    """No resource."""
    return t.ListResourcesResult(resources=[])


async def call_tool(ctx: Any, params: Any) -> t.CallToolResult:
    """Return the pid of this process."""
    return t.CallToolResult(content=[], structured_content={"result": os.getpid()})


async def main() -> None:
    """Serve one client."""
    server: Server[Any] = Server(
        "tailoring",
        version="1.0",
        on_list_tools=list_tools,
        on_list_prompts=list_prompts,
        on_list_resources=list_resources,
        on_call_tool=call_tool,
    )
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


with Path(sys.argv[1]).open("a", encoding="ascii") as starts:
    starts.write(f"{os.getpid()}\n")
asyncio.run(main())
