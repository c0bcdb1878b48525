"""Calls a tool in sessions of the revision 2025-11-25, for at most 10 minutes. Runs in a pod.

    python sessions.py URL TOOL CLIENTS PAUSE [counting | surviving]

So many clients at a time, each with one session, its open GET stream, and that many seconds
between two calls. With `counting` the tool answers with a `count` that the session keeps: it has
to be one more with each call, and a session may end with the protocol's 404, after which the
client initializes again. With `surviving` it counts as well, while pods are killed: a session goes
on after a connection that was `refused`, and after a call that was `broken` off and may have run.
Prints a line of JSON every second: `calls`, `failed`, the last `error`, how often each answer was
`seen`, how many sessions have `begun` and `ended`, and how many `streams` were opened.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

import httpx2

LIMIT_SECONDS = 600
CALL_SECONDS = 30
AGAIN_SECONDS = 0.1
ACCEPT = "application/json, text/event-stream"
REVISION = "2025-11-25"
INITIALIZE = {
    "protocolVersion": REVISION,
    "capabilities": {},
    "clientInfo": {"name": "sessions", "version": "1"},
}

tally: dict[str, Any] = {
    "calls": 0,
    "failed": 0,
    "error": "",
    "seen": Counter(),
    "begun": 0,
    "ended": 0,
    "streams": 0,
    "refused": 0,
    "broken": 0,
}


class Ended(Exception):
    """The session was answered with 404."""


class Broken(Exception):
    """A call was broken off, and may have run."""


def failed(error: object) -> None:
    tally["failed"] += 1
    tally["error"] = f"{time.strftime('%X')} {error!r}"


def message(response: httpx2.Response, number: int) -> dict[str, Any]:
    """The answer to a request, from a body of JSON or of events."""
    if response.headers["content-type"].startswith("application/json"):
        return dict(response.json())
    data = [line[5:] for line in response.text.splitlines() if line.startswith("data:")]
    results = [json.loads(item) for item in data if item.strip()]
    return next(dict(entry) for entry in results if entry.get("id") == number)


class Session:
    """One session of one client."""

    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self.http, self.url = http, url
        self.headers = {"Accept": ACCEPT}
        self.number = 0

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a request. Raises Ended."""
        self.number += 1
        body = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        # Every other request takes a connection of its own, which may lead to any pod.
        once = {"Connection": "close"} if self.number % 2 else {}
        response = await self.http.post(self.url, json=body, headers={**self.headers, **once})
        if response.status_code == 404:
            raise Ended
        if response.status_code != 200:
            raise RuntimeError(f"{method}: {response.status_code} {response.text}")
        answered = message(response, self.number)
        if ((answered.get("error") or {}).get("data") or {}).get("mayHaveRun"):
            raise Broken(f"{method}: {answered}")
        if method == "initialize":
            session = response.headers["mcp-session-id"]
            self.headers |= {"Mcp-Session-Id": session, "Mcp-Protocol-Version": REVISION}
        if "result" not in answered or answered["result"].get("isError"):
            raise RuntimeError(f"{method}: {answered}")
        return answered["result"]

    async def begin(self) -> None:
        """Initialize."""
        await self.ask("initialize", INITIALIZE)
        note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        told = await self.http.post(self.url, json=note, headers=self.headers)
        if told.status_code != 202:
            raise RuntimeError(f"initialized: {told.status_code} {told.text}")
        tally["begun"] += 1

    async def listen(self, may_end: bool, survives: bool) -> None:
        """Keep the GET stream open: one that ends is opened again."""
        while True:
            try:
                async with self.http.stream("GET", self.url, headers=self.headers) as stream:
                    if stream.status_code == 404 and may_end:
                        return
                    if stream.status_code != 200:
                        raise RuntimeError(f"GET: {stream.status_code}")
                    tally["streams"] += 1
                    async for _ in stream.aiter_raw():
                        pass
            except httpx2.TransportError as error:
                if not survives:
                    failed(error)
            except Exception as error:
                failed(error)
            await asyncio.sleep(AGAIN_SECONDS)


async def call(session: Session, tool: str, counting: bool, before: int) -> int:
    """Call the tool once; the count it tells."""
    tally["calls"] += 1
    asked = session.ask("tools/call", {"name": tool, "arguments": {}})
    result = await asyncio.wait_for(asked, CALL_SECONDS)
    if not counting:
        tally["seen"][" ".join(part.get("text", "") for part in result["content"])] += 1
        return 0
    count = int(result["structuredContent"]["count"])
    if count != before + 1:
        raise RuntimeError(f"{count} follows on {before}")
    return count


async def call_among_kills(session: Session, tool: str, before: int) -> int:
    """Call the tool until it answers; the count it tells, with those that may have run."""
    doubtful = 0
    while True:
        tally["calls"] += 1
        asked = session.ask("tools/call", {"name": tool, "arguments": {}})
        try:
            result = await asyncio.wait_for(asked, CALL_SECONDS)
        except httpx2.ConnectError:
            tally["refused"] += 1
        except (httpx2.TransportError, Broken):
            tally["broken"] += 1
            doubtful += 1
        else:
            count = int(result["structuredContent"]["count"])
            if not before < count <= before + 1 + doubtful:
                raise RuntimeError(f"{count} follows on {before}, with {doubtful} in doubt")
            return count
        await asyncio.sleep(AGAIN_SECONDS)


async def in_session(url: str, tool: str, pause: float, keeps: str) -> None:
    """Begin a session and call until it ends. Raises Ended."""
    counting, survives = keeps == "counting", keeps == "surviving"
    timeout = httpx2.Timeout(CALL_SECONDS, read=None)
    async with httpx2.AsyncClient(timeout=timeout) as http:
        session, count = Session(http, url), 0
        await asyncio.wait_for(session.begin(), CALL_SECONDS)
        listening = asyncio.create_task(session.listen(counting, survives))
        try:
            while True:
                if survives:
                    count = await call_among_kills(session, tool, count)
                else:
                    count = await call(session, tool, counting, count)
                await asyncio.sleep(pause)
        finally:
            listening.cancel()
            await asyncio.wait({listening})


async def client(url: str, tool: str, pause: float, keeps: str) -> None:
    while True:
        try:
            await in_session(url, tool, pause, keeps)
        except Ended:
            tally["ended"] += 1
            if keeps != "counting":
                failed("a session that no pod holds has ended")
        except Exception as error:
            failed(error)
            await asyncio.sleep(AGAIN_SECONDS)


async def main(url: str, tool: str, clients: str, pause: str, keeps: str = "") -> None:
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(client(url, tool, float(pause), keeps)) for _ in range(int(clients))
        ]
        while time.monotonic() - started < LIMIT_SECONDS:
            await asyncio.sleep(1)
            print(json.dumps(tally), flush=True)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
