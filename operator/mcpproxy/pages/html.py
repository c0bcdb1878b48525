"""HTML from typed parts. A text is always escaped; only `Html` is markup.

Names and descriptions of components come from backends, and are hostile until they are escaped.
"""

from collections.abc import Iterable
from html import escape
from typing import Final, TypeAlias

from mcpproxy.api.untrusted_text import clean_text

MAX_TEXT: Final = 1024
"""Characters of a name or message on a page."""
_VOID: Final = frozenset({"input", "link", "meta"})


class Html(str):
    """Markup, in which all texts are escaped."""

    __slots__ = ()


Child: TypeAlias = "Html | str | None"
Value: TypeAlias = "str | bool | int | None"


def tag(name: str, /, *children: Child, **attributes: Value) -> Html:
    """Return an element.

    Underscores in names of attributes stand for hyphens, except a last one. An attribute with the
    value True has no text, and one with False or None is left out.
    """
    parts = [f"<{name}", *_attributes(attributes), ">"]
    if name not in _VOID:
        parts += [_markup(child) for child in children if child is not None]
        parts.append(f"</{name}>")
    return Html("".join(parts))


def join(parts: Iterable[Child]) -> Html:
    """Return parts that follow each other; texts among them are escaped."""
    return Html("".join(_markup(part) for part in parts if part is not None))


def untrusted(text: str, limit: int = MAX_TEXT) -> Html:
    """Return a text of a backend or client as one line, cut and isolated.

    Control characters and those that reorder text are replaced, and letters that are written from
    right to left do not reorder their neighbors.
    """
    return tag("bdi", clean_text(text, limit))


def untrusted_lines(text: str, whole: int = 0) -> Html:
    """Return a text of a backend or client with its line breaks, for an element that shows them.

    `whole` is the number of characters of the text that `text` is the beginning of.
    """
    shown = "\n".join(clean_text(line, len(line)) for line in text.split("\n"))
    rest = whole - len(text)
    return tag("bdi", shown + (f"\n… {rest:,} more characters" if rest > 0 else ""))


def _markup(child: Html | str) -> str:
    return child if isinstance(child, Html) else escape(child)


def _attributes(attributes: dict[str, Value]) -> Iterable[str]:
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        written = name.removesuffix("_").replace("_", "-")
        yield f" {written}" if value is True else f' {written}="{escape(str(value))}"'
