"""HTTP session of the OpenTelemetry exporters: bounded, and without redirects.

The exporters accept a session of `requests`, which follows redirects and the environment's
proxies, decompresses whatever a server sends, and whose timeout restarts with each byte. A
collector is configured, and gets spans and audit records; it is trusted with nothing else.
"""

import asyncio
import functools
import io
import ssl
from collections.abc import Mapping
from typing import Any, Final

import requests

from mcpproxy.limits.audit import COLLECTOR_ANSWER
from mcpproxy.proxy.http1.client.client import HttpClient
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.http1.errors import HttpClientError

EXPORT_WITHIN: Final = 3.0
"""Seconds that one export may take, from the connection to the end of the response."""
_HOP_BY_HOP: Final = ("connection", "content-length", "host", "accept-encoding")


class CollectorSession(requests.Session):
    """Session that opens a connection for each request, and sends it from the calling thread."""

    def __init__(self, resolve: Mapping[str, str]) -> None:
        """`resolve` maps hosts to `host:port`."""
        super().__init__()
        self.trust_env = False
        self._resolve = resolve
        self._tls = functools.cache(ssl.create_default_context)

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        """Send a request. Raise requests.ConnectionError or requests.Timeout."""
        try:
            return asyncio.run(asyncio.wait_for(self._send(request), EXPORT_WITHIN))
        except TimeoutError:
            why = f"{request.url}: no response within {EXPORT_WITHIN:g} s"
            raise requests.Timeout(why, request=request) from None
        except (HttpClientError, ValueError) as error:
            raise requests.ConnectionError(f"{request.url}: {error}", request=request) from None

    async def _send(self, request: requests.PreparedRequest) -> requests.Response:
        # The exporters send bytes.
        content = request.body if isinstance(request.body, bytes) else b""
        lines = [
            (name.lower().encode(), str(value).encode("latin-1"))
            for name, value in request.headers.items()
            if name.lower() not in _HOP_BY_HOP
        ]
        client = HttpClient(request.url or "", EXPORT_WITHIN, self._tls, self._resolve)
        try:
            head = client.head((request.method or "POST").encode(), client.origin.path, lines)
            answer = await client.send(head, content)
            return _CollectorResponse(request, answer, await _read(answer))
        finally:
            client.close()


class _CollectorResponse(requests.Response):
    """Response with the beginning of its body, which is not decompressed."""

    def __init__(self, request: requests.PreparedRequest, head: ClientResponse, body: bytes):
        super().__init__()
        self.request, self.url = request, request.url or ""
        self.status_code, self.reason = head.status, f"HTTP {head.status}"
        lines = ((name.decode("latin-1"), value) for name, value in head.headers.items())
        self.headers.update(
            {name: value.decode("latin-1") for name, value in lines if name != "content-encoding"}
        )
        self.raw = io.BytesIO(body)


async def _read(answer: ClientResponse) -> bytes:
    body = bytearray()
    while chunk := await answer.next_chunk():
        body += chunk
        if len(body) > COLLECTOR_ANSWER.value:
            COLLECTOR_ANSWER.record()
            answer.close()
            break
    return bytes(body[: COLLECTOR_ANSWER.value])
