"""Access in plans: which caller could use what, and what a change of the rules changes."""

import json
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.v1alpha1 import MCPProxySpec
from mcpproxy.api.v1alpha1.status import BackendStatus
from mcpproxy.plan.access.callers import callers_of, parse_caller
from mcpproxy.plan.access.permissions import access_differences, build_access
from mcpproxy.plan.access.render import render_access_differences
from mcpproxy.plan.compare import load_earlier_plan
from mcpproxy.plan.document import FORM, Plan, build_document, exit_code
from mcpproxy.plan.render import render_plan
from mcpproxy.proxy.core.catalog.component_filter import EVERYTHING
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol.kinds import KINDS, TOOLS
from tests.plan.planning import plan, written
from tests.proxy.authorization.stage import catalog_of, rule
from tests.support.builders import a_manifest, an_mcpproxy

DEV, OPS = {"groups": ["dev"]}, {"groups": ["ops"]}
AUTHENTICATION = {"jwt": [{"issuer": "https://login.example.com", "audiences": ["x"]}]}
RULES = (
    rule("read", DEV, {"tools": ["a_get"]}),
    rule("write", OPS, {"tools": ["a_*"]}, scopes=["tools:write"]),
    rule("own", {"serviceAccounts": [{"namespace": "agents", "name": "*"}]}, when="args.x == 1"),
)


def _spec(*rules: dict[str, Any], **fields: Any) -> MCPProxySpec:
    authorization = {"rules": list(rules), **fields}
    return an_mcpproxy(authorization=authorization, authentication=AUTHENTICATION).spec


def _plan(*rules: dict[str, Any], callers: tuple[str, ...] = (), **fields: Any) -> Plan:
    catalog = catalog_of(a={TOOLS: ["get", "set"]})
    statuses = [BackendStatus.model_validate({"name": "a", "state": "Healthy"})]
    origins = {"a": (PrefixMapping("a"), dict.fromkeys(KINDS, EVERYTHING))}
    metadata = an_mcpproxy().metadata
    plan = build_document(metadata, catalog, statuses, origins, known=True)
    spec = _spec(*rules, **fields) if rules or fields else an_mcpproxy().spec
    described = [parse_caller(text, spec) for text in callers]
    plan["access"] = build_access(spec, catalog, plan, described)
    return plan


def _tools(plan: Plan) -> dict[str, Any]:
    return {caller["caller"]: caller["tools"]["names"] for caller in plan["access"]["callers"]}


def test_a_plan_shows_the_access_of_all_callers_whom_the_rules_name() -> None:
    assert _tools(_plan(*RULES)) == {
        "group dev": ["a_get"],
        "group ops, scopes tools:write": ["a_get", "a_set"],
        "ServiceAccount agents/*": ["a_get", "a_set"],
        "anonymous": [],
        "any other caller": [],
    }


def test_a_plan_shows_the_access_of_one_caller_on_request() -> None:
    plan = _plan(*RULES, callers=("groups=dev,groups=ops,subject=alice", "anonymous"))
    assert _tools(plan) == {"groups=dev,groups=ops,subject=alice": ["a_get"], "anonymous": []}
    (alice, _) = plan["access"]["callers"]
    assert alice["rules"] == ["read"]
    assert alice["tools"]["scopes"] == {"a_set": ["tools:write"]}
    plan = _plan(*RULES, callers=("serviceAccount=agents/x",))
    assert plan["access"]["callers"][0]["tools"]["conditional"] == ["a_get", "a_set"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dev", "'dev' is not understood; write anonymous, or pairs such as groups=dev"),
        ("group=dev", "'group=dev' is not understood"),
        ("groups=", "'groups=' is not understood"),
        ("subject=a,subject=b", "subject is there 2 times"),
        ("serviceAccount=reader", "serviceAccount must be NAMESPACE/NAME"),
    ],
)
def test_a_malformed_caller_is_refused_with_the_expected_form(text: str, says: str) -> None:
    with pytest.raises(ManifestError) as raised:
        parse_caller(text, _spec(*RULES))
    assert says in str(raised.value)


def test_the_text_of_a_plan_is_a_matrix_of_components_and_callers() -> None:
    unused = rule("old", DEV, {"tools": ["b_*"]})
    lines = render_plan(_plan(*RULES, unused)).splitlines()
    assert "  1: group dev (rules: read, old)" in lines
    rows = [line.split() for line in lines if line.startswith("  tools: ")]
    assert rows == [
        ["tools:", "a_get", "x", "x", "c", "-", "-"],
        ["tools:", "a_set", "-", "x", "c", "-", "-"],
    ]
    assert "  warning: old: may[0] covers nothing of this catalog; correct it or remove it" in lines


def test_a_plan_without_authorization_says_nothing_of_access() -> None:
    plan = _plan()
    assert plan["access"] is None
    assert "access" not in render_plan(plan)


def test_a_change_of_rules_is_shown_for_each_caller_and_is_exit_code_2() -> None:
    before = _plan(rule("read", DEV, {"tools": ["a_get"]}))
    after = _plan(rule("read", DEV, {"tools": ["a_*"]}), rule("ops", OPS, {"tools": ["a_set"]}))
    assert exit_code(after) == 0
    after["accessDifferences"] = access_differences(before, after)
    assert [*render_access_differences(after["accessDifferences"])][2:] == [
        "  +1 tools for group dev: a_set",
        "  +1 tools for group ops: a_set",
    ]
    assert exit_code(after) == 2
    assert access_differences(after, after) == []


def test_the_first_rules_take_from_everyone_what_they_do_not_allow() -> None:
    result = access_differences(_plan(), _plan(rule("read", DEV, {"tools": ["a_get"]})))
    assert [(c["caller"], c["tools"]["removed"]) for c in result] == [
        ("group dev", ["a_set"]),
        ("anonymous", ["a_get", "a_set"]),
        ("any other caller", ["a_get", "a_set"]),
    ]


def test_each_selector_of_a_rule_is_a_caller() -> None:
    who = {
        "issuers": ["https://i"],
        "groups": ["a", "b"],
        "apiKeys": ["n8n"],
        "anonymous": True,
    }
    labels = [caller.label for caller in callers_of(_spec(rule("r", who)))]
    assert labels == [
        "issuer https://i, group a",
        "issuer https://i, group b",
        "API key n8n",
        "anonymous",
        "any other caller",
    ]


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.asyncio(loop_scope="session")
async def test_the_command_shows_the_access_of_a_caller(tmp_path: Path, peer: Any) -> None:
    _, url = await peer("p", "dual")
    manifest = a_manifest(
        backends=[{"name": "p", "url": url}],
        authentication=AUTHENTICATION,
        authorization={"rules": [rule("dev", DEV, {"tools": ["p_echo"]})]},
    )
    file = written(tmp_path / "mcpproxy.yaml", manifest)
    run = await plan("-f", file, "--as", "groups=dev", "--as", "anonymous", "-o", "json")
    assert run.code == 0
    assert _tools(run.plan) == {"groups=dev": ["p_echo"], "anonymous": []}
    earlier = tmp_path / "earlier.json"
    earlier.write_text(run.out, encoding="utf-8")
    manifest["spec"]["authorization"]["rules"][0]["may"] = [{"tools": ["p_*"]}]
    written(file, manifest)
    run = await plan("-f", file, "--as", "groups=dev", "--against", earlier)
    assert run.code == 2
    assert "tools for groups=dev: " in run.out
    run = await plan("-f", file, "--as", "group=dev")
    assert run.code == 1
    assert "'group=dev' is not understood" in run.err


def test_an_earlier_plan_whose_access_is_malformed_is_refused(tmp_path: Path) -> None:
    planned = _plan(*RULES)
    file = tmp_path / "plan.json"
    for access, good in ((planned["access"], True), ({"callers": [{}]}, False), ("x", False)):
        content = {"version": FORM, "proxies": [{**planned, "access": access}]}
        file.write_text(json.dumps(content))
        if good:
            assert load_earlier_plan(file)
            continue
        with pytest.raises(ManifestError, match="not the output of plan -o json"):
            load_earlier_plan(file)
