"""The operator's page as HTML. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mcpproxy.controller.page.proxies import BackendRow, ProxyRow
from mcpproxy.pages import document
from mcpproxy.pages.document import PREFIX, Pages, badge, facts
from mcpproxy.pages.html import Html, join, tag, untrusted

PAGE_SIZE: Final = 50
"""MCPProxies in one part of the list."""
POLL: Final = 15_000
"""Milliseconds between two updates of an open page."""
RELOAD: Final = 60
"""Seconds between two loads of the page in a browser without script."""
_LIST: Final = "proxies"
_OUTDATED: Final = (
    "The operator's watch is behind, or has not delivered all objects yet; states may be outdated."
)


@dataclass(frozen=True, slots=True)
class Operator:
    """The process that the page is about."""

    version: str
    namespaces: tuple[str, ...]
    """Namespaces that it serves; empty for all."""
    is_fresh: bool


@dataclass(frozen=True, slots=True)
class ProxiesRequest:
    """Request for a part of the list of MCPProxies."""

    text: str = ""
    """Text in the name, the namespace, or the reason of Ready, in any case."""
    offset: int = 0


def page(rows: Sequence[ProxyRow], operator: Operator, wanted: ProxiesRequest) -> Html:
    """Return the whole page."""
    return document.document(
        "MCPProxies – operator",
        tag("h1", "MCPProxies"),
        tag("div", overview(rows, operator), data_refresh=f"{PREFIX}overview", data_every=POLL),
        tag("h2", "All MCPProxies"),
        document.filter_box("Filter by name, namespace or reason", _LIST),
        proxies(rows, wanted),
        refresh=RELOAD,
    )


def overview(rows: Sequence[ProxyRow], operator: Operator) -> Html:
    """Return the part of the page that counts all MCPProxies."""
    counts = Counter(row.ready for row in rows)
    states = [
        badge(status, f"Ready {status}: {counts[status]:,}")
        for status in ("False", "Unknown", "True")
        if counts[status]
    ]
    pairs = (
        ("MCPProxies", f"{len(rows):,}"),
        ("Namespaces", ", ".join(operator.namespaces) or "all"),
        ("Version of the operator", operator.version),
    )
    note = None if operator.is_fresh else tag("p", _OUTDATED, class_="note")
    return document.live("operator", tag("p", *spaced(states)), note, facts(pairs))


def spaced(parts: Sequence[Html]) -> list[Html]:
    """Return parts with spaces between them."""
    return [join((part, " ")) for part in parts]


def proxies(rows: Sequence[ProxyRow], wanted: ProxiesRequest) -> Html:
    """Return a part of the list of MCPProxies."""
    needle = wanted.text.casefold()
    matches = [row for row in rows if needle in _searched(row)]
    shown = matches[wanted.offset : wanted.offset + PAGE_SIZE]
    noun = "MCPProxy" if len(matches) == 1 else "MCPProxies"
    result = f"{len(matches):,} {noun}"
    if wanted.text:
        result += f" with “{wanted.text}”"
    return tag(
        "section",
        tag("p", untrusted(result), class_="note", data_result=True),
        *map(_proxy, shown),
        document.pager(wanted.offset, PAGE_SIZE, len(matches), Pages(_LIST, text=wanted.text)),
        id=_LIST,
        aria_label="MCPProxies",
        data_source=f"{PREFIX}proxies",
        data_fields="",
        data_reloads=True,
    )


def _searched(row: ProxyRow) -> str:
    return f"{row.namespace}/{row.name} {row.reason}".casefold()


def _proxy(row: ProxyRow) -> Html:
    name = f"{row.namespace}/{row.name}"
    pairs = (
        ("Status", row.summary or None),
        ("Backends", row.backends_healthy or None),
        ("Tools", None if row.tools is None else f"{row.tools:,}"),
        ("Pods", row.pods or None),
        ("URL", tag("code", untrusted(row.url)) if row.url else None),
    )
    heading = tag(
        "h3",
        tag("span", untrusted(name), class_="name"),
        badge(row.ready, f"Ready: {row.ready}"),
        untrusted(row.reason),
    )
    return tag(
        "article",
        heading,
        document.message(row.message),
        facts(pairs),
        _conditions(row),
        _backends(row),
        class_="card",
        data_name=name,
        data_state=f"Ready {row.ready}, {row.reason}",
    )


def _conditions(row: ProxyRow) -> Html | None:
    if not row.others:
        return None
    items = (tag("li", f"{kind}: {status}, {reason}") for kind, status, reason in row.others)
    summary = tag("summary", "Other conditions")
    return tag("details", summary, tag("ul", *items), id=f"conditions-{row.namespace}-{row.name}")


def _backends(row: ProxyRow) -> Html | None:
    if not row.backends:
        return None
    summary = tag("summary", f"Backends of {row.name}")
    items = (tag("li", *_backend(backend)) for backend in row.backends)
    open_page = tag("code", f"mcpproxy open mcpproxy/{row.name} -n {row.namespace}")
    hint = tag("p", "Details, as one pod sees them: ", open_page, class_="note")
    return tag(
        "details", summary, tag("ul", *items), hint, id=f"backends-{row.namespace}-{row.name}"
    )


def _backend(backend: BackendRow) -> tuple[Html | str | None, ...]:
    reason = f" {backend.reason}" if backend.reason else ""
    return (
        tag("span", untrusted(backend.name), class_="name"),
        " ",
        badge(backend.state),
        untrusted(reason),
        document.message(backend.message),
    )
