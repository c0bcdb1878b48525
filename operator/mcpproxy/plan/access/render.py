"""Access as text for the terminal. Pure."""

from collections.abc import Iterator
from typing import Any, Final

from mcpproxy.plan.access.permissions import CONDITIONAL, SCOPES
from mcpproxy.plan.access.replay import describe_principal
from mcpproxy.plan.document import Plan
from mcpproxy.plan.terminal_text import escape_control_characters, table_lines
from mcpproxy.proxy.protocol.kinds import KINDS

_LEGEND: Final = "x: may use, c: if a condition is met, s: with more scopes, -: not visible"


def render_access(plan: Plan) -> Iterator[str]:
    """Yield the matrix of callers and components."""
    access = plan.get("access")
    if not access:
        return
    callers = access["callers"]
    yield ""
    external = "; spec.authorization.external decides on each call" if access["external"] else ""
    yield f"access ({_LEGEND}{external})"
    for number, caller in enumerate(callers, 1):
        rules = ", ".join(caller["rules"]) or "none"
        yield f"  {number}: {escape_control_characters(caller['caller'])} (rules: {rules})"
    head = ("", *(str(number) for number in range(1, len(callers) + 1)))
    rows: list[tuple[Any, ...]] = [head]
    for kind in KINDS:
        for entry in plan[kind.member]:
            if entry["served"]:
                marks = (_mark(caller[kind.member], entry["name"]) for caller in callers)
                rows.append((f"{kind.member}: {entry['name']}", *marks))
    yield from table_lines(rows)
    for entry in access["unusedRules"]:
        yield f"  warning: {entry} covers nothing of this catalog; correct it or remove it"


def _mark(components: Plan, name: str) -> str:
    if name in components.get(CONDITIONAL, ()):
        return "c"
    if name in components["names"]:
        return "x"
    return "s" if name in components.get(SCOPES, ()) else "-"


def render_access_differences(differences: list[Plan]) -> Iterator[str]:
    """Yield the differences for each caller, such as `+3 tools for group dev`."""
    if differences:
        yield ""
        yield "difference for callers"
    for caller in differences:
        label = escape_control_characters(caller["caller"])
        for kind in KINDS:
            change = caller.get(kind.member, {})
            for sign, sort in (("+", "added"), ("-", "removed")):
                names = change.get(sort, ())
                if names:
                    listed = escape_control_characters(", ".join(names))
                    yield f"  {sign}{len(names)} {kind.member} for {label}: {listed}"


_SIGNS: Final = {"denied": "-", "allowed": "+", "unknown": "?"}


def render_replay(plan: Plan) -> Iterator[str]:
    """Yield the recorded calls that the rules of the manifest decide otherwise."""
    replay = plan.get("replay")
    if replay is None:
        return
    changed = replay["denied"] + replay["allowed"] + replay["unknown"]
    yield ""
    yield "replay (- denied, + newly allowed, ? undecided)"
    yield (
        f"  {replay['calls']} calls: {replay['calls'] - changed} as recorded,"
        f" {replay['denied']} denied, {replay['allowed']} newly allowed,"
        f" {replay['unknown']} undecided"
    )
    for change in replay["changes"]:
        caller = describe_principal(change["principal"])
        subject = f"{change['method']} {change['name']}".rstrip()
        reason = f": {change['reason']}" if change["reason"] else ""
        yield "  " + escape_control_characters(
            f"{_SIGNS[change['change']]} {change['calls']} x {subject} by {caller}{reason}"
            f" (line {change['firstLine']})"
        )
    if replay["changesOmitted"]:
        yield f"  {replay['changesOmitted']} further changes are not listed"
    for bad in replay["badLines"]:
        yield escape_control_characters(f"  error: line {bad['line']}: {bad['reason']}")
    if more := replay["badLineCount"] - len(replay["badLines"]):
        yield f"  error: {more} further lines cannot be read"
