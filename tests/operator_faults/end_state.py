"""Objects without what differs between two runs: uids, versions, times, random keys."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.resources import CONFIG_MAP, SECRET

_OF_ONE_RUN: Final = frozenset({"uid", "resourceVersion", "creationTimestamp", "generation"})
_OMITTED: Final = frozenset(
    {"lastTransitionTime", "lastUpdateTime", "observedAt", "clusterIP", "clusterIPs"}
)
_HASHED: Final = re.compile(r"-([0-9a-f]{10})$")


def state_of(objects: Iterable[Object], names: Mapping[str, str]) -> dict[str, Object]:
    """Return objects by kind and name, without what differs between two runs.

    `names` are texts of this run, and what to put in their place. Names of ConfigMaps end in a
    hash, which depends on the namespace.
    """
    live = [normalized(item) for item in objects]
    hashes = {
        match[1]
        for item in live
        if item["kind"] == CONFIG_MAP.name
        and (match := _HASHED.search(item["metadata"]["name"])) is not None
    }
    text = json.dumps(live)
    for number, value in enumerate(sorted(hashes)):
        text = text.replace(value, f"HASH-{number}")
    for value, name in names.items():
        text = text.replace(value, name)
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in json.loads(text)}


def normalized(live: Object) -> Object:
    """Return an object without its identity, its times and the values of random keys."""
    metadata = {key: item for key, item in live["metadata"].items() if key not in _OF_ONE_RUN}
    metadata["managedFields"] = sorted(
        (_managed(entry) for entry in metadata.get("managedFields") or []), key=str
    )
    content = {key: _timeless(item) for key, item in live.items() if key != "metadata"}
    if live["kind"] == SECRET.name:
        content["data"] = sorted(live["data"])
    return {**content, "metadata": metadata}


def _managed(entry: Object) -> Object:
    return {key: item for key, item in entry.items() if key != "time"}


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in _OMITTED}
    if isinstance(value, list):
        return [_timeless(item) for item in value]
    return value


def differences(want: dict[str, Object], state: dict[str, Object]) -> list[str]:
    """Return what differs between two states, item line for each field."""
    lines: list[str] = []
    _compare("", want, state, lines)
    return lines


def _compare(path: str, want: object, state: object, lines: list[str]) -> None:
    if isinstance(want, dict) and isinstance(state, dict):
        for key in sorted(want.keys() | state.keys()):
            _compare(f"{path}.{key}", want.get(key), state.get(key), lines)
    elif isinstance(want, list) and isinstance(state, list) and len(want) == len(state):
        for number, (item, other) in enumerate(zip(want, state, strict=True)):
            _compare(f"{path}[{number}]", item, other, lines)
    elif want != state:
        lines.append(f"{path}: {str(state)[:200]} instead of {str(want)[:200]}")
