"""Parts that all pages have in common: the frame, states, facts, snippets and pages of lists."""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Final
from urllib.parse import urlencode

from mcpproxy.client_snippets import SHELL, client_snippets
from mcpproxy.pages.html import Child, Html, join, tag, untrusted

FILES: Final = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Files of pages and their media types."""
PREFIX: Final = "page/"
"""Path of the files and parts of a page, relative to the page."""
_GOOD: Final = frozenset({"Healthy", "True", "ok", "Serving"})
_BAD: Final = frozenset({"Unhealthy", "Unauthorized", "False", "Failing", "Stalled"})


@cache
def read_file(name: str) -> bytes:
    """Return the content of one of `FILES`."""
    return (files("mcpproxy.pages") / "static" / name).read_bytes()


@cache
def read_reasons() -> bytes:
    """Return the explanations of reasons, as JSON: paragraphs by reason."""
    return (files("mcpproxy.pages") / "static" / "reasons.json").read_bytes()


def document(title: str, *content: Child, refresh: int | None = None, base: str = "") -> Html:
    """Return a whole page.

    Without script, a browser loads the page again every `refresh` seconds. `base` is the relative
    path of the main page.
    """
    files_at = f"{base}{PREFIX}"
    reload = None
    if refresh is not None:
        reload = tag("noscript", tag("meta", http_equiv="refresh", content=str(refresh)))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        reload,
        tag("title", title),
        tag("link", rel="icon", href=f"{files_at}icon.svg"),
        tag("link", rel="stylesheet", href=f"{files_at}page.css"),
        tag("script", src=f"{files_at}page.js", defer=True),
    )
    skip = tag("a", "Skip to the content", href="#content", class_="skip")
    announcements = tag("p", id="announcements", role="status", class_="unseen")
    main = tag("main", *content, id="content", tabindex=-1)
    body = tag("body", skip, announcements, main)
    return Html("<!doctype html>" + tag("html", head, body, lang="en"))


def badge(state: str, text: str | None = None) -> Html:
    """Return a state as a word with a color; the word alone is enough to understand it."""
    level = "good" if state in _GOOD else "bad" if state in _BAD else "fair"
    return tag("span", text or state, class_=f"badge {level}")


def facts(pairs: Iterable[tuple[str, Child]]) -> Html:
    """Return a list of names and values; values that are None are left out."""
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", value))
            for name, value in pairs
            if value is not None
        ),
    )


def table(caption: str, columns: Iterable[str], rows: Iterable[Html], **attributes: str) -> Html:
    """Return a table that scrolls if the window is narrow; the caption names it."""
    heads = tag("tr", *(tag("th", column, scope="col") for column in columns))
    content = tag(
        "table", tag("caption", caption), tag("thead", heads), tag("tbody", *rows), **attributes
    )
    return tag("div", content, class_="scroll", tabindex=0, role="region", aria_label=caption)


def live(name: str, *content: Child) -> Html:
    """Return a part of a page that the script replaces when it changes."""
    return tag("div", *content, id=f"live-{name}", data_live=True)


def snippets(name: str, url: str) -> Html:
    """Return the texts that add the endpoint to clients."""
    return join(
        tag(
            "details",
            tag("summary", snippet.client),
            tag("p", "Run in a shell:" if snippet.place == SHELL else f"In {snippet.place}:"),
            tag("pre", snippet.text, tabindex=0),
            id=f"snippet-{snippet.client.lower().replace(' ', '-')}",
        )
        for snippet in client_snippets(name, url)
    )


def query(path: str, **fields: str | int) -> str:
    """Return a relative URL; fields that are empty or 0 are left out."""
    encoded = urlencode({name: value for name, value in fields.items() if value})
    return f"{path}?{encoded}" if encoded else path


def filter_box(label: str, target: str) -> Html:
    """Return a box whose text filters the part `target`; the script shows it."""
    box = tag(
        "input",
        type="search",
        id=f"filter-{target}",
        data_filters=target,
        autocomplete="off",
        spellcheck="false",
        maxlength=200,
    )
    return tag("p", tag("label", label, for_=f"filter-{target}"), box, hidden=True, class_="filter")


def pager(offset: int, size: int, total: int, url_of: "Pages") -> Html | None:
    """Return links to the other parts of a list; None if all entries are shown."""
    if total <= size and not offset:
        return None
    before, after = max(offset - size, 0), offset + size
    links = []
    if offset:
        links.append(tag("a", "Previous", href=url_of(before), data_load=True, rel="prev"))
    links.append(tag("span", f"{offset + 1:,} to {min(after, total):,} of {total:,}"))
    if after < total:
        links.append(tag("a", "Next", href=url_of(after), data_load=True, rel="next"))
    return tag("nav", *links, aria_label="Parts of the list", class_="pager")


class Pages:
    """URLs of the parts of a list."""

    def __init__(self, part: str, **fields: str | int) -> None:
        """`part` is the id of the list on the page; `fields` are those of each URL."""
        self._part = part
        self._fields = fields

    def __call__(self, offset: int) -> str:
        """Return the URL of the part that begins at `offset`."""
        return f"{query('./', **self._fields, offset=offset)}#{self._part}"


def message(text: str | None) -> Html | None:
    """Return the message of a state, if there is one."""
    return None if not text else tag("p", untrusted(text), class_="message")
