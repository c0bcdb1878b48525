"""Backends that serve many clients at once and send messages at the worst moments.

Each call has a secret. All that is said about it holds the secret, so that whoever gets to see it
can tell whether it is its own. What a call does, and when, follows from a seed.
"""

import asyncio
import json
import random
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

TOOL = {"name": "talk", "inputSchema": {"type": "object"}}
SECRET = re.compile(r"secret-of-(\w+)-(\d+)")
MODES = ("Isolated", "PerClient", "Reused")
KINDS = {
    "http": "legacy",
    "plain": "legacy",
    "modern": "modern",
    "sse": "legacy",
    "stdio": "legacy",
    "pipe": "modern",
}
"""Transport → era of its backend; `plain` keeps no sessions."""


class Director:
    """Decides who goes on next: each step of each call waits for its turn."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.started: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        """Secret → set once its call runs."""
        self._waiting: list[asyncio.Future[None]] = []
        self._driver = asyncio.create_task(self._drive())

    async def turn(self) -> None:
        """Wait for it."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    async def _drive(self) -> None:
        while True:
            # Now and then a crowd gathers, so that what happens next happens at once.
            crowd, patience = self.random.choice((1, 1, 3, 8)), 10
            while len(self._waiting) < crowd and patience:
                patience -= 1
                await asyncio.sleep(0)
            self.random.shuffle(self._waiting)
            for waiting in self._waiting[:crowd]:
                if not waiting.done():
                    waiting.set_result(None)
            del self._waiting[:crowd]
            await asyncio.sleep(0 if self._waiting else 0.001)

    async def close(self) -> None:
        """Nobody goes on."""
        self._driver.cancel()
        await asyncio.gather(self._driver, return_exceptions=True)


class Turn(Protocol):
    """One call as a transport sees it."""

    message: dict[str, Any]
    may_overtake: bool
    """True if its response can arrive before its earlier messages."""

    async def emit(self, message: dict[str, Any]) -> None:
        """Say something on the stream of the call."""

    async def aside(self, message: dict[str, Any]) -> None:
        """Say something that names no request."""

    async def ask(self, request: dict[str, Any], *, aside: bool) -> dict[str, Any]:
        """The response to a question."""

    async def finish(self, result: dict[str, Any]) -> None:
        """Send the response."""


Step = Callable[[Turn, str, Any], Awaitable[bool]]
"""Continue a call at its turn; return True if it is over."""


@dataclass
class Script:
    """Behavior of a backend during a call."""

    name: str
    era: str
    director: Director
    wrong: list[str] = field(default_factory=list)
    """Answers of clients to questions that were not theirs."""
    refused: int = 0
    """Questions that the proxy answered with the reason why they reach nobody."""
    asked: int = 0

    async def answer(self, turn: Turn) -> None:
        """Say this and that, and answer."""
        params = turn.message["params"]
        secret = params["arguments"]["secret"]
        self.director.started[secret].set()
        token = params.get("_meta", {}).get("progressToken")
        every: list[Step] = [self._log, self._progress, self._progress, self._aside]
        steps = self.director.random.sample(every, 3)
        if self.era == "legacy":
            steps.insert(self.director.random.randrange(4), self._question)
        elif "inputResponses" not in params:
            steps.append(self._wants)
        else:
            self._check(params["inputResponses"]["q"], secret)
        for step in steps:
            await self.director.turn()
            if await step(turn, secret, token):
                return
        await self.director.turn()
        result = {"content": [{"type": "text", "text": f"{self.name} {secret}"}]}
        await turn.finish({**result, "resultType": "complete"})
        if turn.may_overtake:
            await self.director.turn()
            await self._aside(turn, secret, token)

    async def _log(self, turn: Turn, secret: str, token: Any) -> bool:
        await turn.emit(_log(secret))
        return False

    async def _progress(self, turn: Turn, secret: str, token: Any) -> bool:
        if token is not None:
            params = {"progressToken": token, "progress": 1, "message": secret}
            message = {"method": "notifications/progress", "params": params}
            modern = self.era == "modern"
            side = turn.emit if modern or self.director.random.random() < 0.5 else turn.aside
            await side(message)
        return False

    async def _aside(self, turn: Turn, secret: str, token: Any) -> bool:
        await turn.aside(_log(secret))
        return False

    async def _question(self, turn: Turn, secret: str, token: Any) -> bool:
        aside = self.director.random.random() < 0.5
        self.asked += 1
        answer = await turn.ask(_sampling(secret), aside=aside)
        if "result" in answer:
            self._check(answer["result"], secret)
        elif "several clients" in answer["error"]["message"]:
            self.refused += 1
        return False

    async def _wants(self, turn: Turn, secret: str, token: Any) -> bool:
        asked = {"q": _sampling(secret)}
        await turn.finish({"resultType": "input_required", "inputRequests": asked})
        return True

    def _check(self, answer: dict[str, Any], secret: str) -> None:
        said = answer["content"]["text"]
        result = SECRET.match(secret)
        assert result is not None
        if said != f"{secret} says {result[1]}":
            self.wrong.append(f"{self.name}: {secret} was answered {said}")


def _log(secret: str) -> dict[str, Any]:
    return {"method": "notifications/message", "params": {"level": "info", "data": secret}}


def _sampling(secret: str) -> dict[str, Any]:
    content = {"type": "text", "text": secret}
    params = {"messages": [{"role": "user", "content": content}], "maxTokens": 9}
    return {"method": "sampling/createMessage", "params": params}


def spelt(message: dict[str, Any]) -> str:
    """A message of JSON-RPC."""
    return json.dumps({"jsonrpc": "2.0", **message})
