"""The page of the admin port as HTML. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Final

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.pages import document
from mcpproxy.pages.document import PREFIX, Pages, badge, facts, query
from mcpproxy.pages.html import MAX_TEXT, Html, join, tag, untrusted, untrusted_lines
from mcpproxy.proxy.admin.page.data import (
    MAX_NAME,
    PAGE_SIZE,
    BackendView,
    ComponentPart,
    ComponentsRequest,
    ComponentView,
    Definition,
    DefinitionRequest,
    Overview,
)
from mcpproxy.proxy.telemetry.recent_calls import RecentCall

RELOAD: Final = 60
"""Seconds between two loads of the page in a browser without script."""
TITLES: Final = {
    "tools": "Tools",
    "prompts": "Prompts",
    "resources": "Resources",
    "resourceTemplates": "Resource templates",
}
_LIST: Final = "components"
_DIGEST: Final = 12
"""Shown characters of digests."""


@dataclass(frozen=True, slots=True)
class Process:
    """The process that a page is about."""

    host: str
    """Name of its machine or pod."""
    started_at: float
    """In seconds since the epoch."""
    now: float


def page(
    overview: Overview, process: Process, wanted: ComponentsRequest, part: ComponentPart
) -> Html:
    """Return the whole page."""
    name = f"{overview.namespace}/{overview.name}" if overview.namespace else overview.name
    title = f"{name or 'MCPProxy'} – MCPProxy"
    return document.document(
        title,
        tag("h1", "MCPProxy ", tag("span", untrusted(name), class_="name")),
        tag(
            "div",
            _parts(overview, process),
            data_refresh=f"{PREFIX}overview",
            data_follow=f"{PREFIX}watch",
        ),
        tag("h2", "Tools, prompts and resources"),
        document.filter_box("Filter by name or backend", _LIST),
        components(wanted, part),
        tag("h2", "Connect a client"),
        document.snippets(overview.name, overview.url),
        refresh=RELOAD,
    )


def overview(view: Overview, process: Process) -> Html:
    """Return the parts of the page that change."""
    return _parts(view, process)


def _parts(view: Overview, process: Process) -> Html:
    return join(
        (
            document.live("state", _state(view, process)),
            tag("h2", "Backends"),
            document.live("backends", *map(_backend, _by_need(view)), _clashes(view.clashes)),
            tag("h2", "Last calls"),
            document.live("calls", _calls(view.calls)),
        )
    )


def _by_need(view: Overview) -> list[BackendView]:
    """Return the backends in the order of their names; Healthy ones are last."""
    return sorted(view.backends, key=lambda backend: (backend.state == "Healthy", backend.name))


def _state(view: Overview, process: Process) -> Html:
    status = tag(
        "p",
        badge(view.ready, f"Ready: {view.ready}"),
        " ",
        tag("strong", view.reason),
        data_name="Ready",
        data_state=f"{view.ready}, {view.reason}",
    )
    about = f"worker processes of {process.host}" if view.workers else process.host
    rows = (
        ("Endpoint", tag("code", view.url)),
        ("Version", view.version),
        ("Running since", _moment(process.started_at)),
        ("Uptime", _duration(process.now - process.started_at)),
        ("Catalog", _digest(view.catalog_hash) or "unknown"),
        ("Configuration", _digest(view.config_hash)),
        ("Client sessions", str(view.sessions)),
        ("Open streams", str(view.streams)),
        ("Calls in flight", str(view.in_flight)),
        ("Parked calls", str(view.parked)),
    )
    note = (
        f"This page is about {about} alone. Other pods of the same MCPProxy have their own pages;"
        " its status covers all of them."
    )
    return join(
        (status, document.message(view.message), facts(rows), tag("p", note, class_="note"))
    )


def _backend(backend: BackendView) -> Html:
    counts = (f"{n} {TITLES.get(k, k).lower()}" for k, n in backend.components.items())
    rows = (
        ("Address", None if backend.address is None else untrusted(backend.address)),
        ("Transport", backend.transport),
        ("MCP revision", None if backend.revision is None else untrusted(backend.revision)),
        ("Server", None if backend.server is None else untrusted(backend.server)),
        ("Session mode", backend.session_mode),
        ("Components", ", ".join(counts) or None),
        ("Open sessions", str(backend.sessions)),
        ("Calls in flight", str(backend.in_flight)),
        ("Last check", _moment(backend.checked_at)),
        ("Last error", None if backend.last_failure is None else untrusted(backend.last_failure)),
    )
    heading = tag(
        "h3",
        tag("span", untrusted(backend.name), class_="name"),
        badge(backend.state),
        None if backend.reason is None else untrusted(backend.reason),
        None if backend.required else tag("span", "optional", class_="note"),
    )
    return tag(
        "article",
        heading,
        document.message(backend.message),
        _explanation(backend),
        facts(rows),
        class_="card",
        data_name=backend.name,
        data_state=", ".join(filter(None, (backend.state, backend.reason))),
    )


@cache
def _reasons() -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = json.loads(document.read_reasons())
    return reasons


def _explanation(backend: BackendView) -> Html | None:
    """Return the text of docs/troubleshooting.md about the reason of a backend's state."""
    paragraphs = _reasons().get(backend.reason or "")
    if paragraphs is None:
        return None
    summary = tag("summary", f"About {backend.reason}")
    texts = (tag("p", text, class_="text") for text in paragraphs)
    return tag("details", summary, *texts, id=f"reason-{backend.name}")


def _clashes(clashes: Iterable[str]) -> Html | None:
    items = [tag("li", untrusted(clash)) for clash in clashes]
    return join((tag("h3", "Name conflicts"), tag("ul", *items))) if items else None


def _calls(calls: list[RecentCall] | None) -> Html:
    if not calls:
        text = "This process does not keep calls." if calls is None else "There were no calls yet."
        return tag("p", text, class_="note")
    columns = ("time", "principal", "method", "name", "backend", "outcome", "durationMs", "traceId")
    return document.table("The last calls, without arguments", columns, map(_call, calls))


def _call(call: RecentCall) -> Html:
    cells = (
        _moment(call.time),
        tag("code", call.principal[:_DIGEST]) if call.principal else "",
        untrusted(call.method),
        untrusted(call.name),
        call.backend,
        badge(call.outcome),
        f"{call.seconds * 1000:.1f}",
        tag("code", call.trace_id) if call.trace_id else "",
    )
    return tag("tr", *(tag("td", cell) for cell in cells))


def components(wanted: ComponentsRequest, part: ComponentPart) -> Html:
    """Return a part of the list of components."""
    links = [
        tag(
            "a",
            f"{title} ({part.counts.get(kind, 0):,})",
            href=f"{query('./', kind=kind, text=wanted.text)}#{_LIST}",
            data_load=True,
            aria_current="true" if kind == wanted.kind else None,
        )
        for kind, title in TITLES.items()
    ]
    pages = Pages(_LIST, kind=wanted.kind, text=wanted.text)
    title = TITLES.get(wanted.kind, TITLES["tools"])
    result = f"{part.total:,} {title.lower()}"
    if wanted.text:
        result += f" whose name or backend contains “{wanted.text}”"
    result += f"; all that are served take about {part.tokens:,} tokens"
    return tag(
        "section",
        tag("nav", *links, aria_label="Kinds", class_="tabs"),
        tag("p", untrusted(result), class_="note", data_result=True),
        *(_component(wanted.kind, row) for row in part.rows),
        document.pager(wanted.offset, PAGE_SIZE, part.total, pages),
        id=_LIST,
        aria_label=title,
        data_source=f"{PREFIX}components",
        data_fields=query("", kind=wanted.kind).lstrip("?"),
    )


def _component(kind: str, row: ComponentView) -> Html:
    own = f"{row.own_name} of " if row.own_name != row.name else ""
    about = query("", kind=kind, backend=row.backend, name=row.name)
    details = tag(
        "details",
        tag("summary", "Definition"),
        tag("noscript", tag("a", "Show the definition", href=f"{PREFIX}component{about}")),
        data_details=f"{PREFIX}definition{about}",
    )
    if len(row.name) > MAX_NAME:
        details = tag("p", "The name is too long to show its definition.", class_="note")
    return tag(
        "article",
        tag("h3", tag("span", untrusted(row.name), class_="name"), *_marks(row)),
        tag("p", untrusted(f"{own}{row.backend}"), f", about {row.tokens:,} tokens", class_="note"),
        document.message(row.description),
        details,
        class_="card",
    )


def _marks(row: ComponentView) -> Iterable[Html]:
    if row.overridden:
        yield badge("Overridden")
    if row.withheld:
        yield badge("False", "Withheld: not approved")
    if row.hidden_by is not None:
        yield badge("False", f"Conflict: served by {row.hidden_by or 'no backend'}")


def definition(named: DefinitionRequest, content: Definition, *, whole: bool) -> Html:
    """Return the definition of a component, as a whole page or for its place in the list."""
    label = f"Definition of {clean_text(named.name, MAX_TEXT)}"
    text = untrusted_lines(content.text, content.whole_text)
    description = untrusted_lines(content.description, content.whole_description)
    parts = join(
        (
            tag("p", description, class_="text"),
            tag("pre", text, tabindex=0, role="region", aria_label=label),
        )
    )
    if not whole:
        return parts
    name = tag("h1", untrusted(named.name))
    back = tag("p", tag("a", "Back", href="../"))
    return document.document(named.name, name, back, parts, base="../")


def _moment(seconds: float | None) -> Html | None:
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(int(seconds), UTC)
    return tag("time", f"{moment:%Y-%m-%d %H:%M:%S} UTC", datetime=moment.isoformat())


def _duration(seconds: float) -> str:
    minutes = int(seconds) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def _digest(digest: str | None) -> Html | None:
    return tag("code", digest[:_DIGEST], title=digest) if digest else None
