"""Merge of the capabilities that the backends declare."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

UNKNOWN: Final[Mapping[str, Any]] = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
    "completions": {},
    "logging": {},
}
"""Assumed capabilities of a backend that was never reached.

A backend may become reachable at any time. Clients then get list change notifications.
"""


def merge_capabilities(offers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the union of several servers' capabilities.

    `listChanged` is always true for lists, because backends come and go.
    """
    union: dict[str, Any] = {}
    for offer in offers:
        union = _union(union, offer)
    for name in ("tools", "prompts", "resources"):
        if isinstance(union.get(name), Mapping):
            union[name] = {**union[name], "listChanged": True}
    return union


def _union(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    union = dict(left)
    for name, offered in right.items():
        present = union.get(name)
        if isinstance(present, Mapping) and isinstance(offered, Mapping):
            union[name] = _union(present, offered)
        elif isinstance(present, bool) and isinstance(offered, bool):
            union[name] = present or offered
        elif present is None:
            union[name] = offered
    return union


def merge_instructions(texts: Iterable[tuple[str, str]]) -> str | None:
    """Return one text from the instructions of several servers, as pairs of (prefix, text)."""
    present = [(prefix, text) for prefix, text in texts if text]
    if not present:
        return None
    if len(present) == 1:
        return present[0][1]
    return "\n\n".join(f"## {prefix}\n\n{text}" if prefix else text for prefix, text in present)
