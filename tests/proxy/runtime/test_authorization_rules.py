"""Each member of a rule of spec.authorization, at a real runtime."""

from dataclasses import replace
from typing import Any

import pytest
from mcp_types import ToolAnnotations

from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from tests.proxy.runtime.authorized import ALICE, BOB, DEV, OPS, READ, worlds
from tests.proxy.runtime.callers import (
    LISTS,
    rule,
    sign_in,
    token,
)
from tests.proxy.runtime.serving import LIVE
from tests.proxy.runtime.shelf import Shelf

pytestmark = LIVE


@pytest.fixture(autouse=True)
def _sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(monkeypatch)


HINTS: dict[str, dict[str, bool]] = {
    "fits": {},
    "reads": {"readOnlyHint": True},
    "destroys": {"destructiveHint": True},
    "repeats": {"idempotentHint": False},
    "reaches": {"openWorldHint": True},
}


class Annotated(Shelf):
    """A shelf with a tool for each annotation, besides one that has what is wanted."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.tools = dict.fromkeys(HINTS, self.named)

    async def list_tools(self, c: Any, p: Any) -> Any:
        listed = await super().list_tools(c, p)
        wanted = {"destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
        for tool in listed.tools:
            tool.annotations = ToolAnnotations.model_validate({**wanted, **HINTS[tool.name]})
        return listed


async def test_each_member_of_who_tells_callers_apart() -> None:
    every = {"issuers": [ALICE.issuer], "subjects": ["alice"], "groups": ["dev"]}
    others = {
        "serviceAccounts": [{"namespace": "agents", "name": "r*"}],
        "apiKeys": ["n8n"],
        "anonymous": True,
    }
    alice = replace(ALICE, client="desktop")
    agent = Identity("serviceAccount", subject="x", service_account=("agents", "reader"))
    rules = (
        rule("token", {**every, "clients": ["desktop"]}, {"tools": ["a_get_a"]}),
        rule("others", others, {"tools": ["a_get_off"]}),
        rule("all", {"any": True}, {"tools": ["a_set_a"]}),
    )
    allowed = {
        alice: "a_get_a",
        replace(alice, issuer="https://other.example.com"): "",
        replace(alice, subject="bob"): "",
        replace(alice, groups=frozenset(["ops"])): "",
        replace(alice, client="web"): "",
        agent: "a_get_off",
        replace(agent, service_account=("team", "reader")): "",
        replace(agent, service_account=("agents", "writer")): "",
        Identity("apiKey", subject="n8n", api_key="n8n"): "a_get_off",
        Identity("apiKey", subject="other", api_key="other"): "",
        ANONYMOUS: "a_get_off",
    }
    async with worlds(*rules, names="a") as world:
        for identity, tool in allowed.items():
            who = await world.caller("modern", identity)
            assert await who.listed("tools") == [*filter(None, [tool]), "a_set_a"], identity


async def test_each_member_of_may_tells_components_apart() -> None:
    may = (
        {"backends": ["b"], "tools": ["*_get_a"]},
        {"backends": ["a"], "prompts": ["*_ask"], "resources": ["*/pub/a"]},
        {"resourceTemplates": ["log://b/*"]},
    )
    async with worlds(rule("dev", DEV, *may)) as world:
        alice = await world.caller("modern", ALICE)
        assert {kind: await alice.listed(kind) for kind in LISTS} == {
            "tools": ["b_get_a"],
            "prompts": ["a_ask"],
            "resources": ["file://a//pub/a"],
            "resourceTemplates": ["log://b/{day}"],
        }


async def test_each_annotation_tells_tools_apart() -> None:
    annotations = {"readOnly": False, "destructive": False, "idempotent": True, "openWorld": False}
    fitting = rule("dev", DEV, {"backends": ["a"], "annotations": annotations})
    async with worlds(fitting, names="a", shelf=Annotated) as world:
        alice = await world.caller("modern", ALICE)
        assert await alice.listed("tools") == ["a_fits"]
        assert [n for n in HINTS if await alice.may_use("tools", f"a_{n}")] == ["fits"]


async def test_with_the_default_allow_the_rules_restrict_the_components_they_mention() -> None:
    async with worlds(rule("ops", OPS, {"tools": ["a_set_a"]}), default="Allow") as world:
        alice, bob = await world.caller("modern", ALICE), await world.caller("modern", BOB)
        every = await bob.listed("tools")
        assert "b_set_a" in every
        assert await alice.listed("tools") == [name for name in every if name != "a_set_a"]
        assert not await alice.may_use("tools", "a_set_a")


async def test_the_report_names_rules_that_cover_nothing_and_counts_the_others() -> None:
    rules = rule("dev", DEV, READ), rule("old", OPS, READ, {"tools": ["gone"]})
    async with worlds(*rules) as world:
        for identity in (ALICE, BOB, token("carol", groups=["dev"])):
            await (await world.caller("modern", identity)).listed("tools")
        # The check of the process's own endpoint needs no rule.
        assert (await world.http.get(f"{world.proxy.admin}/readyz")).status_code == 200
        report = (await world.proxy.report()).authorization
        assert report is not None
        assert (report.rules, report.unused) == (2, ["old: may[1]"])
        assert report.classes >= 2
