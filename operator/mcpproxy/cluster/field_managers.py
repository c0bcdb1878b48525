"""The field in which a live object differs from a manifest, and the manager that set it. Pure."""

import json
from typing import Any, Final

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.cluster.managed_fields import applied_fields, intended_fields, semantically_equal

_NAME: Final = 128
"""Characters of a manager's name that are shown: the limit of Kubernetes."""
UNKNOWN: Final = "an unknown manager"

Step = str | Object
"""The name of a field, or the item of a list."""


def find_contested_field(manifest: Object, live: Object) -> tuple[str, str]:
    """Return the first field in which `live` differs from `manifest`, and its manager."""
    ours = applied_fields(live, constants.FIELD_MANAGER)
    path = _difference(intended_fields(manifest), ours)
    return _text(path), clean_text(_manager(path, live), _NAME)


def _difference(want: Any, have: Any) -> tuple[Step, ...]:
    if isinstance(want, dict) and isinstance(have, dict):
        for name in [*want, *(extra for extra in have if extra not in want)]:
            if name not in want or name not in have:
                return (name,)
            if not semantically_equal(want[name], have[name], name):
                return (name, *_difference(want[name], have[name]))
    if isinstance(want, list) and isinstance(have, list):
        for index, item in enumerate(want):
            if not isinstance(item, dict):
                break
            counterpart = _counterpart(item, index, have)
            if counterpart is None:
                return (item,)
            if not semantically_equal(item, counterpart):
                return (item, *_difference(item, counterpart))
    return ()


def _counterpart(item: Object, index: int, items: list[Any]) -> Any | None:
    if "name" in item:
        named = (item_of_name for item_of_name in items if item_of_name.get("name") == item["name"])
        return next(named, None)
    return items[index] if index < len(items) else None


def _manager(path: tuple[Step, ...], live: Object) -> str:
    entries = [
        entry
        for entry in live["metadata"].get("managedFields") or []
        if entry.get("subresource", "") != "status"
    ]
    # Another process applied this field under our name, because its value differs.
    ours = [entry for entry in entries if entry["manager"] == constants.FIELD_MANAGER]
    if any(_holds(entry.get("fieldsV1") or {}, path) for entry in ours):
        return constants.FIELD_MANAGER
    others = [entry for entry in entries if entry["manager"] != constants.FIELD_MANAGER]
    holders = [entry for entry in others if _holds(entry.get("fieldsV1") or {}, path)]
    # A removed field has no manager: the last writer removed it.
    newest = sorted(holders or entries, key=lambda entry: str(entry.get("time", "")))
    return str(newest[-1]["manager"]) if newest else UNKNOWN


def _holds(fields: Object, path: tuple[Step, ...]) -> bool:
    for step in path:
        inner = fields.get(f"f:{step}") if isinstance(step, str) else _item(fields, step)
        if inner is None:
            return False
        if not any(selector != "." for selector in inner):
            return True
        fields = inner
    return bool(path)


def _item(fields: Object, item: Object) -> Object | None:
    for selector, inner in fields.items():
        sort, _, text = selector.partition(":")
        if sort == "k" and json.loads(text).items() <= item.items():
            nested: Object = inner
            return nested
    return None


def _text(path: tuple[Step, ...]) -> str:
    text = ""
    for step in path:
        if isinstance(step, str):
            text += f".{step}" if text else step
        else:
            text += f"[{step['name']}]" if "name" in step else "[]"
    return text
