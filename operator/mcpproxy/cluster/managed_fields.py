"""The fields of a live object that the operator applied: server-side apply's managedFields, read
backwards.

The comparison of these fields with the desired ones shows drift without a request. It ignores
fields of other managers, defaults and webhooks, so these never cause a write.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from kubernetes.utils.quantity import parse_quantity

from mcpproxy.api.kubernetes.objects import Object

_IDENTITY = ("apiVersion", "kind")
_QUANTITIES = ("limits", "requests")
_WHOLE: Final = frozenset({"."})
"""Selectors of a field that is owned as a whole."""
_SHORT: Final = 128
"""Length of the selectors that are kept: anybody who may apply a child can make long ones."""


def applied_fields(live: Object, manager: str, subresource: str = "") -> Object:
    """Return the fields of `live` that `manager` has applied, with their current values.

    The identity of the object (kind, name, namespace) is not included.
    """
    for entry in live["metadata"].get("managedFields") or []:
        if (
            entry["manager"] == manager
            and entry["operation"] == "Apply"
            and entry.get("subresource", "") == subresource
        ):
            taken: Object = _take(live, entry["fieldsV1"])
            return taken
    return {}


def intended_fields(manifest: Object) -> Object:
    """Return the fields that applying `manifest` would own, comparable with `applied_fields`."""
    kept = {key: value for key, value in manifest.items() if key not in _IDENTITY}
    metadata = {
        key: value
        for key, value in manifest["metadata"].items()
        if key not in ("name", "namespace", "uid")
    }
    return {**kept, "metadata": metadata} if metadata else _without(kept, "metadata")


def semantically_equal(want: Any, ours: Any, parent: str = "") -> bool:
    """Return True if two results have the same meaning: `0.5` CPU is `500m`.

    A field with a single owner as a whole may have more members in the desired result: the builders
    spell out the defaults of the API server there.
    """
    if isinstance(want, dict) and isinstance(ours, dict):
        if want.keys() != ours.keys():
            return False
        if parent in _QUANTITIES:
            return all(_same_quantity(want[key], ours[key]) for key in want)
        return all(semantically_equal(want[key], ours[key], key) for key in want)
    if isinstance(want, list) and isinstance(ours, list):
        return len(want) == len(ours) and _same_items(want, ours)
    return type(want) is type(ours) and bool(want == ours)


def _same_items(want: list[Any], ours: list[Any]) -> bool:
    if all(
        semantically_equal(wanted, own_item) for wanted, own_item in zip(want, ours, strict=True)
    ):
        return True
    # Objects in lists are matched by their keys, because the API server may reorder them.
    if not all(isinstance(item, dict) for item in (*want, *ours)):
        return False
    rest = list(ours)
    for wanted in want:
        matches = (
            index for index, own_item in enumerate(rest) if semantically_equal(wanted, own_item)
        )
        match = next(matches, None)
        if match is None:
            return False
        del rest[match]
    return True


def _same_quantity(left: Any, right: Any) -> bool:
    if left == right:
        return True
    try:
        return bool(parse_quantity(left) == parse_quantity(right))
    except ValueError:
        return False


def _without(fields: Object, name: str) -> Object:
    return {key: value for key, value in fields.items() if key != name}


def _take(value: Any, fields: Object) -> Any:
    if fields.keys() <= _WHOLE:
        return value
    if isinstance(value, dict):
        named = ((selector[2:], below) for selector, below in fields.items() if selector[:1] == "f")
        return {name: _take(value[name], below) for name, below in named if name in value}
    if isinstance(value, list):
        return list(_items(value, fields, [selector for selector in fields if selector != "."]))
    return value


def _items(values: list[Any], fields: Object, selectors: list[str]) -> Iterator[Any]:
    for value in values:
        for selector in selectors:
            read = _read_once if len(selector) <= _SHORT else _read_selector
            sort, chosen = read(selector)
            if sort == "v" and value == chosen:
                yield value
            elif sort == "k" and all(value.get(key) == chosen[key] for key in chosen):
                yield _take(value, fields[selector])


def _read_selector(selector: str) -> tuple[str, Any]:
    """Return the sort of a selector of list items, and the value or keys that it selects."""
    sort, _, text = selector.partition(":")
    return sort, json.loads(text)


_read_once: Final = lru_cache(maxsize=256)(_read_selector)
"""The same for short selectors: all children have the same few. Nobody changes the result."""
