"""The part of a plan about `spec.limits`: what each rule counts, and the differences. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from mcpproxy.api.v1alpha1 import Limits
from mcpproxy.plan.document import Plan
from mcpproxy.plan.terminal_text import escape_control_characters, table_lines
from mcpproxy.proxy.call_limits.rule_set import RuleSet
from mcpproxy.proxy.call_limits.rules import CALL_TOOL
from mcpproxy.proxy.protocol.kinds import TOOLS

_AMOUNTS: Final = ("per", "calls", "window", "burst", "inFlight")
"""Members of a rule that say how much it admits."""
_COUNTED: Final = {
    "Owner": "by one of the pods for all",
    "None": "by each pod for itself",
    "Valkey": "by a Valkey server",
}
_WHOSE: Final = {
    "Principal": "for each principal",
    "Proxy": "for all callers together",
    "Backend": "for each backend",
}
_SIGNS: Final = {"added": "+", "removed": "-"}


def build_limits(limits: Limits | None, plan: Plan) -> Plan | None:
    """Return what each rule counts of the components of a plan; None without limits."""
    if limits is None:
        return None
    served = [tool for tool in plan[TOOLS.member] if tool["served"]]
    compiled = RuleSet(limits.rules)
    rules = []
    for spec, rule in zip(limits.rules, compiled.rules, strict=True):
        covered = [tool for tool in served if rule.covers(CALL_TOOL, tool["name"])]
        backends = sorted({tool["backend"] for tool in covered})
        if spec.tools is None:
            backends = [backend["name"] for backend in plan["backends"]]
        amounts = spec.model_dump(by_alias=True, exclude={"name", "tools"})
        rules.append(
            {
                "name": spec.name,
                **{name: amounts[name] for name in _AMOUNTS},
                "per": spec.per or "Principal",
                "everyRequest": spec.tools is None,
                "tools": [tool["name"] for tool in covered],
                "backends": backends,
            }
        )
    shared = limits.shared
    store = "Valkey" if shared and shared.valkey else (shared and shared.mode) or "Owner"
    unused = [] if plan["failed"] else compiled.unused(tool["name"] for tool in served)
    return {"counted": store, "rules": rules, "unusedRules": unused}


def limit_differences(before: Plan, after: Plan) -> Plan | None:
    """Return the rules that were added, removed or changed; None if those before are not known.

    A rule has changed if it admits another number of calls, or counts other tools.
    """
    if "limits" not in before:
        return None
    old, new = _rules(before), _rules(after)
    changes = [_change(old[name], new[name]) for name in sorted(old.keys() & new.keys())]
    return {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": [change for change in changes if len(change) > 1],
    }


def _rules(plan: Plan) -> dict[str, Plan]:
    return {rule["name"]: rule for rule in (plan["limits"] or {}).get("rules", ())}


def _change(old: Plan, new: Plan) -> Plan:
    change: Plan = {"name": new["name"]}
    amounts = {name: [old[name], new[name]] for name in _AMOUNTS if old[name] != new[name]}
    if amounts:
        change["amounts"] = amounts
    if old["everyRequest"] != new["everyRequest"]:
        change["everyRequest"] = [old["everyRequest"], new["everyRequest"]]
    tools = {
        "added": [name for name in new["tools"] if name not in {*old["tools"]}],
        "removed": [name for name in old["tools"] if name not in {*new["tools"]}],
    }
    if any(tools.values()):
        change["tools"] = tools
    return change


def is_limits(value: Any) -> bool:
    """Return True for the limits of an earlier plan, or for none."""
    if value is None:
        return True
    rules = value.get("rules") if isinstance(value, dict) else None
    return isinstance(rules, list) and all(map(_is_rule, rules))


def _is_rule(rule: Any) -> bool:
    members = (*_AMOUNTS, "everyRequest")
    if not isinstance(rule, dict) or not all(member in rule for member in members):
        return False
    tools = rule.get("tools")
    is_named = isinstance(rule.get("name"), str) and isinstance(tools, list)
    return is_named and all(isinstance(tool, str) for tool in tools or ())


def render_limits(plan: Plan) -> Iterator[str]:
    """Yield the rules, and the matrix of tools and rules."""
    limits = plan.get("limits")
    if not limits:
        return
    yield ""
    yield f"limits (x: counted, -: not counted; {_COUNTED[limits['counted']]})"
    rules = limits["rules"]
    for number, rule in enumerate(rules, 1):
        yield f"  {number}: {rule['name']}: {_describe(rule)}"
    numbers = (str(number) for number in range(1, len(rules) + 1))
    rows: list[Sequence[str]] = [("", *numbers)]
    for tool in plan[TOOLS.member]:
        if tool["served"]:
            marks = ("x" if tool["name"] in rule["tools"] else "-" for rule in rules)
            rows.append((f"{TOOLS.member}: {tool['name']}", *marks))
    if len(rows) > 1:
        yield from table_lines(rows)
    for name in limits["unusedRules"]:
        yield f"  warning: {name} covers no tool of this catalog; correct its tools or remove it"


def _describe(rule: Plan) -> str:
    """Return how much a rule admits of what, such as `60 calls in 1m for each principal`."""
    amounts = []
    if rule["calls"] is not None:
        burst = "" if rule["burst"] is None else f" with bursts of {rule['burst']}"
        amounts.append(f"{rule['calls']} calls in {rule['window']}{burst}")
    if rule["inFlight"] is not None:
        amounts.append(f"{rule['inFlight']} calls at a time")
    what = "every request" if rule["everyRequest"] else f"{len(rule['tools'])} tools"
    backends = ", ".join(rule["backends"]) or "no backend"
    return f"{' and '.join(amounts)} {_WHOSE[rule['per']]}, {what} to {backends}"


def render_limit_differences(plan: Plan) -> Iterator[str]:
    """Yield the rules that differ from those before."""
    if "limitDifferences" not in plan:
        return
    differences = plan["limitDifferences"]
    if differences is None:
        if plan["limits"]:
            yield ""
            yield "limits that are served now: unknown; compare with mcpproxy/NAME or a plan"
        return
    if not any(differences.values()):
        return
    yield ""
    yield "difference of limits (+ added, - removed, ~ changed)"
    for sort, sign in _SIGNS.items():
        for name in differences[sort]:
            yield f"  {sign} {escape_control_characters(name)}"
    for change in differences["changed"]:
        facts = "; ".join(_facts(change))
        yield escape_control_characters(f"  ~ {change['name']}: {facts}")


def _facts(change: Plan) -> Iterator[str]:
    for name, (old, new) in change.get("amounts", {}).items():
        yield f"{name} {_value(old)} -> {_value(new)}"
    if "everyRequest" in change:
        yield "counts every request" if change["everyRequest"][1] else "counts only tools"
    for sort, sign in _SIGNS.items():
        names = change.get("tools", {}).get(sort, ())
        if names:
            yield f"{sign}{len(names)} tools: {', '.join(names)}"


def _value(value: object) -> str:
    return "none" if value is None else str(value)
