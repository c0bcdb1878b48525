"""32 callers with short-lived tokens, at once, with rules and an audit log, in all modes and eras.

Each caller takes a new token of the same subject every now and then, also in the middle of calls
and streams. Nothing of one caller reaches another: no answer, list, notification, log message,
question, credential or audit record.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from tests.differential.client import Client
from tests.proxy.runtime.issuing import IssuerServer, issuing
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import modern, rpc
from tests.proxy.runtime.serving import LIVE, proxied, serving
from tests.stress.hostile import SECRET, Director
from tests.stress.hostile_peers import backends
from tests.stress.size import size
from tests.stress.test_isolation_hostile import CALLS, CAPABILITIES, Player, _check
from tests.support.seeds import SEED

pytestmark = [*LIVE, pytest.mark.timeout(size(180, 1500)), pytest.mark.slow]
CALLERS = 32
CLASSES = 4
SKEW = 60
"""Seconds for which the proxy accepts a token after it has expired."""
LIFETIME = size(15, 60)
"""Seconds for which a token of this test is accepted; all of it keeps a machine busy for longer."""
RENEWED_AFTER = 1.0
"""Seconds after which a caller takes a new token."""
PATIENT = {"timeout": "2m", "interval": "2m"}
"""Health checks that wait as long as requests: a late backend is not one that has failed."""
CREDENTIALS = "credentials"
"""Backend that gets the tokens of the callers."""


@dataclass
class Member(Player):
    """A caller of one class, whose tokens expire soon."""

    issuer: IssuerServer = field(kw_only=True)
    renewed_at: float = 0.0
    tokens: int = 0
    streams: int = 0
    sent: int = 0

    @property
    def subject(self) -> str:
        return f"c{self.number}"

    @property
    def group(self) -> str:
        """The class of the caller."""
        return f"class-{self.number // 2 % CLASSES}"

    def renew(self) -> None:
        """Take a new token if the last one is not fresh."""
        if time.monotonic() - self.renewed_at < RENEWED_AFTER and self.chance.random() < 0.5:
            return
        claims = {"groups": [self.group], "exp": int(time.time()) - SKEW + LIFETIME}
        token = self.issuer.token(self.subject, jti=f"{self.number}-{self.tokens}", **claims)
        self.client.headers["authorization"] = token
        self.renewed_at, self.tokens = time.monotonic(), self.tokens + 1

    async def start(self) -> "Member":
        self.renew()
        if self.client.era == "legacy":
            # The backend of the credentials is a server of the SDK, which wants a version.
            info = '{"name":"c","version":"1"}'
            await self.client.initialize(json.dumps(CAPABILITIES), info)
        return self

    async def listen(self) -> None:
        """Keep a stream open: each ends with its token, and another one follows."""
        while True:
            self.renew()
            self.streams += 1
            await super().listen()

    async def _exchanged(self, request: dict[str, Any], secret: str) -> dict[str, Any]:
        self.renew()
        return await super()._exchanged(request, secret)

    def _reply(self, asked: dict[str, Any]) -> bytes:
        self.renew()
        return super()._reply(asked)

    async def check_access(self, allowed: set[str], every: set[str]) -> None:
        """List the tools, and try one that the caller must not use."""
        self.renew()
        listed = await self._send("tools/list")
        assert "result" in listed, listed
        names = {tool["name"] for tool in listed["result"]["tools"]}
        if names != allowed:
            self.leaks.append(f"{self.subject} is listed {sorted(names ^ allowed)} wrongly")
        forbidden = self.chance.choice(sorted(every - allowed))
        denied = await self._send("tools/call", name=forbidden, arguments={"secret": "x"})
        if denied.get("error", {}).get("message") != f"unknown tool: {forbidden}":
            self.leaks.append(f"{self.subject} used {forbidden}: {denied}")

    async def show_credentials(self) -> None:
        """Let a backend see the tokens, with texts that name the caller."""
        name = f"{CREDENTIALS}_echo"
        for number in range(CALLS + 1, 2 * CALLS + 1):
            self.renew()
            secret = f"secret-of-{self.subject}-{number}"
            answer = await self._send("tools/call", name=name, arguments={"secret": secret})
            self.seen(json.dumps(answer).encode(), secret)
            assert "result" in answer, answer

    async def _send(self, method: str, **params: Any) -> dict[str, Any]:
        self.sent += 1
        own = f"own-{self.sent}"
        modern_request = modern(method, own, **params)
        request = rpc(method, params, own) if self.client.session else modern_request
        result = await self.client.exchange(json.dumps(request).encode())
        response: dict[str, Any] = json.loads(result[-1])
        return response


def _rules(names: list[str]) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """Rules under which each class lacks other backends, and the tools of each class."""
    rules, allowed = [], {}
    for number in range(CLASSES):
        group = f"class-{number}"
        tools = [f"{n}_talk" for place, n in enumerate(names) if place % CLASSES != number]
        tools.append(f"{CREDENTIALS}_echo")
        rules.append({"name": group, "who": {"groups": [group]}, "may": [{"tools": tools}]})
        allowed[group] = set(tools)
    return {"rules": rules}, allowed


def _subject_of(token: str) -> str:
    content = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)))
    subject: str = claims["sub"]
    return subject


def _check_credentials(peer: Peer) -> None:
    calls = [request for request in peer.gate.seen if request.rpc == "tools/call"]
    assert calls
    for request in calls:
        match = SECRET.search(request.body.decode())
        assert match is not None
        assert _subject_of(request.headers["authorization"]) == match[1]


def _check_records(out: str) -> None:
    """Each record of a call with a secret names the caller whose secret it is."""
    owners = {
        hashlib.sha256(
            json.dumps({"secret": f"secret-of-c{c}-{n}"}, separators=(",", ":")).encode()
        ).hexdigest(): f"c{c}"
        for c in range(CALLERS)
        for n in range(1, 2 * CALLS + 2)
    }
    records = [json.loads(line) for line in out.splitlines() if '"mcpproxy.audit"' in line]
    checked = 0
    for record in records:
        assert record["event"] == "call", record
        owner = owners.get(record.get("argumentsDigest", ""))
        if owner is not None:
            assert record["principal"]["subject"] == owner, record
            checked += 1
    assert checked > CALLERS
    assert any(record["decision"] == "denied" for record in records)
    assert "eyJ" not in out, "a token"


async def test_nothing_of_a_caller_reaches_another_while_tokens_are_refreshed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(issuing())
        director = Director(SEED)
        stack.push_async_callback(director.close)
        specs, scripts = await stack.enter_async_context(backends(director))
        peer = Peer(CREDENTIALS)
        base = await stack.enter_async_context(serving(peer.gate))
        passing = {"forwardHeaders": ["Authorization"], "auth": {"passthrough": True}}
        specs.append({"name": CREDENTIALS, "url": f"{base}/mcp", **passing})
        for spec in specs:
            # The time that a busy machine needs is not what is tested.
            spec["timeouts"] = dict.fromkeys(("connect", "initialize", "request"), "2m")
        authorization, allowed = _rules(list(scripts))
        every = {name for names in allowed.values() for name in names}
        running = await stack.enter_async_context(
            proxied(*specs, **issuer.spec(), authorization=authorization, audit={}, health=PATIENT)
        )
        limits = httpx2.Limits(max_connections=1024, max_keepalive_connections=0)
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=150, limits=limits))
        members = []
        for number in range(CALLERS):
            client = Client(http, running.url, ("legacy", "modern")[number % 2], {})
            chance = random.Random(SEED + number)
            members.append(await Member(number, client, director, chance, issuer=issuer).start())
        listening = [asyncio.create_task(m.listen()) for m in members if m.client.session]

        async def play(member: Member) -> None:
            own = [n for n in scripts if f"{n}_talk" in allowed[member.group]]
            await member.check_access(allowed[member.group], every)
            await asyncio.gather(
                member.play([*own, *(n for n in own if n.endswith("-reused"))]),
                member.show_credentials(),
            )
            await member.check_access(allowed[member.group], every)

        await asyncio.gather(*map(play, members))
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        _check(list(members), scripts)
        assert min(member.tokens for member in members) > 1
    _check_credentials(peer)
    _check_records(capfd.readouterr().out)


async def test_a_stream_ends_with_its_token_and_the_caller_opens_another_one() -> None:
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(issuing())
        base = await stack.enter_async_context(serving(Peer("p").gate))
        backend = {"name": "p", "url": f"{base}/mcp"}
        running = await stack.enter_async_context(proxied(backend, **issuer.spec()))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        director = Director(0)
        stack.push_async_callback(director.close)
        client = Client(http, running.url, "legacy", {})
        member = Member(0, client, director, random.Random(0), issuer=issuer)
        await member.start()
        listening = asyncio.create_task(member.listen())
        async with asyncio.timeout(3 * LIFETIME):
            while member.streams < 2:
                await asyncio.sleep(0.05)
                assert not listening.done()
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening
