"""Reading what a pod says at `/status?watch`, directly or through the API server."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from mcpproxy.api import names
from mcpproxy.cluster.errors import Unavailable, error_of
from mcpproxy.cluster.kinds import POD

PodAccess = Literal["direct", "apiserver"]

CONNECT: Final = 5.0
"""Seconds that opening a connection to a pod may take."""
SILENCE: Final = 30.0
"""Seconds without a byte after which a stream is dead; pods send a line every 10."""
MAX_LINE: Final = 4 * 2**20
"""Bytes that one report may have."""


@dataclass(frozen=True, slots=True)
class PodAddress:
    """Where one pod is."""

    namespace: str
    name: str
    uid: str
    ip: str
    port: int = names.PORT_ADMIN


class PodReader(Protocol):
    """Opens streams of reports."""

    def lines(self, pod: PodAddress) -> AsyncGenerator[bytes]:
        """The lines that the pod sends, keep-alives as empty ones, until it ends the stream.

        Raises ClusterError when the pod can't be reached, falls silent or answers with an error.
        """


class StreamingReader:
    """A PodReader over HTTP."""

    def __init__(self, configuration: Configuration, access: PodAccess) -> None:
        self._access = access
        # Through the API server, its credentials and TLS settings apply; to a pod, none do.
        self._client = ApiClient(configuration) if access == "apiserver" else None
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()
        if self._session is not None:
            await self._session.close()

    async def lines(self, pod: PodAddress) -> AsyncGenerator[bytes]:
        """The lines that the pod sends, keep-alives as empty ones, until it ends the stream."""
        try:
            async with self._open(pod) as answer:
                if answer.status != 200:
                    raise error_of(answer.status, await answer.content.read(4096))
                buffer = bytearray()
                async for chunk in answer.content.iter_any():
                    *whole, rest = (bytes(buffer) + chunk).split(b"\n")
                    for line in whole:
                        yield line.strip()
                    buffer = bytearray(rest)
                    if len(buffer) > MAX_LINE:
                        raise Unavailable(f"pod {pod.name}: a report has over {MAX_LINE} bytes")
        except TimeoutError as error:
            raise Unavailable(f"pod {pod.name}: no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"pod {pod.name}: {error}") from error

    @asynccontextmanager
    async def _open(self, pod: PodAddress) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=SILENCE)
        if self._client is None:
            if self._session is None:
                connector = aiohttp.TCPConnector(limit=0)
                self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
            host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
            url = f"http://{host}:{pod.port}/status?watch"
            async with self._session.get(url, timeout=timeout, allow_redirects=False) as answer:
                yield answer
            return
        path = POD.path(pod.namespace, f"{pod.name}:{pod.port}", "proxy/status")
        query: list[tuple[str, Any]] = [("watch", "true")]
        serialized = await self._client.param_serialize(
            "GET", path, query_params=query, auth_settings=["BearerToken"]
        )
        proxied = await self._client.call_api(*serialized, _request_timeout=timeout)
        async with proxied.response as answer:
            yield answer
