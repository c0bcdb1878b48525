"""Cluster in memory, for tests: server-side apply with ownership of fields.

The same contract tests run against it and against a real API server.
"""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, TypeVar

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object, Objects
from mcpproxy.cluster.client import HEAD_FIELDS, HEIR
from mcpproxy.cluster.errors import ClusterError, Conflict, Invalid, NotFound
from mcpproxy.cluster.resources import MCP_PROXY, PLURALS, SECRET, ResourceKind, kind_of
from mcpproxy.testing.fake_managed_fields import (
    Path,
    field_paths,
    fields_v1,
    put_at,
    remove_at,
    value_at,
)

Key = tuple[str, str, str]
_Json = TypeVar("_Json")


class FakeCluster:
    """Objects in memory. `writes` has a line for every request that could change one.

    Kinds in `lacking` are not installed.
    """

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.writes: list[str] = []
        self.reads = 0
        self.lacking: set[str] = set()
        self.unreadable: dict[str, ClusterError] = {}
        """Kinds → error that reads of them raise."""
        self.documents: dict[str, Any] = {}
        """Path → document that is not of a resource."""
        self.webhooks: list[Callable[[Object], None]] = []
        self.before_write: Callable[[str], None] = lambda request: None
        self.after_write: Callable[[str], None] = lambda request: None
        self._owned: dict[tuple[Key, str, str], set[Path]] = {}
        self._version = 0

    async def get(self, kind: ResourceKind, namespace: str, name: str) -> Object | None:
        self.reads += 1
        if kind is SECRET:
            raise ClusterError("secrets are never read")
        if kind.name in self.unreadable:
            raise self.unreadable[kind.name]
        return self._read((kind.name, namespace, name))

    async def list(
        self, kind: ResourceKind, namespace: str | None, labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        self.reads += 1
        if kind.name in self.unreadable:
            raise self.unreadable[kind.name]
        if kind.name in self.lacking or kind.plural not in PLURALS:
            raise NotFound(f"the server has no {kind.plural}")
        objects = [self._read(key) for key in sorted(self.objects) if key[0] == kind.name]
        return [
            live
            for live in objects
            if live is not None
            and namespace in (None, live["metadata"]["namespace"])
            and (labels or {}).items() <= (live["metadata"].get("labels") or {}).items()
        ]

    async def heads(self, kind: ResourceKind, namespace: str | None, selector: str) -> Objects:
        return [
            {
                "apiVersion": live["apiVersion"],
                "kind": live["kind"],
                "metadata": _head(live["metadata"]),
            }
            for live in await self._selected(kind, namespace, selector)
        ]

    async def pages(
        self, kind: ResourceKind, namespace: str | None, selector: str
    ) -> AsyncGenerator[Objects]:
        for live in await self._selected(kind, namespace, selector):
            yield [live]

    async def _selected(self, kind: ResourceKind, namespace: str | None, selector: str) -> Objects:
        wanted = [term.split("=") for term in selector.split(",") if term]
        return [
            live
            for live in await self.list(kind, namespace)
            for labels in [live["metadata"].get("labels") or {}]
            if all(
                name in labels and labels[name] == (value or [labels[name]])[0]
                for name, *value in wanted
            )
        ]

    async def document(self, path: str) -> Any:
        self.reads += 1
        if path in self.unreadable:
            raise self.unreadable[path]
        if path not in self.documents:
            raise NotFound(f"the server has no {path}")
        return _copy(self.documents[path])

    async def replace(self, manifest: Object) -> Object:
        """Replace an object; raise Conflict if it has changed since it was read."""
        with self._writing(f"replace {manifest['kind']}"):
            live = self.objects.get(_key(manifest))
            version = manifest["metadata"]["resourceVersion"]
            if live is None or live["metadata"]["resourceVersion"] != version:
                raise Conflict(f"{manifest['kind']} has changed")
            return self.put(manifest, constants.FIELD_MANAGER)

    async def apply(self, manifest: Object, uid: str | None = None) -> Object:
        with self._writing(f"apply {manifest['kind']}"):
            return self.apply_as(constants.FIELD_MANAGER, manifest, uid, force=uid is not None)

    async def apply_new(self, manifest: Object) -> Object:
        with self._writing(f"apply {manifest['kind']}"):
            if _key(manifest) in self.objects:
                raise Conflict(f"{manifest['kind']} {manifest['metadata']['name']} exists")
            return self.apply_as(constants.FIELD_MANAGER, manifest, None, force=False)

    async def hand_over(self, manifest: Object, uid: str) -> None:
        with self._writing(f"hand over {manifest['kind']}"):
            self.apply_as(HEIR, manifest, uid, force=True)

    async def apply_status(self, manifest: Object, uid: str) -> Object:
        with self._writing(f"status {manifest['kind']}"):
            return self.apply_as(constants.FIELD_MANAGER, manifest, uid, True, "status")

    async def create(self, manifest: Object) -> bool:
        with self._writing(f"create {manifest['kind']}"):
            key = _key(manifest)
            if key in self.objects:
                return False
            self.put(manifest)
            return True

    async def delete(self, kind: ResourceKind, namespace: str, name: str, uid: str) -> None:
        with self._writing(f"delete {kind.name}"):
            live = self.objects.get((kind.name, namespace, name))
            if live is not None and live["metadata"]["uid"] != uid:
                raise Conflict(f"{kind.name} {name} has another uid")
            self.remove(kind, namespace, name)

    def put(self, manifest: Object, manager: str = "kubectl") -> Object:
        """Create or replace an object without the operator: `manager` owns its fields."""
        key = _key(manifest)
        live = self.objects.get(key)
        stored = _copy(manifest)
        stored["metadata"].pop("managedFields", None)
        if live is None:
            self._version += 1
            stored["metadata"] |= {"uid": f"uid-{self._version}", "generation": 1}
        changed = {
            path
            for path in {*field_paths(stored), *field_paths(live or {})}
            if value_at(stored, path) != value_at(live or {}, path)
        }
        for owner, fields in self._owned.items():
            if owner[0] == key:
                fields -= changed
        self._owned.setdefault((key, manager, ""), set()).update(changed & set(field_paths(stored)))
        self._store(key, stored)
        return _copy(stored)

    def remove(self, kind: ResourceKind, namespace: str, name: str) -> None:
        """Delete an object, as a user or the garbage collector does."""
        key = (kind.name, namespace, name)
        self.objects.pop(key, None)
        for owner in [owner for owner in self._owned if owner[0] == key]:
            del self._owned[owner]

    def apply_as(
        self, manager: str, manifest: Object, uid: str | None, force: bool, subresource: str = ""
    ) -> Object:
        """Apply a manifest on the server side, by any manager."""
        if manifest["kind"] in self.lacking:
            raise NotFound(f"the server has no {manifest['kind']}")
        key, live = _key(manifest), self.objects.get(_key(manifest))
        if live is None and (uid is not None or subresource):
            raise (NotFound if subresource else Conflict)(f"{key[0]} {key[2]} does not exist")
        if live is not None and uid not in (None, live["metadata"]["uid"]):
            raise Conflict(f"{key[0]} {key[2]} has another uid")
        fields, before = (
            set(field_paths(manifest)),
            self._owned.get((key, manager, subresource), set()),
        )
        stored = _copy(live) if live is not None else _identity(manifest)
        self._take_over(key, manager, subresource, fields, manifest, stored, force)
        for path in sorted(before - fields, key=len):
            if not self._held_by_others(key, manager, subresource, path):
                remove_at(stored, path)
        for path in field_paths(manifest):
            put_at(stored, path, value_at(manifest, path))
        if live is not None and live.get("immutable") and live.get("data") != stored.get("data"):
            raise Invalid("data: Forbidden: field is immutable when `immutable` is set")
        for webhook in self.webhooks:
            webhook(stored)
        self._owned[(key, manager, subresource)] = fields
        if live is None:
            self._version += 1
            stored["metadata"] |= {"uid": f"uid-{self._version}", "generation": 1}
        self._store(key, stored, status=bool(subresource))
        result = self._read(key)
        assert result is not None
        return result

    def _take_over(
        self,
        key: Key,
        manager: str,
        subresource: str,
        fields: set[Path],
        manifest: Object,
        stored: Object,
        force: bool,
    ) -> None:
        for owner, theirs in self._owned.items():
            if owner[0] != key or owner == (key, manager, subresource):
                continue
            taken = {
                path
                for path in theirs & fields
                if value_at(manifest, path) != value_at(stored, path)
                and not isinstance(value_at(manifest, path), dict)
            }
            if taken and not force:
                raise Conflict(f"fields of {owner[1]}: {sorted(taken)}")
            theirs -= taken

    def _held_by_others(self, key: Key, manager: str, subresource: str, path: Path) -> bool:
        return any(
            path in fields
            for owner, fields in self._owned.items()
            if owner[0] == key and owner != (key, manager, subresource)
        )

    def _store(self, key: Key, stored: Object, status: bool = False) -> None:
        live = self.objects.get(key)
        if live is not None and live == stored:
            return
        if live is not None and not status and _content(live) != _content(stored):
            stored["metadata"]["generation"] = live["metadata"]["generation"] + 1
        self._version += 1
        stored["metadata"]["resourceVersion"] = str(self._version)
        self.objects[key] = stored

    def _read(self, key: Key) -> Object | None:
        live = _copy(self.objects.get(key))
        if live is not None:
            live["metadata"]["managedFields"] = [
                {
                    "manager": manager,
                    "operation": "Update" if manager == "kubectl" else "Apply",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": fields_v1(fields),
                    **({"subresource": subresource} if subresource else {}),
                }
                for (owner, manager, subresource), fields in self._owned.items()
                if owner == key and fields
            ]
        return live

    def _writing(self, request: str) -> "_Write":
        return _Write(self, request)


class _Write:
    """Note one write; a test may make it fail before or after it happens."""

    def __init__(self, cluster: FakeCluster, request: str) -> None:
        self._cluster, self._request = cluster, request

    def __enter__(self) -> None:
        self._cluster.before_write(self._request)
        self._cluster.writes.append(self._request)

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if failed is None:
            self._cluster.after_write(self._request)


def _copy(value: _Json) -> _Json:
    """Return a copy of a JSON value, as a response has it."""
    result: _Json = json.loads(json.dumps(value))
    return result


def _key(manifest: Object) -> Key:
    metadata = manifest["metadata"]
    return (kind_of(manifest).name, metadata["namespace"], metadata["name"])


def _identity(manifest: Object) -> Object:
    metadata = {name: manifest["metadata"][name] for name in ("namespace", "name")}
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": metadata,
    }


def _content(manifest: Object) -> Object:
    kept = {key: value for key, value in manifest.items() if key not in ("metadata", "status")}
    return kept if manifest["kind"] in (MCP_PROXY.name, "Deployment") else {}


def _head(metadata: Object) -> Object:
    """Return what a head of a list has of the metadata."""
    head = {name: content for name, content in metadata.items() if name in HEAD_FIELDS}
    labels = head.get("labels") or {}
    kept = {name: labels[name] for name in labels if name == constants.LABEL_INSTANCE}
    return {**head, "labels": kept} if "labels" in head else head
