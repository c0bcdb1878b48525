"""Server capabilities: what the proxy offers is what its backends offer together."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

UNKNOWN: Final[Mapping[str, Any]] = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
    "completions": {},
    "logging": {},
}
"""Assumed of a backend that was not reached yet: it may come any time, and then it is announced."""


def merge_capabilities(offers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The union of several servers' capabilities.

    Lists can always change, whatever their servers say: a backend comes and goes, and we notice.
    """
    union: dict[str, Any] = {}
    for offer in offers:
        union = _union(union, offer)
    for name in ("tools", "prompts", "resources"):
        if isinstance(union.get(name), Mapping):
            union[name] = {**union[name], "listChanged": True}
    return union


def _union(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(left)
    for name, offered in right.items():
        present = found.get(name)
        if isinstance(present, Mapping) and isinstance(offered, Mapping):
            found[name] = _union(present, offered)
        elif isinstance(present, bool) and isinstance(offered, bool):
            found[name] = present or offered
        elif present is None:
            found[name] = offered
    return found


def merge_instructions(texts: Iterable[tuple[str, str]]) -> str | None:
    """One text from the instructions of several servers, given as (prefix, text)."""
    given = [(prefix, text) for prefix, text in texts if text]
    if not given:
        return None
    if len(given) == 1:
        return given[0][1]
    return "\n\n".join(f"## {prefix}\n\n{text}" if prefix else text for prefix, text in given)
