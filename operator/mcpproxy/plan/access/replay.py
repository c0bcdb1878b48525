"""Recorded calls under the rules of a manifest: which ones it would deny, or newly allow."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import msgspec

from mcpproxy.api.v1alpha1 import MCPProxySpec
from mcpproxy.plan.access.recorded_calls import (
    BadLine,
    NumberedCall,
    RecordedCall,
    RecordedPrincipal,
)
from mcpproxy.plan.document import Plan
from mcpproxy.proxy.authorization.conditions import describe_tool
from mcpproxy.proxy.authorization.policy import AccessClass, Policy
from mcpproxy.proxy.core.access import Verdict
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.core.translation.request_names import COMPLETE, ROUTED
from mcpproxy.proxy.protocol.kinds import (
    PROMPTS,
    RESOURCES,
    TASKS,
    TEMPLATES,
    TOOLS,
    ComponentKind,
)

MOST_CHANGES: Final = 1000
"""Maximum number of changes that are listed; further ones are counted."""
MOST_BAD_LINES: Final = 20
"""Maximum number of malformed lines that are listed; further ones are counted."""
_REDACTED: Final = "[redacted]"
_CHANGES: Final = ("denied", "allowed", "unknown")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

Decision = Literal["allowed", "denied", "unknown"]


class Judgement(NamedTuple):
    """The decision of the new rules on a call, and its reason."""

    decision: Decision
    reason: str = ""


class CallJudge:
    """Decides recorded calls by the rules of a manifest."""

    def __init__(self, spec: MCPProxySpec, catalog: Catalog) -> None:
        self._spec = spec
        self._catalog = catalog
        authorization = spec.authorization
        self._policy = None if authorization is None else Policy(authorization, catalog)
        self._backends = {backend.name for backend in spec.backends}

    def judge(self, call: RecordedCall) -> Judgement:
        """Return the decision on a call."""
        identity: Identity = ANONYMOUS
        if self._spec.authentication is not None:
            identity = call.principal.identity()
            if (refusal := self._refuse(identity)) is not None:
                return Judgement("denied", refusal)
        kind = self._kind(call)
        backend = call.backend or self._owner(kind, call.name)
        if backend not in self._backends:
            reason = f"the manifest has no backend {backend}" if backend else "no backend lists it"
            return Judgement("denied", reason)
        if self._policy is None:
            return Judgement("allowed")
        access = self._policy.access_class(identity)
        judgement = self._decide(access, kind, backend, call)
        if judgement.decision == "denied" and call.principal.incomplete:
            return Judgement("unknown", "the record omits groups or scopes of the caller")
        return judgement

    def _refuse(self, identity: Identity) -> str | None:
        """Return the reason for which the caller would not be authenticated, or None."""
        spec = self._spec.authentication
        assert spec is not None
        match identity.method:
            case "jwt":
                known = any(entry.issuer == identity.issuer for entry in spec.jwt or ())
                return None if known else "spec.authentication.jwt does not name the issuer"
            case "serviceAccount":
                known = spec.service_accounts is not None
                return None if known else "spec.authentication has no serviceAccounts"
            case "apiKey":
                known = any(entry.name == identity.api_key for entry in spec.api_keys or ())
                return None if known else "spec.authentication.apiKeys does not name the key"
        return None if spec.mode == "Optional" else "spec.authentication requires credentials"

    def _kind(self, call: RecordedCall) -> ComponentKind | None:
        if call.method != COMPLETE:
            return ROUTED[call.method][1] if call.method in ROUTED else None
        if self._owner(PROMPTS, call.name) or not _URI.match(call.name):
            return PROMPTS
        is_template = "{" in call.name or self._owner(TEMPLATES, call.name)
        return TEMPLATES if is_template else RESOURCES

    def _owner(self, kind: ComponentKind | None, name: str) -> str:
        if kind is None or kind is TASKS:
            return next(iter(self._backends)) if len(self._backends) == 1 else ""
        return self._catalog.owner(kind, name) or ""

    def _decide(
        self, access: AccessClass, kind: ComponentKind | None, backend: str, call: RecordedCall
    ) -> Judgement:
        if kind is None:
            whole = access.has_whole(backend)
            return Judgement("allowed") if whole else Judgement("denied", "no rule allows it")
        if kind is TASKS:
            uses = access.uses_tools(backend)
            return Judgement("allowed") if uses else Judgement("denied", "no rule allows it")
        verdict = access.judge(kind, backend, call.name)
        if verdict.allowed:
            return Judgement("allowed", f"rule {verdict.rule}" if verdict.rule else "")
        if verdict.conditions:
            return self._try_conditions(verdict, kind, backend, call)
        if verdict.scopes:
            return Judgement("denied", f"needs the scopes {' '.join(verdict.scopes)}")
        return Judgement("denied", "no rule allows it")

    def _try_conditions(
        self, verdict: Verdict, kind: ComponentKind, backend: str, call: RecordedCall
    ) -> Judgement:
        arguments = _arguments(kind, call)
        pairs = zip(verdict.rules, verdict.conditions, strict=True)
        readable = [(rule, condition) for rule, condition in pairs if not condition.reads_claims]
        if arguments is not None:
            tool: dict[str, Any] = {}
            if kind is TOOLS:
                item = self._catalog.find(backend, TOOLS, call.name)
                tool = describe_tool(item, backend, call.name)
            for rule, condition in readable:
                if condition.holds(arguments, {}, tool):
                    return Judgement("allowed", f"the condition of rule {rule}")
            if len(readable) == len(verdict.conditions):
                return Judgement("denied", "no condition is met")
            return Judgement("unknown", "a condition depends on claims, which are not recorded")
        return Judgement("unknown", "a condition depends on arguments that are not recorded")


def _arguments(kind: ComponentKind, call: RecordedCall) -> dict[str, Any] | None:
    """Return the variable `args` of conditions, or None if the record lacks it."""
    if kind is RESOURCES:
        return {"uri": call.name}
    if call.method == COMPLETE:
        return {}
    arguments = call.arguments
    if arguments is None or _REDACTED in str(arguments):
        return None
    return arguments


@dataclass
class ReplaySummary:
    """Result of a replay."""

    calls: int = 0
    of_others: int = 0
    """Calls of other proxies in the same log."""
    decisions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_CHANGES, 0))
    changes: dict[tuple[Any, ...], list[int]] = field(default_factory=dict)
    """Number of calls, and first line, of each change by what it has in common."""
    omitted: int = 0
    bad: list[BadLine] = field(default_factory=list)
    bad_count: int = 0

    def add_bad_line(self, line: BadLine) -> None:
        """Add a malformed line."""
        self.bad_count += 1
        if len(self.bad) < MOST_BAD_LINES:
            self.bad.append(line)

    def add_change(self, change: str, number: int, call: RecordedCall, reason: str) -> None:
        """Add a call that the new rules decide otherwise, or cannot decide."""
        self.decisions[change] += 1
        key = (change, call.principal, call.method, call.name, call.backend, reason)
        known = self.changes.get(key)
        if known is not None:
            known[0] += 1
        elif len(self.changes) < MOST_CHANGES:
            self.changes[key] = [1, number]
        else:
            self.omitted += 1

    def to_document(self) -> Plan:
        """Return the replay as a part of a plan."""
        return {
            "calls": self.calls,
            "ofOtherProxies": self.of_others,
            **self.decisions,
            "changes": [_change(key, *counts) for key, counts in self.changes.items()],
            "changesOmitted": self.omitted,
            "badLines": [{"line": bad.number, "reason": bad.reason} for bad in self.bad],
            "badLineCount": self.bad_count,
        }


def _change(key: tuple[Any, ...], calls: int, line: int) -> Plan:
    change, principal, method, name, backend, reason = key
    return {
        "change": change,
        "principal": msgspec.json.decode(msgspec.json.encode(principal)),
        "method": method,
        "name": name,
        "backend": backend,
        "reason": reason,
        "calls": calls,
        "firstLine": line,
    }


def replay_calls(proxy: str, judge: CallJudge, calls: Iterable[NumberedCall | BadLine]) -> Plan:
    """Return the part of a plan about recorded calls of the proxy with this name."""
    summary = ReplaySummary()
    for line in calls:
        if isinstance(line, BadLine):
            summary.add_bad_line(line)
        elif line.proxy != proxy:
            summary.of_others += 1
        else:
            summary.calls += 1
            judgement = judge.judge(line.call)
            if judgement.decision != line.call.decision:
                summary.add_change(judgement.decision, line.number, line.call, judgement.reason)
    return summary.to_document()


def describe_principal(principal: Plan) -> str:
    """Return the words for the caller of a change."""
    caller = msgspec.convert(principal, RecordedPrincipal)
    if caller.method == "anonymous":
        return "anonymous callers"
    subject = caller.service_account or caller.api_key or caller.subject
    groups = f", groups {' '.join(caller.groups)}" if caller.groups else ""
    issuer = f" of {caller.issuer}" if caller.method == "jwt" and caller.issuer else ""
    return f"{caller.method} {subject}{issuer}{groups}"
