"""Lists the tools and calls some of them once, with the token in a file. Runs in a pod.

    python agent.py URL MODE TOKEN_FILE CALLS

CALLS is a JSON list of pairs of a tool and its arguments. Prints a line of JSON: the names of the
`tools`, and for each call its text or its JSON-RPC error.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError


async def answer(client: Client, tool: str, arguments: dict[str, Any]) -> Any:
    try:
        result = await client.call_tool(tool, arguments)
    except MCPError as error:
        return error.error.model_dump()
    return " ".join(getattr(part, "text", "") for part in result.content)


async def main(url: str, mode: str, token_file: str, calls: str) -> None:
    headers = {"Authorization": f"Bearer {Path(token_file).read_text('utf-8')}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        tools = sorted(tool.name for tool in (await client.list_tools()).tools)
        answers = [await answer(client, *call) for call in json.loads(calls)]
    print(json.dumps({"tools": tools, "answers": answers}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
