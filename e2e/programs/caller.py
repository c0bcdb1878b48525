"""Calls a tool again and again, for at most 10 minutes. Runs in a pod.

    python caller.py URL TOOL CLIENTS PAUSE [MODE]

So many clients at a time, each with that many seconds between two calls. Modern ones begin anew
after some calls; in MODE `legacy` they keep their session to the end. Prints a line of JSON every
second: `calls`, `failed`, the last `error`, and how often each answer was `seen`.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from typing import Any

from mcp import Client

LIMIT_SECONDS = 600
CALL_SECONDS = 30
CALLS_OF_A_CLIENT = 20
MODERN = "2026-07-28"

tally: dict[str, Any] = {"calls": 0, "failed": 0, "error": "", "seen": Counter()}


async def call(client: Client, tool: str) -> None:
    result = await asyncio.wait_for(client.call_tool(tool, {}), CALL_SECONDS)
    text = " ".join(getattr(part, "text", "") for part in result.content)
    if result.is_error:
        raise RuntimeError(text)
    tally["seen"][text] += 1


async def calling(url: str, tool: str, pause: float, mode: str) -> None:
    while True:
        try:
            async with Client(url, mode=mode) as client:
                for _ in itertools.count() if mode == "legacy" else range(CALLS_OF_A_CLIENT):
                    tally["calls"] += 1
                    await call(client, tool)
                    await asyncio.sleep(pause)
        except Exception as error:
            tally["failed"] += 1
            tally["error"] = f"{time.strftime('%X')} {error!r} {getattr(error, 'exceptions', '')}"
            await asyncio.sleep(0.5)


async def main(url: str, tool: str, clients: str, pause: str, mode: str = MODERN) -> None:
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(calling(url, tool, float(pause), mode)) for _ in range(int(clients))
        ]
        while time.monotonic() - started < LIMIT_SECONDS:
            await asyncio.sleep(1)
            print(json.dumps(tally), flush=True)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
