"""Tool calls for the demo: one to each backend of samples/demo.yaml, with the MCP SDK's client."""

import asyncio
import json
from typing import Any

from mcp import Client
from mcp_types import TextContent

CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("weather_get_forecast", {"city": "Oslo"}),
    ("counter_increment", {"by": 2}),
    ("notes_search_notes", {"text": "coffee"}),
)


def answers(url: str) -> str:
    """Return the calls and their results, one per line.

    Raise ValueError with the tool's message if a call returns an error.
    """
    return "\n".join(asyncio.run(_answers(url)))


async def _answers(url: str) -> list[str]:
    lines = []
    async with Client(url) as client:
        for name, arguments in CALLS:
            result = await client.call_tool(name, arguments)
            texts = [part.text for part in result.content if isinstance(part, TextContent)]
            if result.is_error:
                raise ValueError(f"{name}: {' '.join(texts)}")
            content = result.structured_content or texts
            text = json.dumps(content, ensure_ascii=False)
            lines.append(f"{name}({json.dumps(arguments)})\n  {text}")
    return lines
