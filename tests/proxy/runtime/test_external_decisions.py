"""A service that decides on calls: what it is asked, and what its answers and failures mean."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mcpproxy.limits import access as limits
from mcpproxy.proxy.gateway import external_decisions
from tests.proxy.runtime.callers import AUTHENTICATION, Caller, caller, rule, sign_in, token
from tests.proxy.runtime.raw import last
from tests.proxy.runtime.serving import LIVE, proxied, serving
from tests.proxy.runtime.shelf import Shelf
from tests.proxy.runtime.waiting import eventually

pytestmark = LIVE
eras = pytest.mark.parametrize("era", ["legacy", "modern"])
MAY = {"tools": ["a_*"], "resources": ["*"]}
ALICE = token("alice", groups=["dev"], team="blue")


@pytest.fixture(autouse=True)
def _sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(monkeypatch)


@dataclass
class Service:
    """The service: its answer, and what it was asked."""

    body: Any = field(default_factory=lambda: {"result": True})
    status: int = 200
    asked: list[Any] = field(default_factory=list)
    hold: asyncio.Event | None = None
    capacity: int = 1000
    """Number of requests at a time; more of them get no answer."""
    running: int = 0

    async def decide(self, request: Request) -> Response:
        """Answer a request for a decision."""
        self.running += 1
        try:
            self.asked.append(json.loads(await request.body()))
            if self.running > self.capacity:
                await asyncio.Event().wait()
            if self.hold is not None:
                await self.hold.wait()
        finally:
            self.running -= 1
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return Response(body, self.status, media_type="application/json")


Call = Callable[..., Any]


@asynccontextmanager
async def world(
    service: Service,
    names: dict[str, Any] | None = None,
    may: dict[str, Any] | None = None,
    **external: Any,
) -> AsyncIterator[Call]:
    """A proxy with this service; gives a function that makes callers."""
    app = Starlette(routes=[Route("/v1/data/mcp/allow", service.decide, methods=["POST"])])
    async with serving(Shelf("a").gate) as backend, serving(app) as url:
        decision = {"url": f"{url}/v1/data/mcp/allow", "timeout": "30s", **external}
        authorization = {
            "rules": [rule("dev", {"groups": ["dev"]}, may or MAY)],
            "external": decision,
        }
        entry = {"name": "a", "url": f"{backend}/mcp", **({"names": names} if names else {})}
        spec: dict[str, Any] = {"authorization": authorization, "authentication": AUTHENTICATION}
        async with proxied(entry, **spec) as proxy, httpx2.AsyncClient(timeout=30) as http:

            async def make(era: str, identity: Any = ALICE) -> Caller:
                return await caller(proxy.url, http, era, identity)

            yield make


@eras
async def test_the_service_gets_the_call_and_the_caller_and_its_decision_counts(era: str) -> None:
    service = Service()
    async with world(service) as make:
        alice = await make(era)
        assert await alice.listed("tools")
        assert service.asked == []
        assert last(await alice.use("tools", "a_set_a", x=1))["result"]
        (asked,) = service.asked
        assert asked["input"]["method"] == "tools/call"
        assert asked["input"]["backend"] == "a"
        assert asked["input"]["params"] == {"name": "a_set_a", "arguments": {"x": 1}}
        assert asked["input"]["caller"] == {
            "method": "jwt",
            "issuer": ALICE.issuer,
            "subject": "alice",
            "groups": ["dev"],
            "claims": {"sub": "alice", "team": "blue"},
        }
        service.body = {"result": {"allow": False}}
        error = last(await alice.use("tools", "a_set_a"))["error"]
        assert error["code"] == -32602
        assert "spec.authorization.external does not allow" in error["message"]
        denied = last(await alice.send("resources/subscribe", uri="file://a//pub/a"))
        assert "error" in denied
        service.body = {"result": {"allow": True}}
        assert last(await alice.use("tools", "a_set_a"))["result"]


@eras
async def test_the_service_judges_the_names_of_lists_whatever_spelling_a_client_uses(
    era: str,
) -> None:
    service = Service()
    everything = {"backends": ["*"]}
    async with world(service, names={"bare": "Accept"}, may=everything) as make:
        alice = await make(era)
        for use in (
            alice.use("tools", "set_a", x=1),
            alice.use("resources", "file://A//pub/a"),
            alice.use("resourceTemplates", "note://A/{id}"),
            alice.send("vendor/run", name="set_a", uri="file://A//pub/a"),
        ):
            await use
        if era == "legacy":
            assert last(await alice.send("resources/subscribe", uri="file://A//pub/a"))
        judged = [asked["input"]["params"] for asked in service.asked]
        uri = "file://a//pub/a"
        names = [params.get("ref") or params.get("name") or params["uri"] for params in judged]
        template = {"type": "ref/resource", "uri": "note://a/{id}"}
        assert names[:4] == ["a_set_a", uri, template, "a_set_a"]
        assert judged[3]["uri"] == uri
        assert names[4:] == ([uri] if era == "legacy" else [])


@eras
async def test_the_service_is_not_asked_about_requests_that_the_rules_deny(era: str) -> None:
    service = Service()
    async with world(service) as make:
        bob = await make(era, token("bob"))
        assert not await bob.may_use("tools", "a_set_a")
        assert service.asked == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"no JSON", 200),
        ([], 200),
        ({"result": "yes"}, 200),
        ({"result": True}, 500),
        (b" " * 70000, 200),
    ],
)
@pytest.mark.parametrize("on_failure", ["Deny", "Allow"])
async def test_an_unreadable_response_of_the_service_counts_as_no_decision(
    body: Any, status: int, on_failure: str
) -> None:
    async with world(Service(body, status), onFailure=on_failure) as make:
        alice = await make("modern")
        answer = last(await alice.use("tools", "a_set_a"))
        assert ("result" in answer) == (on_failure == "Allow")


@pytest.mark.parametrize("body", [{}, {"result": {}}, {"result": False}])
async def test_an_undefined_result_denies_whatever_on_failure_says(body: Any) -> None:
    async with world(Service(body), onFailure="Allow") as make:
        alice = await make("modern")
        assert "error" in last(await alice.use("tools", "a_set_a"))


@pytest.mark.parametrize("on_failure", ["Deny", "Allow"])
async def test_a_service_that_hangs_is_waited_for_until_the_timeout(
    on_failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(hold=asyncio.Event())
    async with world(service, timeout="50ms", onFailure=on_failure) as make:
        alice = await make("legacy")
        answer = last(await alice.use("tools", "a_set_a"))
        assert ("result" in answer) == (on_failure == "Allow")
        assert "gives no decision: no answer within 0.05 s" in caplog.text
        assert service.hold is not None
        service.hold.set()


async def test_one_client_cannot_occupy_all_external_decisions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = replace(limits.EXTERNAL_DECISIONS, value=16)
    monkeypatch.setattr(external_decisions, "EXTERNAL_DECISIONS", limit)
    service = Service(hold=asyncio.Event())
    async with world(service) as make:
        greedy, modest = await make("modern"), await make("modern", token("bob", groups=["dev"]))
        calls = [asyncio.create_task(greedy.use("tools", "a_set_a")) for _ in range(20)]

        async def refused() -> bool:
            return limit.reached > 0 and len(service.asked) == limits.EXTERNAL_TURNS.value

        await eventually(refused, "the limit to be reached")
        mine = asyncio.create_task(modest.use("tools", "a_set_a"))

        async def asked() -> bool:
            return any(a["input"]["caller"]["subject"] == "bob" for a in service.asked)

        await eventually(asked, "the modest client to be asked for")
        assert service.hold is not None
        service.hold.set()
        assert last(await mine)["result"]
        answers = [last(answer) for answer in await asyncio.gather(*calls)]
        assert {*map(frozenset, answers)} == {
            frozenset({"jsonrpc", "id", "result"}),
            frozenset({"jsonrpc", "id", "error"}),
        }


async def test_calls_that_wait_for_other_calls_of_their_caller_are_denied_whatever_on_failure_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = replace(limits.EXTERNAL_TURNS, value=2)
    monkeypatch.setattr(external_decisions, "EXTERNAL_TURNS", turns)
    service = Service({"result": False}, capacity=2)
    async with world(service, onFailure="Allow", timeout="1s") as make:
        alice = await make("modern")
        calls = [alice.use("tools", "a_set_a") for _ in range(12)]
        answers = [last(answer) for answer in await asyncio.gather(*calls)]
    assert [answer.get("error", {}).get("code") for answer in answers] == [-32602] * 12
    assert turns.reached > 0


@pytest.mark.parametrize("on_failure", ["Deny", "Allow"])
async def test_a_call_too_large_for_a_decision_is_denied_whatever_on_failure_says(
    on_failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service()
    limit = replace(limits.EXTERNAL_QUESTION, value=2000)
    monkeypatch.setattr(external_decisions, "EXTERNAL_QUESTION", limit)
    async with world(service, onFailure=on_failure) as make:
        alice = await make("modern")
        assert last(await alice.use("tools", "a_set_a", pad="x"))["result"]
        error = last(await alice.use("tools", "a_set_a", pad="x" * 2000))["error"]
        assert error["code"] == -32602
        assert "too large" in error["message"]
        assert len(service.asked) == 1


@pytest.mark.parametrize("status", [400, 413, 422, 431])
async def test_a_request_that_the_service_refuses_is_denied_whatever_on_failure_says(
    status: int,
) -> None:
    async with world(Service(b"", status), onFailure="Allow") as make:
        alice = await make("modern")
        assert "does not allow" in last(await alice.use("tools", "a_set_a"))["error"]["message"]


async def test_a_caller_who_exceeds_its_own_share_is_denied_whatever_on_failure_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service({"result": False}, hold=asyncio.Event())
    async with world(service, onFailure="Allow") as make:
        alice = await make("modern")
        calls = [asyncio.create_task(alice.use("tools", "a_set_a")) for _ in range(90)]
        assert service.hold is not None

        async def is_refused() -> bool:
            return any(call.done() for call in calls)

        await eventually(is_refused, "a call beyond the share to be refused")
        service.hold.set()
        answers = [last(await call) for call in calls]
        assert {answer["error"]["code"] for answer in answers} == {-32000, -32602}
