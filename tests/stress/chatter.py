"""A tool that logs, reports, samples and elicits within every call, and a client of it."""

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.differential.backend import MODERN, Backend, Call
from tests.differential.client import Client

META = "io.modelcontextprotocol/"
CAPABILITIES: dict[str, Any] = {"sampling": {}, "elicitation": {"form": {}}}


def _sampling(who: str) -> dict[str, Any]:
    content = {"type": "text", "text": who}
    params = {"messages": [{"role": "user", "content": content}], "maxTokens": 9}
    return {"method": "sampling/createMessage", "params": params}


def _elicitation(who: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    return {"method": "elicitation/create", "params": {"message": who, "requestedSchema": schema}}


@dataclass
class Chatter:
    """A backend whose tool `talk` does it all, in either era."""

    era: str
    name: str
    users: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Session → the principals that it served, as they say themselves."""
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Session → how many calls it served."""
    started: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        tool = json.dumps({"name": "talk", "inputSchema": {"type": "object"}})
        hint = {"cacheScope": "private", "ttlMs": 60000} if self.era == "modern" else {}
        self.backend = Backend(self.era, self.answer, {"tools": [tool]}, list_hint=hint)

    def change(self) -> None:
        """List another tool, and say so to everyone."""
        tools = self.backend.lists["tools"]
        tools.append(json.dumps({"name": f"t{len(tools)}", "inputSchema": {"type": "object"}}))
        changed = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
        self.backend.broadcast(json.dumps(changed))

    async def answer(self, call: Call) -> None:
        """Everything, or with `wait` nothing."""
        params = call.message["params"]
        arguments = params["arguments"]
        who = arguments["who"]
        self.users[call.session].add(arguments.get("principal", ""))
        self.calls[call.session] += 1
        if arguments.get("wait"):
            self.started.set()
            await asyncio.Event().wait()
        if not arguments.get("quiet"):
            await self._talked(call, who, params)
            return
        await self._finished(call, [who])

    async def _talked(self, call: Call, who: str, params: dict[str, Any]) -> None:
        log = {"level": "info", "data": who}
        await call.emit(_notification("notifications/message", log))
        token = params["_meta"]["progressToken"]
        report = {"progressToken": token, "progress": 1, "message": who}
        await call.emit(_notification("notifications/progress", report))
        if self.era == "legacy":
            said = (await call.ask(lambda own: _request(own, _sampling(who)))).message["result"]
            named = (await call.ask(lambda own: _request(own, _elicitation(who)))).message["result"]
        elif "inputResponses" in params:
            said, named = (params["inputResponses"][key] for key in ("s", "e"))
        else:
            asked = {"s": _sampling(who), "e": _elicitation(who)}
            await self._ended(call, {"resultType": "input_required", "inputRequests": asked})
            return
        await self._finished(call, [who, said["content"]["text"], named["content"]["name"]])

    async def _finished(self, call: Call, words: list[str]) -> None:
        text = " ".join([self.name, *words])
        result = {"content": [{"type": "text", "text": text}]}
        await self._ended(call, {**result, "resultType": "complete"})

    async def _ended(self, call: Call, result: dict[str, Any]) -> None:
        answer = {"jsonrpc": "2.0", "id": call.message["id"], "result": result}
        await call.finish(json.dumps(answer))


def _notification(method: str, params: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params})


def _request(own: str, request: dict[str, Any]) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": own, **request})


class Talker:
    """One client that checks that everything it gets is its own."""

    def __init__(self, http: httpx2.AsyncClient, url: str, era: str, who: str) -> None:
        self.who = who
        self.client = Client(http, url, era, {"authorization": f"Bearer {who}"})
        self._next = 0

    async def start(self) -> "Talker":
        """Begin a session, where the era has them."""
        if self.client.era == "legacy":
            await self.client.initialize(json.dumps(CAPABILITIES))
        return self

    def request(self, tool: str, word: str, **members: Any) -> dict[str, Any]:
        """A call with an id of its own."""
        self._next += 1
        arguments = {"who": word, "principal": self.who, **members.pop("arguments", {})}
        meta: dict[str, Any] = {"progressToken": word}
        if self.client.era == "modern":
            meta[f"{META}protocolVersion"] = MODERN
            meta[f"{META}clientCapabilities"] = CAPABILITIES
            meta[f"{META}logLevel"] = "debug"
        params = {"name": tool, "arguments": arguments, "_meta": meta, **members}
        return {"jsonrpc": "2.0", "id": self._next, "method": "tools/call", "params": params}

    async def send(self, message: dict[str, Any], word: str = "") -> Any:
        """The response; every message before it must be about the word."""
        body = json.dumps(message).encode()
        results = [
            json.loads(entry)
            for entry in await self.client.exchange(body, lambda asked: self._reply(asked, word))
        ]
        *before, response = results
        for item in before:
            assert _subject(item) == word, item
        assert response["id"] == message["id"]
        return response, [element.get("method") for element in before]

    def _reply(self, asked: dict[str, Any], word: str) -> bytes:
        result = self._answer(asked, word)
        return json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode()

    def _answer(self, asked: dict[str, Any], word: str) -> dict[str, Any]:
        assert _subject(asked) == word, asked
        if asked["method"] == "elicitation/create":
            return {"action": "accept", "content": {"name": f"user-of-{word}"}}
        content = {"type": "text", "text": f"model-of-{word}"}
        return {"role": "assistant", "model": "m", "content": content}

    async def talk(self, backend: str, word: str) -> None:
        """One call of the tool, until its end, checked."""
        response, before = await self.send(self.request(f"{backend}_talk", word), word)
        while response["result"].get("resultType") == "input_required":
            asked = response["result"]["inputRequests"]
            answers = {key: self._answer(item, word) for key, item in asked.items()}
            more: dict[str, Any] = {"inputResponses": answers}
            if "requestState" in response["result"]:
                more["requestState"] = response["result"]["requestState"]
            retry = self.request(f"{backend}_talk", word, **more)
            response, later = await self.send(retry, word)
            before += later
        text = response["result"]["content"][0]["text"]
        assert text == f"{backend} {word} model-of-{word} user-of-{word}"
        assert {"notifications/message", "notifications/progress"} <= set(before)


def _subject(message: dict[str, Any]) -> str:
    params = message["params"]
    if message["method"] == "sampling/createMessage":
        text: str = params["messages"][0]["content"]["text"]
        return text
    return str(params.get("data") or params["message"])
