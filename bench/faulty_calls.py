"""Clients of a faulty backend: each calls one tool, again after a pause.

    python -m bench.faulty_calls URL TOOL --seconds 2 --clients 8 --pause 0.1

Prints a line when the clients are connected, and the number of calls at the end.
"""

import argparse
import asyncio
import time

from bench import client


async def _call(url: str, tool: str, end: float, pause: float) -> int:
    """Call the tool until `end`; return the number of calls."""
    number = 0
    requests = client.requests(url, "modern")
    connection = await client.connect(url)
    while (left := end - time.monotonic()) > 0:
        number += 1
        try:
            async with asyncio.timeout(left):
                await connection.exchange(requests.operation("echo", number, tool))
        except TimeoutError:
            break
        if connection.lost.done():
            connection = await client.connect(url)
        await asyncio.sleep(pause)
    await client.close(connection)
    return number


async def _run(args: argparse.Namespace) -> None:
    print("begun", flush=True)
    end = time.monotonic() + args.seconds
    calls = (_call(args.url, args.tool, end, args.pause) for _ in range(args.clients))
    print(sum(await asyncio.gather(*calls)), flush=True)


def main() -> None:
    """Call as the arguments say."""
    parser = argparse.ArgumentParser(description="clients of a faulty backend")
    parser.add_argument("url")
    parser.add_argument("tool")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--pause", type=float, required=True, help="seconds after each call")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
