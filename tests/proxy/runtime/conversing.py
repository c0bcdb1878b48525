"""A program on standard streams that asks while it answers; only it knows what it asked."""

import asyncio
import os

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
)

server = MCPServer("conversing", version="1", log_level="WARNING")
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def _name(ctx: Context, key: str) -> object:
    result = (ctx.input_responses or {})[key]
    assert isinstance(result, ElicitResult)
    return (result.content or {})["name"]


@server.tool()
async def ask(ctx: Context, rounds: int = 1) -> str | InputRequiredResult:
    """Asks so often, and tells its process and the answer."""
    state = ctx.request_state or "0"
    done = int(state.split(" ")[0])
    if done < rounds:
        question = ElicitRequest(
            params=ElicitRequestFormParams(message="Your name?", requested_schema=SCHEMA)
        )
        return InputRequiredResult(
            input_requests={"name": question}, request_state=f"{done + 1} {os.getpid()}"
        )
    result = _name(ctx, "name")
    same = state.split(" ")[1] == str(os.getpid())
    return f"{result} {same}"


@server.tool()
async def ask_both(ctx: Context) -> str | InputRequiredResult:
    """Asks for two things at once."""
    if ctx.input_responses is None:
        asked = ElicitRequest(
            params=ElicitRequestFormParams(message="Your name?", requested_schema=SCHEMA)
        )
        return InputRequiredResult(
            input_requests={"one": asked, "two": asked}, request_state=str(os.getpid())
        )
    names = [f"{key}={_name(ctx, key)}" for key in ("one", "two")]
    return f"{' '.join(names)} {ctx.request_state == str(os.getpid())}"


if __name__ == "__main__":
    asyncio.run(server.run_stdio_async())
