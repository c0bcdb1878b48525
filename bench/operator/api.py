"""Requests to the API server by the script and the watches of a measurement."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import yaml

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.resources import ResourceKind, kind_of

AT_ONCE: Final = 16
"""Requests of the script that are under way at the same time."""
_JSON: Final = {"Content-Type": "application/json"}
_APPLY: Final = {"Content-Type": "application/apply-patch+yaml"}
HEADS: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""Form of a watch of metadata alone."""
_LONGEST: Final = 4 * 1024 * 1024


class Api:
    """Connection to the API server."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session, self._server = session, server

    async def apply_all(self, manifests: Iterable[Iterable[Object]]) -> None:
        """Apply groups of objects on the server side: 16 groups at once, each in its order."""
        waiting = iter(manifests)

        async def work() -> None:
            for group in waiting:
                for manifest in group:
                    await self._apply(manifest)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(work())

    async def _apply(self, manifest: Object) -> None:
        metadata = manifest["metadata"]
        path = kind_of(manifest).path(metadata["namespace"], metadata["name"])
        await self.send("PATCH", f"{path}?fieldManager=script", manifest, _APPLY)

    async def send(
        self, method: str, path: str, body: Any, headers: Mapping[str, str] = _JSON
    ) -> Any:
        """Send one request and return the content of its answer. Raise OSError if it is refused."""
        async with self._session.request(
            method, self._server + path, data=json.dumps(body), headers=headers
        ) as answer:
            text = await answer.text()
            if answer.status >= 300:
                raise OSError(f"{method} {path}: {answer.status} {text[:300]}")
        return json.loads(text)

    async def list(self, kind: ResourceKind, selector: str = "") -> list[Object]:
        """Return all objects of a kind with these labels."""
        query = {"labelSelector": selector} if selector else {}
        async with self._session.get(self._server + kind.path(None), params=query) as answer:
            answer.raise_for_status()
            items: list[Object] = (await answer.json())["items"]
        return items

    async def watch(
        self,
        kind: ResourceKind,
        selector: str,
        changed: Callable[[Object, bool], None],
        accept: str = "application/json",
    ) -> None:
        """Pass each object that exists or changes to `changed`, with True if it is deleted.

        The API server ends a watch whose events are not read in time. It then begins again, and
        `changed` gets all objects that exist once more.
        """
        while True:
            await self._watch_once(kind, selector, changed, accept)

    async def _watch_once(
        self,
        kind: ResourceKind,
        selector: str,
        changed: Callable[[Object, bool], None],
        accept: str,
    ) -> None:
        query = {"watch": "true", "timeoutSeconds": "3600"}
        query |= {"labelSelector": selector} if selector else {}
        url = self._server + kind.path(None)
        async with self._session.get(url, params=query, headers={"Accept": accept}) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                changed(event["object"], event["type"] == "DELETED")


@asynccontextmanager
async def connected(kubeconfig: str) -> AsyncIterator[Api]:
    """Connect with the token of a kubeconfig, given as text."""
    config = yaml.safe_load(kubeconfig)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cafile=cluster["certificate-authority"])
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=0),
        headers={"Authorization": f"Bearer {user['token']}"},
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=_LONGEST,
        skip_auto_headers=("Accept-Encoding",),
    ) as session:
        yield Api(session, cluster["server"])
