"""A client of the tool `talk` made by the SDK, in either era, that checks what it gets."""

from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import mcp_types as t
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.proxy.runtime.waiting import soon

MODES = {"legacy": "legacy", "modern": "2026-07-28"}


class SdkTalker:
    """Tools that request input and send notifications, each with its own texts."""

    def __init__(self, who: str) -> None:
        self.who = who
        self.asked: Counter[str] = Counter()
        self.logged: Counter[str] = Counter()
        self.wrong: list[str] = []
        """Subjects that are somebody else's. Raising in a callback would only answer an error."""

    async def start(self, stack: AsyncExitStack, url: str, era: str) -> "SdkTalker":
        """Connect, until the stack ends."""
        headers = {"authorization": f"Bearer {self.who}"}
        http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=60))
        client = Client(
            streamable_http_client(url, http_client=http),
            mode=MODES[era],
            sampling_callback=self._sample,
            elicitation_callback=self._elicit,
            logging_callback=self._log,
            log_level="debug",
        )
        self._client = await stack.enter_async_context(client)
        return self

    def _own(self, word: str) -> str:
        if not word.startswith(f"{self.who}-"):
            self.wrong.append(word)
        return word

    async def _sample(self, context: Any, params: t.CreateMessageRequestParams) -> Any:
        content: Any = params.messages[0].content
        word = self._own(content.text)
        self.asked[word] += 1
        answer = t.TextContent(type="text", text=f"model-of-{word}")
        return t.CreateMessageResult(role="assistant", model="m", content=answer)

    async def _elicit(self, context: Any, params: Any) -> t.ElicitResult:
        word = self._own(params.message)
        self.asked[word] += 1
        return t.ElicitResult(action="accept", content={"name": f"user-of-{word}"})

    async def _log(self, params: t.LoggingMessageNotificationParams) -> None:
        self.logged[self._own(str(params.data))] += 1

    async def talk(self, backend: str, word: str) -> None:
        """One call of the tool, checked; a modern backend logs again when it is asked again."""
        told: list[str | None] = []

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            told.append(message)

        arguments = {"who": word, "principal": self.who}
        result = await self._client.call_tool(
            f"{backend}_talk", arguments, progress_callback=on_progress
        )
        (content,) = result.content
        assert isinstance(content, t.TextContent)
        assert content.text == f"{backend} {word} model-of-{word} user-of-{word}"
        await soon(lambda: self.logged[word] and told, f"what is said about {word}")
        assert set(told) == {word}
        assert self.asked[word] == 2
        assert self.wrong == []
