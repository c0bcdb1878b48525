"""Clients of Python SDKs: what client.mjs is for the TypeScript SDK's current major version.

Usage: python client.py mcp1|mcp2|fastmcp http URL MODE. Each runs where its packages are installed.
Sends the requests on standard input (JSON: a list of {method, params}) one after another, declares
no capabilities, and prints the revision spoken and what came.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel

Progress = list[dict[str, Any]]
Send = Callable[[dict[str, Any], Callable[..., Awaitable[None]]], Awaitable[BaseModel]]
Methods = dict[str, Send]

SECONDS = 30.0


@asynccontextmanager
async def mcp1(url: str, _mode: str) -> AsyncIterator[tuple[str, Methods]]:
    """The Python SDK, 1.x."""
    from mcp import ClientSession, types
    from mcp.client.streamable_http import streamable_http_client

    async with (
        streamable_http_client(url) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        revision = (await session.initialize()).protocolVersion
        refs = {
            "ref/prompt": types.PromptReference,
            "ref/resource": types.ResourceTemplateReference,
        }
        yield str(revision), _methods(session, refs)


@asynccontextmanager
async def mcp2(url: str, mode: str) -> AsyncIterator[tuple[str, Methods]]:
    """The Python SDK, 2.x."""
    from mcp import Client
    from mcp_types import PromptReference, ResourceTemplateReference

    async with Client(url, mode=mode, cache=None) as client:
        refs = {"ref/prompt": PromptReference, "ref/resource": ResourceTemplateReference}
        yield client.protocol_version, _methods(client, refs)


@asynccontextmanager
async def fastmcp(url: str, mode: str) -> AsyncIterator[tuple[str, Methods]]:
    """FastMCP's client."""
    from fastmcp import Client
    from mcp_types import PromptReference, ResourceTemplateReference

    async with Client(url, mode=mode) as client:
        refs = {"ref/prompt": PromptReference, "ref/resource": ResourceTemplateReference}
        methods: Methods = {
            "tools/list": lambda _, __: client.list_tools_mcp(),
            "prompts/list": lambda _, __: client.list_prompts_mcp(),
            "resources/list": lambda _, __: client.list_resources_mcp(),
            "resources/templates/list": lambda _, __: client.list_resource_templates_mcp(),
            "tools/call": lambda params, progress: client.call_tool_mcp(
                **params, progress_handler=progress
            ),
            "prompts/get": lambda params, _: client.get_prompt_mcp(**params),
            "resources/read": lambda params, _: client.read_resource_mcp(**params),
            "completion/complete": lambda params, _: client.complete_mcp(
                refs[params["ref"]["type"]](**params["ref"]), params["argument"]
            ),
        }
        yield str(client.protocol_version), methods


def _methods(client: Any, refs: dict[str, type[BaseModel]]) -> Methods:
    """Both majors of the SDK name their methods alike."""
    return {
        "tools/list": lambda _, __: client.list_tools(),
        "prompts/list": lambda _, __: client.list_prompts(),
        "resources/list": lambda _, __: client.list_resources(),
        "resources/templates/list": lambda _, __: client.list_resource_templates(),
        "tools/call": lambda params, progress: client.call_tool(
            **params, progress_callback=progress
        ),
        "prompts/get": lambda params, _: client.get_prompt(**params),
        "resources/read": lambda params, _: client.read_resource(**params),
        "completion/complete": lambda params, _: client.complete(
            refs[params["ref"]["type"]](**params["ref"]), params["argument"]
        ),
    }


async def answer(methods: Methods, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The result of a request and the progress told of before it, or the error."""
    progress: Progress = []

    async def record(done: float, total: float | None, message: str | None) -> None:
        told = {"progress": done, "total": total, "message": message}
        progress.append({name: value for name, value in told.items() if value is not None})

    try:
        async with asyncio.timeout(SECONDS):
            result = await methods[method](params, record)
    except Exception as error:
        told = getattr(error, "error", error)
        return {"error": {"code": getattr(told, "code", None), "message": str(error)}}
    return {
        "result": json.loads(result.model_dump_json(by_alias=True, exclude_none=True)),
        "progress": progress,
    }


async def main(name: str, url: str, mode: str) -> None:
    """Send what standard input has and print what came."""
    clients = {"mcp1": mcp1, "mcp2": mcp2, "fastmcp": fastmcp}
    requests = json.load(sys.stdin)
    async with clients[name](url, mode) as (revision, methods):
        answers = [await answer(methods, one["method"], one["params"]) for one in requests]
    sys.stdout.write(json.dumps({"revision": revision, "answers": answers}))


if __name__ == "__main__":
    name, _, url, mode = sys.argv[1:5]
    asyncio.run(main(name, url, mode))
