"""A server that asks, fails and reports progress; over HTTP at the port in its argument."""

import asyncio
import sys

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult

server = MCPServer("weather", version="2.0", log_level="INFO")
FORM = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}


@server.tool()
def forecast(city: str, days: int = 1, units: str = "metric") -> dict[str, object]:
    """The forecast for a city.

    More than the first line.
    """
    return {"city": city, "days": days, "units": units}


@server.tool()
async def plan_trip(ctx: Context) -> str | InputRequiredResult:
    """Asks for the city."""
    if ctx.input_responses is None:
        form = ElicitRequestFormParams(message="Which\x1b[31m city?", requested_schema=FORM)
        return InputRequiredResult(input_requests={"trip": ElicitRequest(params=form)})
    answer = ctx.input_responses["trip"]
    assert isinstance(answer, ElicitResult)
    return f"{answer.action} {answer.content}"


@server.tool()
async def count(ctx: Context) -> str:
    """Counts with progress."""
    await ctx.report_progress(1, 2, "half")
    return "\x1b[31mdone\nnow"


@server.tool()
def fail() -> str:
    """Fails."""
    raise ValueError("no data")


@server.prompt()
def greet(name: str) -> str:
    """Greets somebody."""
    return f"Hello {name}"


@server.resource("data://cities/{name}")
def city(name: str) -> str:
    """A city."""
    return name


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(server.run_streamable_http_async(port=int(sys.argv[1])))
    else:
        asyncio.run(server.run_stdio_async())
