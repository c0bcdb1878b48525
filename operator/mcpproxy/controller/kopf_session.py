"""The HTTP session of Kopf: a list or watch that the API server refuses is repeated.

Kopf repeats requests after HTTP 403, 429 and 5xx. Any other refusal of a list or watch ends Kopf,
although the API server also refuses some for a moment: it does not serve a kind that was installed
just now, and a page of a list may have expired. The comparison with lists (`resync.py`) finds kinds
that are absent for longer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import kopf

from mcpproxy.cluster.kubeconfig import ClusterConfig
from mcpproxy.cluster.resources import PLURALS

PAUSE: Final = 2.0
"""Seconds between a refusal and the next request."""
_UNAUTHORIZED: Final = 401
_NOT_SERVED: Final = frozenset({404, 405})
"""Responses to requests for a kind that is being installed or removed."""
_EXPIRED: Final = frozenset({400, 410})
"""Responses to a request for a page of a list that is too old, after which a new list begins.

A watch continues from the same version, so that its refusals with these codes would not end.
"""

log = logging.getLogger(__name__)


class RefusedRequest(aiohttp.ClientPayloadError):
    """A refusal that Kopf takes for a response that was cut: it begins the list or watch again."""


class RepeatedRequests:
    """Middleware that lets Kopf repeat lists and watches that were refused."""

    def __init__(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._sleep = sleep

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request, and pause after a refusal. Raise RefusedRequest."""
        response = await handler(request)
        if response.status == _UNAUTHORIZED:
            # Kopf then fetches the credentials again, immediately.
            await self._sleep(PAUSE)
        elif response.status in _repeated(request):
            response.close()
            path = request.url.path
            log.warning("%s: HTTP %d; repeating in %g s", path, response.status, PAUSE)
            await self._sleep(PAUSE)
            raise RefusedRequest(f"{path}: HTTP {response.status}")
        return response


def _repeated(request: aiohttp.ClientRequest) -> frozenset[int]:
    """Return the HTTP statuses after which a request is repeated."""
    if request.url.name not in PLURALS:
        # In discovery, the absence of a group is an answer.
        return frozenset()
    return _NOT_SERVED if "watch" in request.url.query else _NOT_SERVED | _EXPIRED


def register_login(registry: kopf.OperatorRegistry, access: ClusterConfig) -> None:
    """Let Kopf use the credentials of the other clients; rejected ones are fetched again."""

    async def login(**_: Any) -> kopf.AiohttpSession:
        return await _open_session(access)

    kopf.on.login(id="login", registry=registry)(login)


async def _open_session(access: ClusterConfig) -> kopf.AiohttpSession:
    """Return a session with the newest credentials.

    No two sessions are equal, so that Kopf uses credentials again that were rejected for a moment.
    """
    credentials = await access.credentials()
    connection = kopf.ConnectionInfo(
        server=credentials.server,
        ca_path=credentials.ca_path,
        insecure=credentials.insecure,
        scheme=credentials.scheme,
        token=credentials.token,
        certificate_path=credentials.certificate_path,
        private_key_path=credentials.private_key_path,
        username=credentials.username,
        password=credentials.password,
    )
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=connection.as_ssl_context()),
        headers=connection.as_http_headers(),
        proxy=credentials.proxy_url,
        middlewares=(RepeatedRequests(),),
    )
    return kopf.AiohttpSession(server=credentials.server, aiohttp_session=session)
