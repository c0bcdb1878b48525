"""Client of the API server, with the operations that the operator needs."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final, Protocol, TypedDict

import aiohttp
import msgspec
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTResponse

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object, Objects
from mcpproxy.api.yaml_safe_json import json_text
from mcpproxy.cluster.errors import (
    ClusterError,
    Conflict,
    LimitExceeded,
    NotFound,
    Unavailable,
    error_of,
)
from mcpproxy.cluster.resources import ResourceKind, kind_of
from mcpproxy.limits.pods import LIST_BYTES, LISTS, RESPONSE_BYTES

TIMEOUT: Final = 15.0
"""Seconds that one request may take."""
READ_TIMEOUT: Final = 5.0
"""Seconds that one read may take."""
PAGE: Final = 200
"""Objects in one page of a list. Parsed, they take 3 MiB, most of it for the managers of fields."""
HEIR: Final = f"{constants.FIELD_MANAGER}-handed-over"
"""Field manager of fields that the operator has set and now leaves to others."""

_NO_VERSION: Final = "1"
"""A version that no object has, because etcd begins with it. It lets an apply create an object, and
conflicts with every object that exists."""

# With the charset, the client library sends text as it is and doesn't make JSON of it.
_APPLY: Final = "application/apply-patch+yaml; charset=utf-8"
_JSON: Final = "application/json"
_DOCUMENT: Final = "application/json, application/jwk-set+json"
_HEADS: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class _OwnerReference(TypedDict, total=False):
    apiVersion: str
    kind: str
    name: str
    controller: bool


# Anybody who may create objects may give them a megabyte of labels.
_Labels = TypedDict("_Labels", {"app.kubernetes.io/instance": str}, total=False)


class _Metadata(TypedDict, total=False):
    name: str
    namespace: str
    uid: str
    resourceVersion: str
    labels: _Labels | None
    ownerReferences: list[_OwnerReference] | None


HEAD_FIELDS: Final = frozenset(_Metadata.__annotations__)
"""Metadata that a head of a list has; all of them are optional but for the name."""


class _Head(TypedDict):
    metadata: _Metadata


class _Heads(TypedDict):
    metadata: dict[str, Any]
    items: list[_Head] | None


# The managers of fields and annotations, most of a list, are skipped without being parsed.
_decode_heads: Final = msgspec.json.Decoder(_Heads).decode


class Cluster(Protocol):
    """Operations of the operator on the API server. Every method raises ClusterError."""

    async def get(self, kind: ResourceKind, namespace: str, name: str) -> Object | None:
        """Return one object; None if it does not exist."""

    async def list(
        self, kind: ResourceKind, namespace: str | None, labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        """Return the objects of one namespace (None: of all) that have `labels`."""

    async def heads(self, kind: ResourceKind, namespace: str | None, selector: str) -> Objects:
        """Return the metadata of the objects that a label selector ("" for all) matches: their
        names, uids, versions and owners, by references and the label."""

    def pages(
        self, kind: ResourceKind, namespace: str | None, selector: str
    ) -> AsyncGenerator[Objects]:
        """Yield the objects that a label selector matches, a page at a time: they may be many."""

    async def document(self, path: str) -> Any:
        """Return the JSON document at a path of the API server that is not of a resource."""

    async def apply(self, manifest: Object, uid: str | None = None) -> Object:
        """Apply a manifest on the server side as our field manager, and return the stored object.

        With `uid`, it takes over fields of other managers, but only in the object with this uid.
        Without, fields of other managers raise Conflict.
        """

    async def apply_new(self, manifest: Object) -> Object:
        """Create an object by server-side apply, and return the stored object.

        Raise Conflict if an object of this name exists, which is not changed.
        """

    async def hand_over(self, manifest: Object, uid: str) -> None:
        """Transfer fields to another manager, so that they keep their values once released."""

    async def apply_status(self, manifest: Object, uid: str) -> Object:
        """Apply the status of the object with this uid, and return the stored object."""

    async def create(self, manifest: Object) -> bool:
        """Create an object; return False if it exists already."""

    async def delete(self, kind: ResourceKind, namespace: str, name: str, uid: str) -> None:
        """Delete the object with this uid; one that does not exist is not an error."""


class KubeClient:
    """Cluster that uses the client library of the Kubernetes project."""

    def __init__(
        self,
        configuration: Configuration,
        timeout: float = TIMEOUT,
        may_write: Callable[[], bool] = lambda: True,
        wrote: Callable[[str, str, str], None] = lambda kind, verb, result: None,
        read: Callable[[str, str, str], None] = lambda kind, verb, result: None,
        took: Callable[[str, float], None] = lambda kind, seconds: None,
    ) -> None:
        """`may_write` returns True if a write may be sent.

        `wrote` and `read` receive the kind, the verb and the result of each request, and `took`
        the kind and the seconds of each write that succeeded.
        """
        self._client = ApiClient(configuration)
        self._lists = asyncio.Semaphore(LISTS.value)
        self._client.user_agent = constants.FIELD_MANAGER
        self._timeout = timeout
        self._may_write = may_write
        self._wrote = wrote
        self._count_read = read
        self._took = took

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def get(self, kind: ResourceKind, namespace: str, name: str) -> Object | None:
        try:
            live: Object
            live, _ = await self._read(kind, "get", kind.path(namespace, name))
        except NotFound:
            return None
        return live

    async def list(
        self, kind: ResourceKind, namespace: str | None, labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        selector = ",".join(f"{key}={(labels or {})[key]}" for key in sorted(labels or {}))
        return await self._list(kind, namespace, selector, _JSON)

    async def heads(self, kind: ResourceKind, namespace: str | None, selector: str) -> Objects:
        return await self._list(kind, namespace, selector, _HEADS)

    async def pages(
        self, kind: ResourceKind, namespace: str | None, selector: str
    ) -> AsyncGenerator[Objects]:
        async with self._lists:
            async for page, _ in self._pages(kind, namespace, selector, _JSON):
                yield page

    async def document(self, path: str) -> Any:
        return json.loads(await self._send("GET", path, accept=_DOCUMENT))

    async def _list(
        self, kind: ResourceKind, namespace: str | None, selector: str, accept: str
    ) -> Objects:
        async with self._lists:
            return await self._list_pages(kind, namespace, selector, accept)

    async def _list_pages(
        self, kind: ResourceKind, namespace: str | None, selector: str, accept: str
    ) -> Objects:
        items: Objects = []
        whole = 0
        async for page, size in self._pages(kind, namespace, selector, accept):
            whole += size
            if accept != _HEADS and whole > LIST_BYTES.value:
                LIST_BYTES.record()
                raise LimitExceeded(
                    f"the {kind.plural} of this MCPProxy in {namespace} have more than"
                    f" {LIST_BYTES.value} bytes; delete those that carry its labels by mistake"
                )
            items += page
        return items

    async def _pages(
        self, kind: ResourceKind, namespace: str | None, selector: str, accept: str
    ) -> AsyncGenerator[tuple[Objects, int]]:
        """Yield the pages of a list, each with its size in bytes."""
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        # The items of a list have no kind.
        typed = {"apiVersion": kind.api_version, "kind": kind.name}
        while True:
            try:
                page, size = await self._read(kind, "list", kind.path(namespace), query, accept)
            except LimitExceeded:
                # Of large objects, a page has to have fewer.
                if query["limit"] == "1":
                    raise
                query["limit"] = str(max(int(query["limit"]) // 8, 1))
                continue
            items = page["items"] or []
            yield [{**item, **typed} for item in items], size
            token = page["metadata"].get("continue")
            if not token:
                return
            query["limit"] = str(min(int(query["limit"]) * 2, PAGE))
            query["continue"] = token

    async def apply(self, manifest: Object, uid: str | None = None) -> Object:
        return await self._apply(manifest, "", uid)

    async def apply_new(self, manifest: Object) -> Object:
        metadata = {**manifest["metadata"], "resourceVersion": _NO_VERSION}
        return await self._apply({**manifest, "metadata": metadata}, "", None)

    async def hand_over(self, manifest: Object, uid: str) -> None:
        await self._apply(manifest, "", uid, HEIR)

    async def apply_status(self, manifest: Object, uid: str) -> Object:
        return await self._apply(manifest, "status", uid)

    async def create(self, manifest: Object) -> bool:
        path = kind_of(manifest).path(manifest["metadata"]["namespace"])
        query = {"fieldManager": constants.FIELD_MANAGER}
        try:
            await self._write("create", manifest["kind"], "POST", path, query, manifest, _JSON)
        except Conflict:
            return False
        return True

    async def replace(self, manifest: Object) -> Object:
        """Replace an object; raise Conflict if it has changed since it was read."""
        kind, metadata = kind_of(manifest), manifest["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"])
        query = {"fieldManager": constants.FIELD_MANAGER}
        return await self._write("replace", kind.name, "PUT", path, query, manifest, _JSON)

    async def delete(self, kind: ResourceKind, namespace: str, name: str, uid: str) -> None:
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        try:
            path = kind.path(namespace, name)
            await self._write("delete", kind.name, "DELETE", path, {}, options, _JSON)
        except NotFound:
            return

    async def _apply(
        self,
        manifest: Object,
        subresource: str,
        uid: str | None,
        manager: str = constants.FIELD_MANAGER,
    ) -> Object:
        metadata = manifest["metadata"]
        path = kind_of(manifest).path(metadata["namespace"], metadata["name"], subresource)
        query = {"fieldManager": manager}
        if uid is not None:
            manifest = {**manifest, "metadata": {**metadata, "uid": uid}}
            query["force"] = "true"
        verb = "apply_status" if subresource else "apply"
        return await self._write(verb, manifest["kind"], "PATCH", path, query, manifest, _APPLY)

    async def _write(
        self,
        verb: str,
        kind: str,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object,
        content_type: str,
    ) -> Object:
        if not self._may_write():
            raise Unavailable(
                f"{method} {path}: not sent, because another operator may have become the leader"
            )
        began = time.monotonic()
        try:
            content = await self._send(method, path, query, body, content_type)
        except ClusterError as error:
            self._wrote(kind, verb, error.result)
            raise
        self._wrote(kind, verb, "ok")
        self._took(kind, time.monotonic() - began)
        stored: Object = _decoded(content, msgspec.json.decode, f"{method} {path}")
        return stored

    async def _read(
        self,
        kind: ResourceKind,
        verb: str,
        path: str,
        query: Mapping[str, str] | None = None,
        accept: str = _JSON,
    ) -> tuple[Any, int]:
        """Return an object or a page, and its size in bytes."""
        try:
            content = await self._send("GET", path, query, accept=accept)
        except ClusterError as error:
            self._count_read(kind.name, verb, error.result)
            raise
        self._count_read(kind.name, verb, "ok")
        decode = _decode_heads if accept == _HEADS else msgspec.json.decode
        return _decoded(content, decode, f"GET {path}"), len(content)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "",
        accept: str = _JSON,
    ) -> bytes:
        """Send a request, and return the body of its response. Raise ClusterError."""
        headers = {"Accept": accept} | ({"Content-Type": content_type} if content_type else {})
        content_sent = json_text(body) if content_type == _APPLY else body
        # Webhooks delay only writes, by up to 10 s each by default.
        timeout = min(self._timeout, READ_TIMEOUT) if method == "GET" else self._timeout
        try:
            async with asyncio.timeout(timeout):
                serialized = await self._client.param_serialize(
                    method,
                    path,
                    query_params=list((query or {}).items()),
                    header_params=headers,
                    body=content_sent,
                    auth_settings=["BearerToken"],
                )
                answer = await self._client.call_api(*serialized)
                content = await _read_bounded(answer, f"{method} {path}")
        except TimeoutError as error:
            raise Unavailable(f"{method} {path}: no response within {timeout:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{method} {path}: {error}") from error
        if answer.status >= 300:
            raise error_of(answer.status, content, writing=method != "GET")
        return content


def _decoded(content: bytes, decode: Callable[[bytes], Any], request: str) -> Any:
    """Decode the body of a response. Raise Unavailable."""
    try:
        return decode(content)
    except ValueError as error:
        # Something between the operator and the API server has responded in its place.
        text = f"{request}: the response is not from the API server: {error}"
        raise Unavailable(text) from None


async def _read_bounded(answer: RESTResponse, request: str) -> bytes:
    """Return the body of a response. Raise LimitExceeded."""
    body = bytearray()
    async for chunk in answer.response.content.iter_any():
        body += chunk
        if len(body) > RESPONSE_BYTES.value:
            RESPONSE_BYTES.record()
            answer.response.close()
            raise LimitExceeded(
                f"{request}: the response has more than {RESPONSE_BYTES.value} bytes"
            )
    return bytes(body)
