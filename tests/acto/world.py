"""MCPProxies and their children at a real API server, seen as bytes."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2

from mcpproxy.api import constants, defaults
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.manifest import parse
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.cluster.resources import (
    ALWAYS,
    CONFIG_MAP,
    DEPLOYMENT,
    MCP_PROXY,
    ON_DEMAND,
    SERVICE,
    ResourceKind,
)
from mcpproxy.reconcile.object_views import mounted_config_map
from tests.acto.mutations import Spec
from tests.apiserver.server import ApiServer

PATIENCE: Final = 60.0
"""Seconds that the operator has for one MCPProxy."""
PROXY: Final = "tools"
_OF_THE_SERVER: Final = (
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "generation",
)
_ALLOCATED: Final = ("clusterIP", "clusterIPs", "healthCheckNodePort")


class World:
    """A user's view of the cluster: one MCPProxy, called `tools`, in each namespace."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self._proxies: dict[str, Object] = {}
        self._news = asyncio.Condition()

    async def watch(self) -> None:
        """Hear of every MCPProxy until cancelled."""
        query = {"watch": "true", "timeoutSeconds": "3600"}
        async with self._client.stream("GET", MCP_PROXY.path(None), params=query) as answer:
            async for line in answer.aiter_lines():
                result = json.loads(line)["object"]
                async with self._news:
                    self._proxies[result["metadata"]["namespace"]] = result
                    self._news.notify_all()

    async def enter(self, namespace: str) -> None:
        """Make a namespace."""
        answer = await self._client.post(
            "/api/v1/namespaces", json={"metadata": {"name": namespace}}
        )
        assert answer.status_code == 201, answer.text

    async def send(self, verb: str, namespace: str, spec: Any) -> httpx2.Response:
        """Create or change the MCPProxy of a namespace by one of VERBS."""
        return await _VERBS[verb](self._client, namespace, spec)

    async def reported(self, namespace: str, generation: int) -> Object:
        """The MCPProxy as soon as its status is about this generation.

        Raises TimeoutError when the operator is stuck.
        """

        def settled() -> Object | None:
            live = self._proxies.get(namespace)
            return live if live and _seen(live) == live["metadata"]["generation"] else None

        async with asyncio.timeout(PATIENCE), self._news:
            while (live := settled()) is None or live["metadata"]["generation"] < generation:
                await self._news.wait()
        return live

    async def children(self, namespace: str, spec: Spec) -> str:
        """The children as bytes, but for what the API server makes up for each object.

        Of the ConfigMaps, the one that the Deployment mounts: the others wait for pods that never
        come here. The Service of the instances counts only if `spec` needs it: the operator has no
        right to delete Services. All namespaces, and so the hashes of configurations, have one
        name. The number of pods is somebody else's unless `spec` gives it.
        """
        kinds = (*ALWAYS, *ON_DEMAND)
        lists = await asyncio.gather(*(self._list(kind, namespace) for kind in kinds))
        results = [item for objects in lists for item in objects]
        mounted = ""
        for deployment in [entry for entry in results if entry["kind"] == DEPLOYMENT.name]:
            mounted = mounted_config_map(deployment["spec"]["template"]["spec"], PROXY) or ""
            if "replicas" not in spec:
                del deployment["spec"]["replicas"]
        kept = [_plain(item) for item in results if not _stays_behind(item, mounted, spec)]
        text = "\n".join(map(json.dumps, kept)).replace(namespace, "acto")
        # The uid of the MCPProxy is in the name of a Secret, too.
        for owner in {
            ref["uid"] for value in results for ref in value["metadata"]["ownerReferences"]
        }:
            text = text.replace(owner, "uid-of-owner")
        return text.replace(mounted, f"{PROXY}-hash") if mounted else text

    async def _list(self, kind: ResourceKind, namespace: str) -> list[Object]:
        answer = await self._client.get(kind.path(namespace))
        assert answer.status_code == 200, answer.text
        items: list[Object] = answer.json()["items"]
        return [
            {**item, "kind": kind.name} for item in items if item["metadata"].get("ownerReferences")
        ]


def _stays_behind(item: Object, mounted: str, spec: Spec) -> bool:
    name = item["metadata"]["name"]
    if item["kind"] == CONFIG_MAP.name:
        return bool(name != mounted)
    if name != constants.instances_service_name(PROXY):
        return False
    try:
        return not defaults.pods_find_each_other(parse(_manifest("acto", spec)).spec)
    except ManifestError:
        # The children are those of the spec before.
        return False


def _seen(live: Object) -> int:
    return int(live.get("status", {}).get("observedGeneration", -1))


def _plain(child: Object) -> Object:
    metadata = {k: v for k, v in child["metadata"].items() if k not in _OF_THE_SERVER}
    annotations = dict(metadata.get("annotations", {}))
    annotations.pop("deployment.kubernetes.io/revision", None)
    result = {**child, "metadata": {**metadata, "annotations": annotations}}
    result.pop("status", None)
    if child["kind"] == SERVICE.name:
        spec = {key: value for key, value in child["spec"].items() if key not in _ALLOCATED}
        spec["ports"] = [{k: v for k, v in p.items() if k != "nodePort"} for p in spec["ports"]]
        result["spec"] = spec
    return result


async def _apply(client: httpx2.AsyncClient, namespace: str, spec: Any) -> httpx2.Response:
    return await client.patch(
        MCP_PROXY.path(namespace, PROXY),
        params={"fieldManager": "user", "force": "true", "fieldValidation": "Strict"},
        headers={"Content-Type": "application/apply-patch+yaml"},
        json=_manifest(namespace, spec),
    )


async def _replace(client: httpx2.AsyncClient, namespace: str, spec: Any) -> httpx2.Response:
    strict, live = {"fieldValidation": "Strict"}, await client.get(_path(namespace))
    if live.status_code == 404:
        url = MCP_PROXY.path(namespace)
        return await client.post(url, params=strict, json=_manifest(namespace, spec))
    return await client.put(_path(namespace), params=strict, json={**live.json(), "spec": spec})


async def _patch(client: httpx2.AsyncClient, namespace: str, spec: Any) -> httpx2.Response:
    if (await client.get(_path(namespace))).status_code == 404:
        return await _replace(client, namespace, spec)
    return await client.patch(
        _path(namespace),
        params={"fieldValidation": "Strict"},
        headers={"Content-Type": "application/json-patch+json"},
        json=[{"op": "replace", "path": "/spec", "value": spec}],
    )


_VERBS: Final = {"apply": _apply, "replace": _replace, "patch": _patch}
VERBS: Final = tuple(_VERBS)


def _path(namespace: str) -> str:
    return MCP_PROXY.path(namespace, PROXY)


def _manifest(namespace: str, spec: Any) -> Object:
    return {
        "apiVersion": constants.API_VERSION,
        "kind": constants.KIND,
        "metadata": {"name": PROXY, "namespace": namespace},
        "spec": spec,
    }


@asynccontextmanager
async def a_world(apiserver: ApiServer) -> AsyncIterator[World]:
    """A user with a watch."""
    with apiserver.client() as value:
        headers = {"Authorization": value.headers["Authorization"]}
    context = ssl.create_default_context(cafile=str(apiserver.authority))
    async with httpx2.AsyncClient(
        base_url=apiserver.url, verify=context, headers=headers, timeout=PATIENCE
    ) as client:
        world = World(client)
        watching = asyncio.create_task(world.watch())
        try:
            yield world
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
