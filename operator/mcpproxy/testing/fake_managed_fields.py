"""Fields of objects as paths, in the form of server-side apply's managedFields."""

import copy
import json
from typing import Any, Final

from mcpproxy.api.kubernetes.objects import Object

Path = tuple[str, ...]
"""Steps such as `f:spec` and `k:{"name":"a"}` from an object's root to one of its fields."""

_LIST_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
    "backends": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
_ATOMIC: Final = ("selector", "labelSelector", "nodeSelector", "fieldRef", "podSelector")


def _keys_of(name: str, item: Any) -> tuple[str, ...] | None:
    if not isinstance(item, dict):
        return None
    if name == "ports":
        number = "containerPort" if "containerPort" in item else "port"
        return (number, "protocol")
    return _LIST_KEYS.get(name)


def _selector(name: str, item: Any) -> str | None:
    keys = _keys_of(name, item)
    if keys is None:
        return None
    chosen = {key: item.get(key, "TCP" if key == "protocol" else None) for key in sorted(keys)}
    return "k:" + json.dumps(chosen, separators=(",", ":"))


def field_paths(manifest: Object) -> list[Path]:
    """Return every field that server-side apply of a manifest would own, in its order."""
    paths: list[Path] = []
    for key, value in manifest.items():
        if key == "metadata":
            for field in ("labels", "annotations", "ownerReferences"):
                if field in value:
                    _walk(value[field], ("f:metadata", f"f:{field}"), field, paths)
        elif key not in ("apiVersion", "kind"):
            _walk(value, (f"f:{key}",), key, paths)
    return paths


def _walk(value: Any, path: Path, name: str, paths: list[Path]) -> None:
    if isinstance(value, dict) and value and name not in _ATOMIC:
        for key in value:
            _walk(value[key], (*path, f"f:{key}"), key, paths)
    elif isinstance(value, list) and value and _selector(name, value[0]) is not None:
        for item in value:
            inner = (*path, str(_selector(name, item)))
            paths.append(inner)
            _walk(item, inner, "", paths)
    else:
        paths.append(path)


def fields_v1(fields: set[Path]) -> Object:
    """Return the paths in the form of `fieldsV1`."""
    root: Object = {}
    for path in sorted(fields):
        node = root
        for step in path:
            node = node.setdefault(step, {})
        if path[-1].startswith("k:"):
            node["."] = {}
    return root


def _find(values: list[Any], step: str) -> int | None:
    chosen = json.loads(step.removeprefix("k:"))
    for index, item in enumerate(values):
        if all(
            item.get(key, "TCP" if key == "protocol" else None) == chosen[key] for key in chosen
        ):
            return index
    return None


def value_at(manifest: Any, path: Path) -> Any:
    """Return the value at the end of a path; None if there is none."""
    for step in path:
        if step.startswith("f:"):
            manifest = manifest.get(step[2:]) if isinstance(manifest, dict) else None
        elif isinstance(manifest, list):
            index = _find(manifest, step)
            manifest = None if index is None else manifest[index]
        if manifest is None:
            return None
    return manifest


def put_at(manifest: Object, path: Path, value: Any) -> None:
    """Write a field, and create missing objects on its path."""
    node: Any = manifest
    for place, step in enumerate(path):
        last = place == len(path) - 1
        if step.startswith("f:"):
            if last:
                node[step[2:]] = copy.deepcopy(value)
                return
            following: Any = [] if path[place + 1].startswith("k:") else {}
            node = node.setdefault(step[2:], following)
            continue
        index = _find(node, step)
        if index is None:
            node.append({})
            index = len(node) - 1
            # Until its own fields arrive, an item is found by its keys.
            node[index] = {k: v for k, v in json.loads(step[2:]).items() if v is not None}
        if last:
            return
        node = node[index]


def remove_at(manifest: Object, path: Path) -> None:
    """Remove a field or an item of a list, and objects that become empty."""
    while path:
        parent = value_at(manifest, path[:-1]) if len(path) > 1 else manifest
        if isinstance(parent, dict):
            parent.pop(path[-1].removeprefix("f:"), None)
        elif isinstance(parent, list):
            index = _find(parent, path[-1])
            if index is not None:
                del parent[index]
        if parent:
            return
        path = path[:-1]
