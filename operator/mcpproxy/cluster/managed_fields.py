"""The fields of a live object that the operator applied: server-side apply's managedFields, read
backwards.

The comparison of these fields with the desired ones shows drift without a request. It ignores
fields of other managers, defaults and webhooks, so these never cause a write.
"""

import json
from collections.abc import Iterator
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from mcpproxy.api.kubernetes.objects import Object

_IDENTITY = ("apiVersion", "kind")
_QUANTITIES = ("limits", "requests")


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
    selectors = [selector for selector in fields if selector != "."]
    if not selectors:
        return value
    if isinstance(value, dict):
        named = [selector.removeprefix("f:") for selector in selectors]
        return {name: _take(value[name], fields[f"f:{name}"]) for name in named if name in value}
    if isinstance(value, list):
        return list(_items(value, fields, selectors))
    return value


def _items(values: list[Any], fields: Object, selectors: list[str]) -> Iterator[Any]:
    for value in values:
        for selector in selectors:
            sort, _, text = selector.partition(":")
            chosen = json.loads(text)
            if sort == "v" and value == chosen:
                yield value
            elif sort == "k" and all(value.get(key) == chosen[key] for key in chosen):
                yield _take(value, fields[selector])
