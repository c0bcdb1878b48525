"""The plan for people. Pure. What backends wrote can't steer the terminal it is shown on."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import yaml

from mcpproxy.limits.backends import FINDING_TEXT
from mcpproxy.plan.document import BYTES_PER_TOKEN, Plan, differ
from mcpproxy.proxy.core.translation.namespacing import MAX_NAME
from mcpproxy.proxy.protocol.kinds import KINDS

TITLES: Final = {
    "tools": "tools",
    "prompts": "prompts",
    "resources": "resources",
    "resourceTemplates": "templates",
}
_HEAD: Final = ("backend", "state", "transport", "revision", "session", "mode", *TITLES.values())
_ORIGINS: Final = {"Backend": "its own", "Proxy": "spec.session", "Transport": "default"}
"""Where the session mode of a backend comes from."""
_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}


def escape_control_characters(text: Any) -> str:
    """A text on one line, without what a terminal would take for a command."""
    cut = str(text)
    cut = cut if len(cut) <= FINDING_TEXT.value else f"{cut[: FINDING_TEXT.value]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def render_plan(plan: Plan) -> str:
    """The plan of one proxy."""
    lines = [_title(plan), "", *_backends(plan)]
    for kind in KINDS:
        lines += _list(plan, kind.member)
    lines += _wrong(plan)
    lines += ["", f"catalogHash: {plan['catalogHash'] or 'not known, as a backend failed'}"]
    if plan["approval"] is not None:
        lines += _approval(plan)
    if plan.get("differences") is not None:
        lines += _differences(plan["differences"])
    return "\n".join(lines) + "\n"


def render_removed_plan(plan: Plan) -> str:
    """A proxy that would be there no more."""
    lines = [f"{_title(plan)} is gone", *_differences(plan["differences"])]
    return "\n".join(lines) + "\n"


def _title(plan: Plan) -> str:
    where = f"{plan['namespace']}/" if plan["namespace"] else ""
    return escape_control_characters(f"MCPProxy {where}{plan['name']}")


def _table(rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    texts = [[escape_control_characters(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        yield "  " + "  ".join(map(str.ljust, row, widths)).rstrip()


def _backends(plan: Plan) -> Iterator[str]:
    rows: list[Sequence[Any]] = [_HEAD]
    for found in plan["backends"]:
        counts = found.get("components", {})
        facts = (found.get(name, "-") for name in ("transport", "protocolVersion", "session"))
        rows.append(
            (
                found["name"],
                found["state"],
                *facts,
                _mode(found),
                *(counts.get(kind, "-") for kind in TITLES),
            )
        )
    yield from _table(rows)
    for found in plan["backends"]:
        if found["name"] in plan["failed"]:
            why = f"{found.get('reason', 'Unknown')}: {found.get('message', '')}"
            yield f"  {found['name']}: {escape_control_characters(why)}"


def _mode(found: Plan) -> str:
    """The session mode in force, and where it comes from."""
    origin = _ORIGINS.get(found.get("sessionModeFrom", ""))
    return f"{found['sessionMode']} ({origin})" if origin else "-"


def _list(plan: Plan, member: str) -> Iterator[str]:
    entries = plan[member]
    if not entries:
        yield from _not_known(plan, member)
        return
    served = sum(entry["served"] for entry in entries)
    estimate = f", about {plan['toolTokens']} tokens" if member == "tools" else ""
    yield ""
    yield f"{TITLES[member]} ({served}{estimate})"
    yield from _table([_row(entry, weighed=member == "tools") for entry in entries])
    if member == "tools":
        yield f"  (a token is taken to be {BYTES_PER_TOKEN} bytes of compact JSON)"


def _not_known(plan: Plan, member: str) -> Iterator[str]:
    """Say of an empty list that it is empty because backends have failed."""
    failures = plan.get("notKnown", {}).get(member, {})
    if failures:
        yield ""
        named = escape_control_characters(", ".join(failures))
        yield f"{TITLES[member]}: not known, since backends have failed: {named}"


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


def _wrong(plan: Plan) -> Iterator[str]:
    if plan["clashes"]:
        yield ""
        accepted = "; names.onClash accepts them" if plan["onClash"] == "First" else ""
        remedy = "give one of the backends another prefix, or rename or exclude one"
        yield f"clashes ({remedy}{accepted})"
    for found in plan["clashes"]:
        claims = ", ".join(found["backends"])
        server = found["servedBy"] or "none of them"
        name = escape_control_characters(found["name"])
        yield f"  {found['kind']}: {name} of {claims}: {server} serves it"
    if plan["tooLong"]:
        yield ""
        yield f"names over {MAX_NAME} characters (shorten the prefix, or rename or exclude them)"
    for found in plan["tooLong"]:
        name = escape_control_characters(found["name"])
        yield f"  {found['kind']}: {name} of {found['backend']} has {found['length']}"


def _approval(plan: Plan) -> Iterator[str]:
    found = plan["approval"]
    yield ""
    if found["matches"] is not False:
        yield "the catalog is the approved one" if found["matches"] else "approval: not known"
        return
    yield f"not what spec.catalog approves ({found['approvedHash']})"
    for sort in ("new", "changed", "gone"):
        for kind, names in found.get(sort, {}).items():
            for name in names:
                yield f"  {sort} {kind}: {escape_control_characters(name)}"
    if plan["catalogHash"] is not None:
        yield "to approve what is offered now, write"
        yield from _approved(plan, whole="new" in found)


def _approved(plan: Plan, *, whole: bool) -> Iterator[str]:
    """`spec.catalog`, ready to paste; `whole` has the digests of all components."""
    if not whole:
        content: dict[str, Any] = {"approvedHash": plan["catalogHash"]}
    else:
        content = {"approved": plan["approved"]}
    if plan["approval"]["onDrift"] != "Report":
        content["onDrift"] = plan["approval"]["onDrift"]
    # YAML escapes what does not print.
    for line in yaml.safe_dump({"catalog": content}, width=10_000).splitlines():
        yield f"  {line}"


def _differences(different: Plan) -> Iterator[str]:
    yield ""
    if not differ(different):
        yield "no difference to what is served now"
        return
    yield "difference to what is served now (+ added, - removed, ~ changed)"
    for kind in KINDS:
        for change, sign in _SIGNS.items():
            for name in different[kind.member][change]:
                yield f"  {sign} {kind.member}: {escape_control_characters(name)}"
