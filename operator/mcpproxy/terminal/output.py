"""Text for the terminal. What servers send can't control the terminal."""

import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Final

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.terminal.arguments import describe_arguments

SUMMARY: Final = 100
"""Maximum length of the summary of a description."""
MAX_LINE: Final = 10_000
"""Maximum length of a line of a text that a server sends."""


def write(text: str) -> None:
    """Write a text to standard output."""
    sys.stdout.write(text)
    sys.stdout.flush()


def report(text: str) -> None:
    """Write one line to standard error, so that it does not mix with the output."""
    sys.stderr.write(f"{clean_text(text, MAX_LINE)}\n")
    sys.stderr.flush()


def to_json(content: Any) -> str:
    """Return a value as JSON for other programs, in ASCII."""
    return json.dumps(content, indent=2) + "\n"


def render_lists(server: str, lists: dict[str, Sequence[dict[str, Any]]]) -> str:
    """Return the lists of a server as text; each is one section."""
    lines = [clean_text(server, SUMMARY)]
    for title, items in lists.items():
        lines += ["", f"{title} ({len(items)})"]
        for item in items:
            lines += _item(item)
    return "\n".join(lines) + "\n"


def _item(item: dict[str, Any]) -> Iterable[str]:
    uri = item.get("uri") or item.get("uriTemplate")
    name = uri if isinstance(uri, str) else str(item.get("name"))
    yield f"  {clean_text(name, MAX_LINE)} {_arguments(item)}".rstrip()
    text = item.get("description") or item.get("title")
    if isinstance(text, str) and (summary := summarize(text)):
        yield f"      {summary}"


def _arguments(item: dict[str, Any]) -> str:
    if isinstance(item.get("inputSchema"), dict):
        return clean_text(describe_arguments(item["inputSchema"]), MAX_LINE)
    names = []
    for argument in item.get("arguments") or ():
        name = str(argument.get("name"))
        names.append(f"{name}=string" if argument.get("required") else f"[{name}=string]")
    return clean_text(" ".join(names), MAX_LINE)


def summarize(text: str) -> str:
    """Return the first sentence or line of a description, shortened to one line."""
    first = text.strip().split("\n", 1)[0]
    return textwrap.shorten(clean_text(first, 4 * SUMMARY), SUMMARY, placeholder=" …")


def render_text(text: str) -> str:
    """Return a text of a server with its line breaks, but without control characters."""
    return "\n".join(clean_text(line, MAX_LINE) for line in text.splitlines())
