"""Recorded calls under new rules: `mcpproxy plan --replay`."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api.v1alpha1 import MCPProxySpec
from mcpproxy.plan.access import replay
from mcpproxy.plan.access.recorded_calls import LONGEST_LINE, BadLine, read_calls
from mcpproxy.plan.access.render import render_replay
from mcpproxy.plan.access.replay import CallJudge, replay_calls
from mcpproxy.plan.document import Plan
from mcpproxy.proxy.protocol.kinds import PROMPTS, RESOURCES, TEMPLATES, TOOLS
from tests.plan.planning import NOTES, plan, proxy, written
from tests.proxy.authorization.stage import catalog_of, rule
from tests.support.builders import a_manifest, an_mcpproxy

ISSUER = "https://login.example.com"
AUTHENTICATION: dict[str, Any] = {
    "jwt": [{"issuer": ISSUER, "audiences": ["x"]}],
    "serviceAccounts": {"audience": "tools"},
}
DEV = {"groups": ["dev"]}
ALICE = {"method": "jwt", "issuer": ISSUER, "subject": "alice", "groups": ["dev"]}
BOT = {"method": "serviceAccount", "subject": "x", "serviceAccount": "agents/bot"}
ANYONE = {"method": "anonymous"}
CATALOG = catalog_of(
    a={
        TOOLS: ["get", "set"],
        PROMPTS: ["greet"],
        RESOURCES: ["file:///a"],
        TEMPLATES: ["file:///{x}"],
    }
)


def record(principal: dict[str, Any] = ALICE, **members: Any) -> dict[str, Any]:
    """An audit record of a call."""
    return {
        "logger": "mcpproxy.audit",
        "proxy": "tools",
        "event": "call",
        "principal": principal,
        "method": "tools/call",
        "name": "a_get",
        "backend": "a",
        "decision": "allowed",
        **members,
    }


def log(path: Path, *records: dict[str, Any] | str) -> Path:
    """A file of these lines."""
    lines = [item if isinstance(item, str) else json.dumps(item) for item in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
    return path


def spec(*rules: dict[str, Any], **fields: Any) -> MCPProxySpec:
    """A spec with these rules, and one backend that is named a."""
    value = {"authorization": {"rules": list(rules)}, "authentication": AUTHENTICATION, **fields}
    backends = [{"name": "a", "url": "http://a/mcp"}]
    return an_mcpproxy(backends=backends, **value).spec


def replayed(path: Path, *records: dict[str, Any] | str, spec: MCPProxySpec) -> Plan:
    """The replay of these records."""
    calls = read_calls(log(path / "audit.jsonl", *records))
    return replay_calls("tools", CallJudge(spec, CATALOG), calls)


def only_change(result: Plan) -> tuple[str, str]:
    """The only change, and its reason."""
    (change,) = result["changes"]
    return change["change"], change["reason"]


READ = rule("read", DEV, {"tools": ["a_get"]})


def test_calls_with_the_same_decision_are_not_listed(tmp_path: Path) -> None:
    denied = record(name="a_set", decision="denied")
    result = replayed(tmp_path, record(), denied, record(BOT, decision="denied"), spec=spec(READ))
    assert (result["calls"], result["changes"]) == (3, [])


def test_calls_that_no_rule_allows_any_longer_are_denied(tmp_path: Path) -> None:
    result = replayed(tmp_path, record(name="a_set"), record(name="a_set"), spec=spec(READ))
    assert (result["denied"], result["allowed"]) == (2, 0)
    (change,) = result["changes"]
    assert change == {
        "change": "denied",
        "principal": ALICE,
        "method": "tools/call",
        "name": "a_set",
        "backend": "a",
        "reason": "no rule allows it",
        "calls": 2,
        "firstLine": 1,
    }


def test_calls_that_a_new_rule_allows_are_newly_allowed(tmp_path: Path) -> None:
    agents = rule("agents", {"serviceAccounts": [{"namespace": "agents", "name": "*"}]})
    result = replayed(tmp_path, record(BOT, decision="denied"), spec=spec(agents))
    assert only_change(result) == ("allowed", "rule agents")


@pytest.mark.parametrize(
    ("principal", "reason"),
    [
        ({**ALICE, "groups": ["ops"]}, "no rule allows it"),
        ({**ALICE, "issuer": "https://other"}, "spec.authentication.jwt does not name the issuer"),
        (ANYONE, "spec.authentication requires credentials"),
        (
            {"method": "apiKey", "apiKey": "n8n"},
            "spec.authentication.apiKeys does not name the key",
        ),
    ],
)
def test_callers_are_those_of_the_record(
    tmp_path: Path, principal: dict[str, Any], reason: str
) -> None:
    assert only_change(replayed(tmp_path, record(principal), spec=spec(READ))) == (
        "denied",
        reason,
    )


def test_scopes_that_a_rule_requires_are_named(tmp_path: Path) -> None:
    scoped = spec(rule("read", DEV, {"tools": ["a_get"]}, scopes=["tools:read"]))
    granted = record({**ALICE, "scopes": ["tools:read"]})
    result = replayed(tmp_path, record(), granted, spec=scoped)
    assert only_change(result) == ("denied", "needs the scopes tools:read")


@pytest.mark.parametrize(
    ("members", "decision"),
    [
        ({"method": "prompts/get", "name": "a_greet"}, "allowed"),
        ({"method": "resources/read", "name": "file://a//a"}, "denied"),
        ({"method": "resources/subscribe", "name": "file://a//a"}, "denied"),
        ({"method": "completion/complete", "name": "a_greet"}, "allowed"),
        ({"method": "completion/complete", "name": "file://a//{x}"}, "denied"),
        ({"method": "tasks/get", "name": ""}, "denied"),
        ({"method": "vendor/x", "name": ""}, "denied"),
        ({"name": "a_unlisted"}, "denied"),
        ({"backend": "gone"}, "denied"),
    ],
)
def test_every_kind_of_request_is_decided(
    tmp_path: Path, members: dict[str, Any], decision: str
) -> None:
    prompts = spec(rule("p", DEV, {"prompts": ["*"]}))
    result = replayed(tmp_path, record(**members), spec=prompts)
    assert [change["change"] for change in result["changes"]] == (
        [] if decision == "allowed" else ["denied"]
    )


def test_a_denied_call_is_attributed_to_the_backend_that_lists_the_component(
    tmp_path: Path,
) -> None:
    denied = record(decision="denied")
    del denied["backend"]
    assert only_change(replayed(tmp_path, denied, spec=spec(READ))) == ("allowed", "rule read")


CONDITIONAL = rule("own", DEV, {"tools": ["a_*"]}, when="args.owner == 'acme'")


@pytest.mark.parametrize(
    ("arguments", "change"),
    [
        ({"owner": "acme"}, None),
        ({"owner": "other"}, ("denied", "no condition is met")),
        (
            {"owner": "[redacted]"},
            ("unknown", "a condition depends on arguments that are not recorded"),
        ),
        (None, ("unknown", "a condition depends on arguments that are not recorded")),
    ],
)
def test_conditions_are_evaluated_with_recorded_arguments(
    tmp_path: Path, arguments: Any, change: tuple[str, str] | None
) -> None:
    line = record() if arguments is None else record(arguments=arguments)
    result = replayed(tmp_path, line, spec=spec(CONDITIONAL))
    assert [(item["change"], item["reason"]) for item in result["changes"]] == (
        [] if change is None else [change]
    )


def test_conditions_on_claims_cannot_be_decided(tmp_path: Path) -> None:
    claims = rule("own", DEV, {"tools": ["a_*"]}, when="args.x in claims.teams")
    result = replayed(tmp_path, record(arguments={"x": "y"}), spec=spec(claims))
    assert only_change(result)[0] == "unknown"


def test_a_record_without_all_groups_cannot_be_denied(tmp_path: Path) -> None:
    principal = {**ALICE, "groups": ["other"], "incomplete": True}
    result = replayed(tmp_path, record(principal), spec=spec(READ))
    assert only_change(result)[0] == "unknown"


def test_without_rules_everything_is_allowed(tmp_path: Path) -> None:
    result = replayed(
        tmp_path,
        record(decision="denied"),
        spec=spec(authorization=None),
    )
    assert only_change(result)[0] == "allowed"


def test_other_records_are_ignored(tmp_path: Path) -> None:
    others: list[Any] = [
        record(event="list"),
        {"logger": "mcpproxy.audit", "event": "authentication"},
        {"logger": "mcpproxy.backend", "message": "x"},
        record(proxy="other"),
        "",
    ]
    result = replayed(tmp_path, *others, record(), spec=spec(READ))
    assert (result["calls"], result["ofOtherProxies"], result["badLineCount"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("no JSON", "not a line of JSON"),
        ("{", "not a line of JSON"),
        ("[" * 100_000, "not an audit record: Expected `object`, got `array`"),
        ("\udcff\udcfe", "not a line of JSON"),
        ("[]", "not an audit record: Expected `object`, got `array`"),
        (json.dumps(record(decision="maybe")), "not an audit record: Invalid enum value 'maybe'"),
        (json.dumps(record({"method": 1})), "not an audit record: Expected `str`"),
        ("x" * (LONGEST_LINE * 3), f"the line has more than {LONGEST_LINE} bytes"),
    ],
    ids=range(8),
)
def test_a_malformed_line_is_named_by_its_number(tmp_path: Path, line: str, reason: str) -> None:
    result = replayed(tmp_path, record(), line, record(), spec=spec(READ))
    (bad,) = result["badLines"]
    assert bad["line"] == 2
    assert bad["reason"].startswith(reason)
    assert result["calls"] == 2, "the lines around it count"


def test_a_line_that_does_not_end_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with path.open("wb") as file:
        for _ in range(64):
            file.write(b"x" * LONGEST_LINE)
    tracemalloc.start()
    try:
        (bad,) = read_calls(path)
        assert isinstance(bad, BadLine)
        assert tracemalloc.get_traced_memory()[1] < 8 * LONGEST_LINE
    finally:
        tracemalloc.stop()


def test_changes_and_malformed_lines_beyond_the_maximum_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MOST_CHANGES", 2)
    monkeypatch.setattr(replay, "MOST_BAD_LINES", 2)
    lines = [record(name=f"a_{number}") for number in range(5)]
    result = replayed(tmp_path, *lines, *("x" * 3), spec=spec(READ))
    assert (len(result["changes"]), result["changesOmitted"], result["denied"]) == (2, 3, 5)
    assert (len(result["badLines"]), result["badLineCount"]) == (2, 3)
    text = "\n".join(render_replay({"replay": result}))
    assert "3 further changes are not listed" in text
    assert "1 further lines cannot be read" in text


def test_text_of_a_record_cannot_control_the_terminal(tmp_path: Path) -> None:
    hostile = record({**ALICE, "subject": "\x1b[2J"}, name="\x1b]0;x\x07", decision="allowed")
    text = "\n".join(render_replay({"replay": replayed(tmp_path, hostile, spec=spec(READ))}))
    assert "\x1b" not in text
    assert "\x07" not in text


async def test_the_command_prints_the_replay_and_sets_the_exit_code(tmp_path: Path) -> None:
    backend = {"name": "a", "stdio": NOTES}
    rules = {"rules": [rule("read", DEV, {"tools": ["a_search_notes"]})]}
    file = proxy(tmp_path / "f.yaml", backend, authorization=rules, authentication=AUTHENTICATION)
    same = log(tmp_path / "same.jsonl", record(name="a_search_notes"))
    result = await plan("-f", file, "--replay", same)
    assert (result.code, "1 calls: 1 as recorded" in result.out) == (0, True)
    other = log(tmp_path / "other.jsonl", record(name="a_add_note"))
    result = await plan("-f", file, "--replay", other)
    assert result.code == 2
    shown = "- 1 x tools/call a_add_note by jwt alice of https://login.example.com, groups dev"
    assert f"{shown}: no rule allows it (line 1)" in result.out
    result = await plan("-f", file, "--replay", other, "-o", "json")
    assert (result.code, result.plan["replay"]["denied"]) == (2, 1)
    broken = log(tmp_path / "broken.jsonl", record(name="a_search_notes"), "{")
    result = await plan("-f", file, "--replay", broken)
    assert (result.code, "error: line 2: not a line of JSON" in result.out) == (1, True)


async def test_an_unreadable_log_file_is_named(tmp_path: Path) -> None:
    file = proxy(tmp_path / "f.yaml", {"name": "a", "stdio": NOTES})
    result = await plan("-f", file, "--replay", tmp_path / "none.jsonl")
    assert result.code == 1
    assert "none.jsonl" in result.err


async def test_two_proxies_of_one_name_cannot_be_replayed_together(tmp_path: Path) -> None:
    manifests = [
        a_manifest("tools", namespace, backends=[{"name": "a", "stdio": NOTES}])
        for namespace in ("one", "two")
    ]
    file = written(tmp_path / "f.yaml", *manifests)
    result = await plan("-f", file, "--replay", log(tmp_path / "a.jsonl", record()))
    assert result.code == 1
    assert "two MCPProxies in the file have one name" in result.err
