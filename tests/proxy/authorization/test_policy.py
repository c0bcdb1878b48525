"""Rules: who may list and use which components of the current catalog."""

from dataclasses import replace
from typing import Any

import pytest

from mcpproxy.limits import access as limits
from mcpproxy.proxy.authorization import policy as policies
from mcpproxy.proxy.authorization.conditions import argument_names
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.protocol.kinds import PROMPTS, RESOURCES, TEMPLATES, TOOLS, ComponentKind
from tests.proxy.authorization.stage import (
    ISSUER,
    catalog_of,
    policy,
    put,
    rule,
    shown,
    token,
)

DEV = {"groups": ["dev"]}
ANYONE = {"any": True}
ACCOUNT = Identity("serviceAccount", issuer="k", service_account=("agents", "reader"))
KEY = Identity("apiKey", issuer="k", api_key="n8n")
AGENTS = {"serviceAccounts": [{"namespace": "agents", "name": "*"}]}
CALLERS = {
    "alice": token(groups=["dev"], client="desktop"),
    "bob": token("bob", groups=["ops"]),
    "a stranger": token("alice", groups=["dev"], issuer="https://other.example.com"),
    "an agent": ACCOUNT,
    "a key": KEY,
    "nobody": ANONYMOUS,
}


def _catalog() -> Catalog:
    return catalog_of(
        a={
            TOOLS: ["get", "set"],
            PROMPTS: ["ask"],
            RESOURCES: ["file:///pub/a", "note://1"],
            TEMPLATES: ["note://{id}"],
        },
        b={TOOLS: ["get"], PROMPTS: ["ask", "other"]},
    )


@pytest.mark.parametrize(
    ("who", "callers"),
    [
        ({"groups": ["dev"]}, "alice, a stranger"),
        ({"groups": ["dev", "ops"]}, "alice, bob, a stranger"),
        ({"groups": ["dev"], "issuers": [ISSUER]}, "alice"),
        ({"subjects": ["bob"]}, "bob"),
        ({"subjects": ["b*"]}, ""),
        ({"clients": ["desktop"]}, "alice"),
        ({"issuers": [ISSUER]}, "alice, bob"),
        ({"groups": ["dev"], "clients": ["other"]}, ""),
        (AGENTS, "an agent"),
        ({"serviceAccounts": [{"namespace": "a?ents", "name": "writer"}]}, ""),
        ({"groups": ["ops"], **AGENTS}, "bob, an agent"),
        ({"apiKeys": ["n8n"]}, "a key"),
        ({"anonymous": True}, "nobody"),
        ({"anonymous": True, "groups": ["ops"]}, "bob, nobody"),
        ({"any": True}, "alice, bob, a stranger, an agent, a key, nobody"),
    ],
)
def test_a_rule_is_for_the_callers_that_it_names(who: dict[str, Any], callers: str) -> None:
    rules = policy(_catalog(), rule("r", who))
    named = [
        name
        for name, identity in CALLERS.items()
        if shown(rules.access_class(identity), TOOLS) == ["a_get", "a_set", "b_get"]
    ]
    assert ", ".join(named) == callers
    assert all(
        shown(rules.access_class(identity), TOOLS) == []
        for name, identity in CALLERS.items()
        if name not in named
    )


@pytest.mark.parametrize(
    ("may", "kind", "names"),
    [
        ({"tools": ["*"]}, TOOLS, "a_get, a_set, b_get"),
        ({"tools": ["*_get"]}, TOOLS, "a_get, b_get"),
        ({"tools": ["get"]}, TOOLS, ""),
        ({"tools": ["*"]}, PROMPTS, ""),
        ({"backends": ["b"]}, TOOLS, "b_get"),
        ({"backends": ["b"]}, PROMPTS, "b_ask, b_other"),
        ({"backends": ["?"], "prompts": ["*_ask"]}, PROMPTS, "a_ask, b_ask"),
        ({"backends": ["?"], "prompts": ["*_ask"]}, TOOLS, ""),
        ({"resources": ["file://*"]}, RESOURCES, "file://a//pub/a"),
        ({"resources": ["file://*"]}, TEMPLATES, ""),
        ({"resourceTemplates": ["note://a/*"]}, TEMPLATES, "note://a/{id}"),
        ({"resourceTemplates": ["note://a/*"]}, RESOURCES, "note://a/1"),
    ],
)
def test_a_rule_allows_the_components_that_it_names(
    may: dict[str, Any], kind: ComponentKind, names: str
) -> None:
    access = policy(_catalog(), rule("r", ANYONE, may)).access_class()
    assert ", ".join(shown(access, kind)) == names


HINTS: dict[str, Any] = {
    "read": {"readOnlyHint": True},
    "odd": {"readOnlyHint": "yes", "destructiveHint": False},
    "add": {"destructiveHint": False, "idempotentHint": True, "openWorldHint": False},
}


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        ({"readOnly": True}, "a_read"),
        ({"readOnly": False}, "a_odd, a_add, a_bare"),
        ({"destructive": False}, "a_read, a_odd, a_add"),
        ({"destructive": True}, "a_bare"),
        ({"idempotent": True}, "a_read, a_add"),
        ({"openWorld": False}, "a_add"),
        ({"destructive": False, "readOnly": False}, "a_odd, a_add"),
    ],
)
def test_absent_annotations_have_the_defaults_of_mcp(
    annotations: dict[str, bool], names: str
) -> None:
    catalog = Catalog()
    put(catalog, "a", TOOLS, [*HINTS, "bare"], HINTS)
    access = policy(catalog, rule("r", ANYONE, {"annotations": annotations})).access_class()
    assert ", ".join(shown(access, TOOLS)) == names


def test_a_tool_that_is_read_only_for_some_clients_does_not_count_as_read_only() -> None:
    catalog = Catalog()
    put(catalog, "a", TOOLS, ["x"], {"x": {"readOnlyHint": True}})
    put(catalog, "a", TOOLS, ["x"], {}, seen=b"{}")
    rules = policy(catalog, rule("r", ANYONE, {"annotations": {"readOnly": True}}))
    assert shown(rules.access_class(), TOOLS) == []


def test_an_unlisted_name_is_decided_by_its_name_and_never_by_annotations() -> None:
    by_name = rule("r", ANYONE, {"tools": ["a_get*"]}, {"resourceTemplates": ["*"]})
    by_hint = rule("h", DEV, {"annotations": {"destructive": True}})
    rules = policy(_catalog(), by_name, by_hint)
    access = rules.access_class(CALLERS["alice"])
    assert access.judge(TOOLS, "a", "a_get_more").allowed
    assert not access.judge(TOOLS, "a", "a_unknown").allowed
    assert access.judge(RESOURCES, "a", "note://a/77").allowed
    assert not access.judge(RESOURCES, "b", "note://a/77").allowed
    assert not access.judge(RESOURCES, "a", "note://a/7/7").allowed


def test_by_default_only_what_a_rule_allows_may_be_used() -> None:
    assert shown(policy(_catalog()).access_class(), TOOLS) == []


def test_with_the_default_allow_everyone_may_use_components_without_a_rule() -> None:
    rules = policy(_catalog(), rule("dev", DEV, {"tools": ["a_*"]}), default="Allow")
    assert shown(rules.access_class(), TOOLS) == ["b_get"]
    assert shown(rules.access_class(CALLERS["alice"]), TOOLS) == ["a_get", "a_set", "b_get"]
    assert shown(rules.access_class(), PROMPTS) == ["a_ask", "b_ask", "b_other"]
    assert not rules.access_class().judge(TOOLS, "a", "a_new").allowed
    assert rules.access_class().judge(TOOLS, "b", "b_new").allowed


def test_with_the_default_allow_a_tool_that_a_rule_may_mention_is_not_open() -> None:
    catalog = Catalog()
    put(catalog, "a", TOOLS, ["read", "bare"], HINTS)
    destructive = rule("ops", {"groups": ["ops"]}, {"annotations": {"destructive": True}})
    access = policy(catalog, destructive, default="Allow").access_class()
    assert shown(access, TOOLS) == ["a_read"]
    assert not access.judge(TOOLS, "a", "a_unlisted").allowed


def test_a_rule_with_scopes_needs_all_of_them_and_tells_a_token_which() -> None:
    rules = policy(_catalog(), rule("w", ANYONE, {"tools": ["a_set"]}, scopes=["write", "read"]))
    assert shown(rules.access_class(token(scopes=["read", "write"])), TOOLS) == ["a_set"]
    lacking = rules.access_class(token(scopes=["read"]))
    assert shown(lacking, TOOLS) == []
    assert lacking.judge(TOOLS, "a", "a_set").scopes == ("write", "read")
    assert lacking.judge(TOOLS, "a", "a_get").scopes == ()
    # Nobody could give these callers a scope.
    for identity in (ACCOUNT, KEY, ANONYMOUS):
        assert rules.access_class(identity).judge(TOOLS, "a", "a_set").scopes == ()
    assert rules.scopes == ("write", "read")


def test_a_condition_shows_a_tool_and_decides_each_call() -> None:
    condition = 'args.repo.startsWith("acme/") && claims.sub == tool.backend'
    rules = policy(_catalog(), rule("own", ANYONE, {"tools": ["a_set"]}, when=condition))
    access = rules.access_class()
    assert shown(access, TOOLS) == ["a_set"]
    verdict = access.judge(TOOLS, "a", "a_set")
    assert not verdict.allowed
    (condition_,) = verdict.conditions
    tool = {"backend": "a"}
    assert condition_.holds({"repo": "acme/x"}, {"sub": "a"}, tool)
    assert not condition_.holds({"repo": "evil/x"}, {"sub": "a"}, tool)
    assert not condition_.holds({"repo": "acme/x"}, {"sub": "b"}, tool)
    assert not condition_.holds({"repo": 3}, {"sub": "a"}, tool)
    assert not condition_.holds({}, {}, {})


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("args.owner == 'acme'", {"owner", "acme"}),
        ("tool.name == claims.sub && args.x.y > 1", {"x", "y"}),
        ("args.tool.name == claims.claims.x", {"tool", "name"}),
        ("args . tool\n. name == ''", {"tool", "name", ""}),
        ("args['tool'].name.startsWith(\"a\")", {"tool", "name", "a"}),
        ("args.xs.all(tool, tool.name == 1)", {"xs", "name"}),
        ("tool.annotations.readOnlyHint || args.x", {"x"}),
        (r"""args["\u006fwner"] == "a\"b" """, {"owner", 'a"b'}),
        ("has(args.owner)", {"owner"}),
    ],
)
def test_the_names_of_arguments_are_those_that_a_condition_selects(
    expression: str, names: set[str]
) -> None:
    """A member of the same name in another case then does not meet the condition."""
    assert argument_names(expression) == names


def test_a_condition_with_another_result_than_a_boolean_is_not_met() -> None:
    rules = policy(_catalog(), rule("own", ANYONE, when="args.x"))
    (condition,) = rules.access_class().judge(TOOLS, "a", "a_set").conditions
    assert condition.holds({"x": True}, {}, {})
    assert not condition.holds({"x": "true"}, {}, {})
    assert not condition.holds({"x": 1}, {}, {})


def test_a_rule_without_a_condition_precedes_one_with() -> None:
    rules = policy(_catalog(), rule("c", ANYONE, when="false"), rule("all", ANYONE))
    assert rules.access_class().judge(TOOLS, "a", "a_set").rule == "all"


def test_callers_to_whom_the_same_rules_apply_share_a_class() -> None:
    rules = policy(_catalog(), rule("dev", DEV), rule("ops", {"groups": ["ops"]}))
    dev = rules.access_class(CALLERS["alice"])
    assert rules.access_class(token("carol", groups=["dev", "x"])) is dev
    assert rules.access_class(CALLERS["bob"]) is not dev
    assert rules.class_count == 2


def test_decisions_follow_the_catalog() -> None:
    catalog = _catalog()
    access = policy(catalog, rule("r", ANYONE, {"tools": ["a_*"]})).access_class()
    assert shown(access, TOOLS) == ["a_get", "a_set"]
    put(catalog, "a", TOOLS, ["new"])
    assert shown(access, TOOLS) == ["a_new"]
    put(catalog, "a", TOOLS, [])
    assert not access.uses_tools("a")


def test_resources_follow_the_templates_that_allow_them() -> None:
    catalog = _catalog()
    access = policy(catalog, rule("r", ANYONE, {"resourceTemplates": ["*"]})).access_class()
    assert shown(access, RESOURCES) == ["note://a/1"]
    put(catalog, "a", TEMPLATES, [])
    assert shown(access, RESOURCES) == []


def test_the_digest_of_a_class_changes_with_its_rules_only() -> None:
    def digest(*rules: dict[str, Any], **fields: Any) -> str:
        return policy(_catalog(), *rules, **fields).access_class(CALLERS["alice"]).digest

    dev, ops = rule("dev", DEV), rule("ops", {"groups": ["ops"]})
    assert digest(dev) == digest(dev, ops) == digest(ops, dev)
    assert digest(dev) != digest(rule("dev", DEV, {"tools": ["*"]}))
    assert digest(dev, default="Allow") != digest(dev, ops, default="Allow")


def test_entries_that_cover_nothing_are_named() -> None:
    rules = policy(
        _catalog(),
        rule("one", ANYONE, {"tools": ["a_get"]}, {"tools": ["c_*"]}),
        rule("two", ANYONE, {"backends": ["b"], "resources": ["*"]}),
    )
    assert rules.unused() == ["one: may[1]", "two: may[0]"]


def test_a_backend_is_reachable_if_a_rule_may_allow_one_of_its_components() -> None:
    rules = policy(
        _catalog(),
        rule("all", DEV, {"backends": ["a"]}),
        rule("some", DEV, {"backends": ["b"], "tools": ["nothing"]}),
    )
    dev, nobody = rules.access_class(CALLERS["alice"]), rules.access_class()
    assert [dev.may_reach(name) for name in "abc"] == [True, True, False]
    assert [dev.has_whole(name) for name in "abc"] == [True, False, False]
    assert not any(nobody.may_reach(name) or nobody.has_whole(name) for name in "abc")


def test_classes_beyond_the_limit_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = replace(limits.ACCESS_CLASSES, value=2)
    monkeypatch.setattr(policies, "ACCESS_CLASSES", limit)
    rules = policy(_catalog(), *(rule(f"r{i}", {"groups": [f"g{i}"]}) for i in range(4)))
    first = rules.access_class(token(groups=["g0"]))
    for number in range(1, 4):
        rules.access_class(token(groups=[f"g{number}"]))
    assert rules.class_count == 2
    assert limit.reached == 2
    again = rules.access_class(token(groups=["g0"]))
    assert again is not first
    assert shown(again, TOOLS) == shown(first, TOOLS)
