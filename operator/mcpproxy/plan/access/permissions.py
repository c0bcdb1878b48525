"""The part of a plan about access: what each caller could use, and the differences. Pure."""

from collections.abc import Sequence
from typing import Any

from mcpproxy.api.v1alpha1 import MCPProxySpec
from mcpproxy.plan.access.callers import PlannedCaller, callers_of
from mcpproxy.plan.document import Plan
from mcpproxy.proxy.authorization.policy import AccessClass, Policy
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind

CONDITIONAL = "conditional"
SCOPES = "scopes"


def build_access(
    spec: MCPProxySpec, catalog: Catalog, plan: Plan, callers: Sequence[PlannedCaller] = ()
) -> Plan | None:
    """Return what callers could use of the components of a plan; None without authorization.

    Without `callers`, they are those whom the rules name.
    """
    if spec.authorization is None:
        return None
    policy = Policy(spec.authorization, catalog)
    chosen = callers or callers_of(spec)
    return {
        "callers": [_describe(caller, policy, plan) for caller in chosen],
        "unusedRules": policy.unused() if not plan["failed"] else [],
        "external": spec.authorization.external is not None,
    }


def _describe(caller: PlannedCaller, policy: Policy, plan: Plan) -> Plan:
    access = policy.access_class(caller.identity)
    described: dict[str, Any] = {
        "caller": caller.label,
        "rules": [rule.name for rule in access.rules],
    }
    for kind in KINDS:
        described[kind.member] = _components(kind, access, plan)
    return described


def _components(kind: ComponentKind, access: AccessClass, plan: Plan) -> Plan:
    """Return the names that a caller could list, and those that more scopes would allow."""
    names: list[str] = []
    conditional: list[str] = []
    scopes: dict[str, list[str]] = {}
    for entry in plan[kind.member]:
        if not entry["served"]:
            continue
        verdict = access.judge(kind, entry["backend"], entry["name"])
        if verdict.shown:
            names.append(entry["name"])
        if verdict.conditions and not verdict.allowed:
            conditional.append(entry["name"])
        if verdict.scopes and not verdict.shown:
            scopes[entry["name"]] = list(verdict.scopes)
    result: Plan = {"names": names}
    if conditional:
        result[CONDITIONAL] = conditional
    if scopes:
        result[SCOPES] = scopes
    return result


def access_differences(before: Plan | None, after: Plan) -> list[Plan]:
    """Return, by caller, the names that a caller gains and loses.

    Without authorization, every caller can list all that is served. A caller whom only one of the
    two plans names is compared with nobody's or everybody's part of the other.
    """
    if not (after.get("access") or (before or {}).get("access")):
        return []
    labels = dict.fromkeys(
        caller["caller"]
        for plan in (before or {}, after)
        for caller in (plan.get("access") or {}).get("callers", ())
    )
    results = []
    for label in labels:
        kinds = {}
        for kind in KINDS:
            old, new = _names(before, label, kind), _names(after, label, kind)
            change = {
                "added": [name for name in new if name not in {*old}],
                "removed": [name for name in old if name not in {*new}],
            }
            if any(change.values()):
                kinds[kind.member] = change
        if kinds:
            results.append({"caller": label, **kinds})
    return results


_OTHERS = ("any other caller", "anonymous")


def _names(plan: Plan | None, label: str, kind: ComponentKind) -> list[str]:
    if not plan:
        return []
    access = plan.get("access")
    if not access:
        return [entry["name"] for entry in plan[kind.member] if entry["served"]]
    callers = {caller["caller"]: caller for caller in access["callers"]}
    chosen = next((callers[name] for name in (label, *_OTHERS) if name in callers), None)
    return chosen[kind.member]["names"] if chosen else []
