"""Authorization over HTTP, in both eras: lists show what can be used, and nothing else can be."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from msgspec import Raw

from mcpproxy.proxy.core.access import AccessDenied
from mcpproxy.proxy.core.identity import Identity
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.protocol.kinds import TOOLS
from tests.proxy.authorization.stage import put
from tests.proxy.runtime.authorized import ALICE, BOB, DEV, EVERYTHING, OPS, READ, worlds
from tests.proxy.runtime.callers import (
    AUTHENTICATION,
    LISTS,
    Caller,
    caller,
    rule,
    same,
    sign_in,
    token,
)
from tests.proxy.runtime.raw import last, rpc
from tests.proxy.runtime.serving import LIVE, proxied, serving
from tests.proxy.runtime.shelf import Shelf
from tests.proxy.runtime.strangers import KEY
from tests.proxy.runtime.waiting import eventually

pytestmark = LIVE
eras = pytest.mark.parametrize("era", ["legacy", "modern"])


@pytest.fixture(autouse=True)
def _sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(monkeypatch)


@eras
async def test_lists_of_every_kind_contain_only_usable_components(era: str) -> None:
    rules = (
        rule(
            "dev",
            DEV,
            READ,
            {"backends": ["b"], "prompts": ["*_ask*"]},
            {"resources": ["file://a//pub/*"], "resourceTemplates": ["note://b/{id}"]},
        ),
        rule("ops", OPS, EVERYTHING),
    )
    async with worlds(*rules) as world:
        alice, bob = await world.caller(era, ALICE), await world.caller(era, BOB)
        nobody = await world.caller(era)
        expected = {
            "tools": ["a_get_a", "a_get_b_admin", "a_get_off"],
            "prompts": ["b_ask", "b_ask_admin"],
            "resources": ["file://a//pub/a", "file://a//pub/off", "file://a//pub/secret"],
            "resourceTemplates": ["note://b/{id}"],
        }
        for kind in LISTS:
            every = await bob.listed(kind)
            assert await alice.listed(kind) == expected[kind]
            assert await nobody.listed(kind) == []
            assert [n for n in every if await alice.may_use(kind, n)] == expected[kind]
            assert [n for n in every if await bob.may_use(kind, n)] == every
            assert [n for n in every if await nobody.may_use(kind, n)] == []
        assert await alice.may_use("resources", "note://b/17")
        assert not await alice.may_use("resources", "note://a/17")


@eras
@pytest.mark.parametrize("names", ["ab", "a"])
async def test_a_denied_name_gets_the_same_response_as_an_unknown_name(
    era: str, names: str
) -> None:
    async with worlds(rule("dev", DEV, READ), names=names) as world:
        alice = await world.caller(era, ALICE)
        for kind, denied, unknown in (
            ("tools", "a_set_a", "a_unused"),
            ("prompts", "a_ask", "a_xxx"),
            ("resources", "file://a//etc/passwd", "file://a//etc/nobody"),
            ("resourceTemplates", "note://a/{id}", "none://a/{id}"),
        ):
            answers = await alice.use(kind, denied), await alice.use(kind, unknown)
            assert last(answers[0])["error"]["code"] in (-32602, -32002)
            assert same(*answers, denied, unknown)
            assert answers[0].headers.keys() == answers[1].headers.keys()
        before = [gate.count("tools/call") for gate in (s.gate for s in world.shelves)]
        await alice.use("tools", "a_set_a")
        assert before == [shelf.gate.count("tools/call") for shelf in world.shelves]


@eras
async def test_a_missing_scope_is_a_challenge_that_names_all_scopes(era: str) -> None:
    rules = (
        rule("read", DEV, READ),
        rule("write", DEV, {"tools": ["a_set_a"]}, scopes=["tools:write", "tools:all"]),
    )
    async with worlds(*rules) as world:
        lacking = await world.caller(era, token(groups=["dev"], scopes=["tools:write"]))
        assert "a_set_a" not in await lacking.listed("tools")
        answer = await lacking.use("tools", "a_set_a")
        assert answer.status_code == 403
        challenge = answer.headers["www-authenticate"]
        assert 'error="insufficient_scope"' in challenge
        assert 'scope="tools:all tools:write"' in challenge
        value = token(groups=["dev"], scopes=["tools:write", "tools:all", "x"])
        having = await world.caller(era, value)
        assert "a_set_a" in await having.listed("tools")
        assert last(await having.use("tools", "a_set_a"))["result"]
        # A scope would not help these.
        bob = await world.caller(era, token("bob", groups=["ops"]))
        assert last(await bob.use("tools", "a_set_a"))["error"]["code"] == -32602


async def test_in_a_batch_a_missing_scope_is_the_error_of_its_request() -> None:
    write = rule("write", DEV, {"tools": ["a_set_a"]}, scopes=["tools:write"])
    async with worlds(write, rule("read", DEV, READ)) as world:
        alice = await world.caller("legacy", ALICE)
        await alice.raw.initialize("2025-03-26", **alice.headers)
        calls = [
            rpc("tools/call", {"name": name, "arguments": {}}, request_id)
            for request_id, name in enumerate(["a_set_a", "a_get_a"])
        ]
        answer = await alice.raw.post(calls, **alice.headers)
        assert answer.status_code == 200
        assert '"scopes":["tools:write"]' in answer.text.replace(" ", "")
        assert '"result"' in answer.text


@eras
async def test_a_condition_decides_each_call_by_its_arguments(era: str) -> None:
    own = 'args.repo.startsWith("acme/") && claims.sub == "alice" && tool.backend == "a"'
    async with worlds(rule("own", {"any": True}, {"tools": ["a_*"]}, when=own)) as world:
        alice, bob = await world.caller(era, ALICE), await world.caller(era, BOB)
        assert await alice.listed("tools") == await bob.listed("tools")
        assert last(await alice.use("tools", "a_set_a", repo="acme/x"))["result"]
        for who, arguments in ((alice, {"repo": "x/acme"}), (alice, {}), (bob, {"repo": "acme/x"})):
            error = last(await who.use("tools", "a_set_a", **arguments))["error"]
            assert error["code"] == -32602
            assert "conditions of spec.authorization" in error["message"]


@eras
async def test_arguments_beyond_a_limit_meet_no_condition(era: str) -> None:
    async with worlds(rule("any", {"any": True}, {"tools": ["a_*"]}, when="true")) as world:
        someone = await world.caller(era)
        assert last(await someone.use("tools", "a_set_a", x=[0] * 990))["result"]
        assert "error" in last(await someone.use("tools", "a_set_a", x=[0] * 1000))
        assert last(await someone.use("tools", "a_set_a", x="x" * 65000))["result"]
        assert "error" in last(await someone.use("tools", "a_set_a", x="x" * 65536))


async def test_a_session_has_the_access_of_each_requests_own_token() -> None:
    write = rule("write", DEV, {"tools": ["a_set_a"]}, scopes=["tools:write"])
    async with worlds(write, rule("read", DEV, READ)) as world:
        alice = await world.caller("legacy", ALICE)
        assert "a_set_a" not in await alice.listed("tools")
        stepped_up = token(groups=["dev"], scopes=["tools:write"])
        again = await caller(world.proxy.url, world.http, "legacy", stepped_up, alice.raw.session)
        assert "a_set_a" in await again.listed("tools")
        assert last(await again.use("tools", "a_set_a"))["result"]
        assert (await alice.use("tools", "a_set_a")).status_code == 403


@eras
async def test_instructions_and_capabilities_are_those_of_reachable_backends(era: str) -> None:
    async with worlds(rule("dev", DEV, {"tools": ["a_*"], "backends": ["a"]})) as world:
        alice, bob = await world.caller(era, ALICE), await world.caller(era, BOB)
        method = "server/discover"
        if era == "legacy":
            result = [last(await who.raw.initialize(**who.headers)) for who in (alice, bob)]
        else:
            result = [last(await who.send(method)) for who in (alice, bob)]
        capabilities = [answer["result"]["capabilities"] for answer in result]
        assert "tools" in capabilities[0]
        assert "tools" not in capabilities[1]


async def test_lists_of_restricted_callers_are_never_public() -> None:
    async with worlds(rule("dev", DEV, READ)) as world:
        alice = await world.caller("modern", ALICE)
        for method in LISTS.values():
            assert last(await alice.send(method))["result"]["cacheScope"] == "private"


@eras
async def test_a_method_without_a_component_requires_access_to_the_whole_backend(era: str) -> None:
    rules = rule("dev", DEV, {"tools": ["*"]}), rule("ops", OPS, {"backends": ["a"]})
    async with worlds(*rules, names="a") as world:
        alice, bob = await world.caller(era, ALICE), await world.caller(era, BOB)
        gate = world.shelves[0].gate
        denied = last(await alice.send("odd/method", x=1))
        assert denied["error"] == {"code": -32601, "message": "method not found: odd/method"}
        assert gate.count("odd/method") == 0
        await bob.send("odd/method", x=1)
        assert gate.count("odd/method") == 1


@eras
async def test_a_method_that_names_several_components_needs_access_to_all(era: str) -> None:
    rules = rule("dev", DEV, READ, {"resources": ["file://a//pub/*"]})
    async with worlds(rules) as world:
        alice = await world.caller(era, ALICE)
        gate = world.shelves[0].gate
        allowed = {"uri": "file://a//pub/a", "name": "a_get_a"}
        await alice.send("odd/method", **allowed)
        assert gate.count("odd/method") == 1
        for changed in ({"name": "a_set_a"}, {"uri": "file://a//etc/passwd"}):
            answer = last(await alice.send("odd/method", **{**allowed, **changed}))
            assert answer["error"]["message"].startswith("unknown ")
        assert gate.count("odd/method") == 1


@eras
async def test_bare_names_stand_for_the_tools_that_the_caller_may_use(era: str) -> None:
    bare = {"names": {"bare": "Accept"}}
    rules = rule("dev", DEV, {"tools": ["a_get_a"]}), rule("ops", OPS, {"tools": ["*_get_a"]})
    async with worlds(*rules, backend=bare) as world:
        alice, bob = await world.caller(era, ALICE), await world.caller(era, BOB)
        nobody = await world.caller(era)
        for _ in range(2):
            assert "several tools" in last(await bob.use("tools", "get_a"))["error"]["message"]
            assert last(await alice.use("tools", "get_a"))["result"]
            assert not await nobody.may_use("tools", "get_a")


async def test_a_resource_is_subscribed_to_only_by_those_who_may_read_it() -> None:
    rules = rule("dev", DEV, {"resources": ["file://a//pub/*"]})
    async with worlds(rules) as world:
        alice, bob = await world.caller("legacy", ALICE), await world.caller("legacy", BOB)
        for uri in ("file://a//pub/a", "file://a//etc/passwd"):
            wanted = "result" if "pub" in uri else "error"
            assert wanted in last(await alice.send("resources/subscribe", uri=uri))
            assert "error" in last(await bob.send("resources/subscribe", uri=uri))


@eras
async def test_without_an_identity_nothing_of_a_policy_applies_but_its_open_rules(era: str) -> None:
    rules = rule("open", {"any": True}, READ)
    async with worlds(rules, authentication=None) as world:
        someone = await world.caller(era)
        assert await someone.listed("tools") == ["a_get_a", "a_get_b_admin", "a_get_off"]
        assert not await someone.may_use("tools", "a_set_a")


async def test_two_classes_interleaved_never_see_the_lists_of_each_other() -> None:
    rules = [rule(f"r{n}", {"groups": [f"g{n}"]}, {"tools": [f"*_{t}"]}) for n, t in _TOOLS]
    async with worlds(*rules) as world:
        callers = [
            (await world.caller(era, token(f"s{n}", groups=[f"g{n}"])), tool)
            for n, tool in _TOOLS
            for era in ("legacy", "modern")
        ]
        for _ in range(6):
            for who, tool in callers:
                assert await who.listed("tools") == [f"a_{tool}", f"b_{tool}"]
                assert await who.may_use("tools", f"a_{tool}")
                other = next(t for _, t in _TOOLS if t != tool)
                assert not await who.may_use("tools", f"a_{other}")


_TOOLS = list(enumerate(["get_a", "get_b_admin", "get_off", "set_a"]))


async def test_a_session_whose_rules_changed_is_notified_of_changed_lists() -> None:
    def rules(pattern: str) -> dict[str, Any]:
        return {"rules": [rule("dev", DEV, {"tools": [pattern]}), rule("ops", OPS, READ)]}

    shelf = Shelf("a")
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(serving(shelf.gate))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        before, after = [
            await stack.enter_async_context(
                proxied(
                    {"name": "a", "url": f"{base}/mcp"},
                    options={"keys": (KEY,)},
                    authorization=rules(pattern),
                    authentication=AUTHENTICATION,
                )
            )
            for pattern in ("a_get_*", "a_set_*")
        ]
        alice = await caller(before.url, http, "legacy", ALICE)
        bob = await caller(before.url, http, "legacy", BOB)
        await before.stop()
        told = {}
        for name, who in (("alice", alice), ("bob", bob)):
            told[name] = await _first_event(http, after.url, who)
        assert "list_changed" in told["alice"]
        assert told["bob"] == ""


async def _first_event(http: httpx2.AsyncClient, url: str, who: Caller) -> str:
    """The first message on a session's stream; empty if none is there when a call has ended."""
    headers = {"accept": "text/event-stream", "mcp-session-id": who.raw.session or ""}
    headers |= {name.replace("_", "-"): value for name, value in who.headers.items()}
    async with http.stream("GET", url, headers=headers) as stream:
        lines = stream.aiter_lines()
        try:
            async with asyncio.timeout(1):
                async for line in lines:
                    if "{" in line:
                        return line
        except TimeoutError:
            pass
    return ""


async def test_list_changes_are_announced_to_those_who_see_them() -> None:
    rules = rule("dev", DEV, {"tools": ["a_*"]}), rule("ops", OPS, {"tools": ["b_*"]})
    async with worlds(*rules) as world:
        told: dict[str, list[str]] = {"alice": [], "bob": []}
        gateway = world.proxy.runtime.gateway
        for name, identity in (("alice", ALICE), ("bob", BOB)):
            who = await world.caller("legacy", identity)
            await who.listed("tools")
            client = gateway.routing.restrict(_client_of(identity))
            gateway.subscribe(told[name].append, None, client)
        await world.shelves[0].grow("more")
        await eventually(lambda: _async(told["alice"]), "the change to be announced")
        assert set(told["alice"]) == {"notifications/tools/list_changed"}
        assert told["bob"] == []


async def test_a_call_that_was_allowed_is_decided_again_for_others_and_after_a_change() -> None:
    reads = {"tools": ["a_get_a"], "annotations": {"readOnly": True}}
    async with worlds(rule("dev", DEV, reads), rule("ops", OPS, {"tools": ["b_*"]})) as world:
        gateway = world.proxy.runtime.gateway
        routing, call = gateway.routing, ("tools/call", {"name": Raw(b'"a_get_a"')})
        alice, bob = (routing.restrict(_client_of(identity)) for identity in (ALICE, BOB))
        put(gateway.catalog, "a", TOOLS, ["get_a"], {"get_a": {"readOnlyHint": True}})
        assert routing.route(*call, alice) is routing.route(*call, alice)
        with pytest.raises(AccessDenied):
            routing.route(*call, bob)
        with pytest.raises(RpcError, match="name"):
            routing.route(call[0], {**call[1], "Name": Raw(b'"b_set_b"')}, alice)
        put(gateway.catalog, "a", TOOLS, ["get_a"], {"get_a": {"readOnlyHint": False}})
        with pytest.raises(AccessDenied):
            routing.route(*call, alice)


def _client_of(identity: Identity) -> Any:
    from mcpproxy.proxy.core.exchange import ClientIdentity

    return ClientIdentity("2025-11-25", identity=identity)


async def _async(value: Any) -> Any:
    return value
