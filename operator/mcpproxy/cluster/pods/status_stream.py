"""Reader of a pod's `/status?watch`, directly or through the API server."""

import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from mcpproxy.api import constants
from mcpproxy.api.authority import join_host_port
from mcpproxy.cluster.errors import LimitExceeded, Unavailable, error_of
from mcpproxy.cluster.resources import POD
from mcpproxy.limits.pods import (
    POD_CONNECT,
    POD_HEADER,
    POD_HEADERS,
    POD_SEGMENT,
    POD_SILENCE,
    REPORT_LINE,
    REPORT_PIECES,
)

PodAccess = Literal["direct", "apiserver"]

_MEDIA_TYPE: Final = "application/x-ndjson"
_ERROR_BODY: Final = 4096
"""Bytes that are read from a response other than 200."""
_PLAIN: Final = {"Accept": _MEDIA_TYPE, "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class PodAddress:
    """Address of one pod."""

    namespace: str
    name: str
    uid: str
    ip: str
    port: int = constants.PORT_ADMIN


class PodStatusReader(Protocol):
    """Opener of streams of reports."""

    def lines(self, pod: PodAddress) -> AsyncGenerator[bytes]:
        """Yield the lines that the pod sends, until it ends the stream; keep-alives are empty.

        Raise ClusterError if the pod can't be reached, falls silent or responds with an error, and
        LimitExceeded if it sends more than it may. A line may be yielded without suspending.
        """


class HttpPodStatusReader:
    """PodStatusReader over HTTP.

    Every pod may be hostile: redirects are not followed, bodies are not decompressed, and
    connections are not reused.
    """

    def __init__(self, configuration: Configuration, access: PodAccess) -> None:
        self._access = access
        # Credentials and TLS settings are for the API server and never sent to a pod.
        self._client = ApiClient(configuration) if access == "apiserver" else None
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()
        if self._session is not None:
            await self._session.close()

    async def lines(self, pod: PodAddress) -> AsyncGenerator[bytes]:
        try:
            async with self._open(pod) as answer:
                if answer.status != 200:
                    raise error_of(answer.status, await answer.content.read(_ERROR_BODY))
                _check_form(answer)
                async for line in _lines_of(answer.content):
                    yield line
        except TimeoutError as error:
            raise Unavailable(f"{self._where(pod)}: no response in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{self._where(pod)}: {error}") from error

    def _where(self, pod: PodAddress) -> str:
        if self._client is not None:
            return f"port {pod.port}, through the API server"
        return join_host_port(pod.ip, pod.port)

    @asynccontextmanager
    async def _open(self, pod: PodAddress) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = self._new_session()
        url, headers, options = await self._request(pod)
        async with self._session.get(
            url, headers={**headers, **_PLAIN}, allow_redirects=False, **options
        ) as answer:
            yield answer

    async def _request(self, pod: PodAddress) -> tuple[str, dict[str, str], dict[str, Any]]:
        """Return the URL, headers and options of the request."""
        if self._client is None:
            return f"http://{join_host_port(pod.ip, pod.port)}/status?watch", {}, {}
        path = POD.path(pod.namespace, f"{pod.name}:{pod.port}", "proxy/status")
        query: list[tuple[str, Any]] = [("watch", "true")]
        _, url, headers, *_ = await self._client.param_serialize(
            "GET", path, query_params=query, auth_settings=["BearerToken"]
        )
        configuration = self._client.configuration
        options = {
            "proxy": configuration.proxy,
            "proxy_headers": configuration.proxy_headers,
            "server_hostname": configuration.tls_server_name,
        }
        return url, headers, {name: value for name, value in options.items() if value}

    def _new_session(self) -> aiohttp.ClientSession:
        # The client library of Kubernetes follows redirects, which a pod chooses, and decompresses.
        context = self._client.rest_client.ssl_context if self._client is not None else True
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, force_close=True, ssl=context, socket_factory=_small_socket
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=POD_CONNECT.value, sock_read=POD_SILENCE.value
            ),
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=POD_SEGMENT.value,
            max_line_size=POD_HEADER.value,
            max_field_size=POD_HEADER.value,
            max_headers=POD_HEADERS.value,
        )


def _small_socket(address: Any) -> socket.socket:
    """Open a socket with a small receive buffer: all that it holds is parsed in one step."""
    family, kind, protocol, *_ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, POD_SEGMENT.value)
    return opened


def _check_form(answer: aiohttp.ClientResponse) -> None:
    encoding = answer.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise Unavailable("the response has a Content-Encoding, although the operator accepts none")
    if "Content-Type" in answer.headers and answer.content_type != _MEDIA_TYPE:
        raise Unavailable(f"the Content-Type of the response is not {_MEDIA_TYPE}")


async def _lines_of(content: aiohttp.StreamReader) -> AsyncGenerator[bytes]:
    rest, pieces = bytearray(), 0
    async for piece, _ in content.iter_chunks():
        pieces += 1
        begin = 0
        while (end := piece.find(b"\n", begin)) >= 0:
            rest += piece[begin:end]
            _check_line(len(rest), pieces)
            yield bytes(rest).strip()
            rest.clear()
            begin, pieces = end + 1, 0
        rest += piece[begin:]
        _check_line(len(rest), pieces)


def _check_line(size: int, pieces: int) -> None:
    if size > REPORT_LINE.value:
        REPORT_LINE.record()
        raise LimitExceeded(f"sends a line of more than {REPORT_LINE.value} bytes")
    if pieces > REPORT_PIECES.value:
        REPORT_PIECES.record()
        raise LimitExceeded(f"sends one line in more than {REPORT_PIECES.value} pieces")
