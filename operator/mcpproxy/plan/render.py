"""The plan as text for the terminal. Pure. Text of backends cannot control the terminal."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import yaml

from mcpproxy.plan.access.call_limits import render_limit_differences, render_limits
from mcpproxy.plan.access.render import (
    render_access,
    render_access_differences,
    render_replay,
)
from mcpproxy.plan.document import Plan, differ
from mcpproxy.plan.terminal_text import escape_control_characters, table_lines
from mcpproxy.proxy.core.catalog.component_list import BYTES_PER_TOKEN
from mcpproxy.proxy.core.translation.namespacing import MAX_NAME
from mcpproxy.proxy.protocol.kinds import KINDS

TITLES: Final = {
    "tools": "tools",
    "prompts": "prompts",
    "resources": "resources",
    "resourceTemplates": "templates",
}
_HEAD: Final = ("backend", "state", "transport", "revision", "session", "mode", *TITLES.values())
_ORIGINS: Final = {"Backend": "backend", "Proxy": "spec.session", "Transport": "default"}
"""Names for the origins of a backend's session mode."""
_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}


def render_plan(plan: Plan) -> str:
    """Return the plan of one proxy as text."""
    lines = [_title(plan), "", *_backends(plan)]
    for kind in KINDS:
        lines += _list(plan, kind.member)
    lines += render_access(plan)
    lines += render_limits(plan)
    lines += _problems(plan)
    lines += ["", f"catalogHash: {plan['catalogHash'] or 'unknown, because a backend failed'}"]
    if plan["approval"] is not None:
        lines += _approval(plan)
    if plan.get("differences") is not None:
        lines += _differences(plan["differences"])
    lines += render_access_differences(plan.get("accessDifferences") or [])
    lines += render_limit_differences(plan)
    lines += render_replay(plan)
    return "\n".join(lines) + "\n"


def render_removed_plan(plan: Plan) -> str:
    """Return the text for a proxy that would no longer exist."""
    lines = [f"{_title(plan)} is removed", *_differences(plan["differences"])]
    return "\n".join(lines) + "\n"


def _title(plan: Plan) -> str:
    where = f"{plan['namespace']}/" if plan["namespace"] else ""
    return escape_control_characters(f"MCPProxy {where}{plan['name']}")


def _backends(plan: Plan) -> Iterator[str]:
    rows: list[Sequence[Any]] = [_HEAD]
    for backend in plan["backends"]:
        counts = backend.get("components", {})
        facts = (backend.get(name, "-") for name in ("transport", "protocolVersion", "session"))
        rows.append(
            (
                backend["name"],
                backend["state"],
                *facts,
                _mode(backend),
                *(counts.get(kind, "-") for kind in TITLES),
            )
        )
    yield from table_lines(rows)
    yield from (f"  {line}" for line in _failures(plan))
    for name, identity in sorted(plan.get("calledAs", {}).items()):
        yield f"  {name} is called {escape_control_characters(identity)}"


def failure_lines(plans: Iterable[Plan]) -> Iterator[str]:
    """Yield a line for each backend that failed."""
    for plan in plans:
        yield from (f"MCPProxy {plan['name']}: backend {line}" for line in _failures(plan))


def _failures(plan: Plan) -> Iterator[str]:
    for backend in plan["backends"]:
        if backend["name"] in plan["failed"]:
            cause = f"{backend.get('reason', 'Unknown')}: {backend.get('message', '')}"
            yield f"{backend['name']}: {escape_control_characters(cause)}"


def _mode(backend: Plan) -> str:
    """Return the session mode in effect and its origin."""
    origin = _ORIGINS.get(backend.get("sessionModeFrom", ""))
    return f"{backend['sessionMode']} ({origin})" if origin else "-"


def _list(plan: Plan, member: str) -> Iterator[str]:
    entries = plan[member]
    if not entries:
        yield from _not_known(plan, member)
        return
    served = sum(entry["served"] for entry in entries)
    estimate = f", about {plan['toolTokens']} tokens" if member == "tools" else ""
    yield ""
    yield f"{TITLES[member]} ({served}{estimate})"
    yield from table_lines([_row(entry, weighed=member == "tools") for entry in entries])
    if member == "tools":
        yield f"  (estimate: {BYTES_PER_TOKEN} bytes of compact JSON per token)"


def _not_known(plan: Plan, member: str) -> Iterator[str]:
    """Yield a note if a list is empty because backends have failed."""
    failures = plan.get("notKnown", {}).get(member, {})
    if failures:
        yield ""
        names = escape_control_characters(", ".join(failures))
        yield f"{TITLES[member]}: unknown, because backends failed: {names}"


def _row(entry: Plan, *, weighed: bool) -> Sequence[Any]:
    notes = []
    if weighed:
        notes.append(f"{entry['tokens']} tokens")
    if entry["renamed"]:
        notes.append("renamed")
    if entry["withheld"]:
        notes.append("withheld")
    elif not entry["served"]:
        notes.append("hidden")
    return entry["name"], f"{entry['backend']}: {entry['ownName']}", ", ".join(notes)


def _problems(plan: Plan) -> Iterator[str]:
    if plan["clashes"]:
        yield ""
        accepted = "; names.onClash accepts them" if plan["onClash"] == "First" else ""
        remedy = "change the prefix of one backend, or rename or exclude one component"
        yield f"clashes ({remedy}{accepted})"
    for problem in plan["clashes"]:
        claims = ", ".join(problem["backends"])
        server = problem["servedBy"] or "no backend"
        name = escape_control_characters(problem["name"])
        yield f"  {problem['kind']}: {name} of {claims}: served by {server}"
    if plan["tooLong"]:
        yield ""
        yield (
            f"names over {MAX_NAME} characters (shorten the prefix, or rename or exclude the"
            " component)"
        )
    for problem in plan["tooLong"]:
        name = escape_control_characters(problem["name"])
        yield f"  {problem['kind']}: {name} of {problem['backend']} has {problem['length']}"


def _approval(plan: Plan) -> Iterator[str]:
    approval = plan["approval"]
    yield ""
    if approval["matches"] is not False:
        yield "the catalog is approved" if approval["matches"] else "approval: unknown"
        return
    yield (
        f"the catalog differs from the one that spec.catalog approves ({approval['approvedHash']})"
    )
    for sort in ("new", "changed", "gone"):
        for kind, names in approval.get(sort, {}).items():
            for name in names:
                yield f"  {sort} {kind}: {escape_control_characters(name)}"
    if approval.get("written"):
        yield "the file now approves this catalog"
    elif plan["catalogHash"] is not None:
        yield "to approve this catalog, write"
        yield from _approved(plan, whole="new" in approval)


def _approved(plan: Plan, *, whole: bool) -> Iterator[str]:
    """Yield `spec.catalog`, ready to paste; `whole` includes the digests of all components."""
    if not whole:
        content: dict[str, Any] = {"approvedHash": plan["catalogHash"]}
    else:
        content = {"approved": plan["approved"]}
    if plan["approval"]["onDrift"] != "Report":
        content["onDrift"] = plan["approval"]["onDrift"]
    # YAML escapes nonprintable characters.
    for line in yaml.safe_dump({"catalog": content}, width=10_000).splitlines():
        yield f"  {line}"


def _differences(differences: Plan) -> Iterator[str]:
    yield ""
    if not differ(differences):
        yield "no differences"
        return
    yield "differences (+ added, - removed, ~ changed)"
    for kind in KINDS:
        for change, sign in _SIGNS.items():
            for name in differences[kind.member][change]:
                yield f"  {sign} {kind.member}: {escape_control_characters(name)}"
