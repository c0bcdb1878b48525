"""The requests that begin a session, and the eras and revisions that their answers name."""

import asyncio
import logging
from typing import Final

from msgspec import Raw

from mcpproxy.limits.sessions import GREETING, PROGRAM_PROBE_TIME
from mcpproxy.proxy.core.errors import BackendError, ProtocolError, Unreachable
from mcpproxy.proxy.core.exchange import INITIALIZED, ClientIdentity, NullContext
from mcpproxy.proxy.core.translation.era_translation import add_client_meta
from mcpproxy.proxy.http1.client.response import ClientResponse
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol import revisions as rev
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.transports.event_stream import MAX_MESSAGE
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient, read_json
from mcpproxy.proxy.upstream.transports.session import (
    ServerDescription,
    UpstreamRequest,
    UpstreamSession,
)

_DISCOVER: Final = Raw(b'"mcpproxy-discover"')
_INITIALIZE: Final = Raw(b'"mcpproxy-initialize"')
_OF_ERA: Final = (jsonrpc.METHOD_NOT_FOUND, jsonrpc.UNSUPPORTED_VERSION)

log = logging.getLogger("mcpproxy.backend")


class EraNotSupported(ProtocolError):
    """It does not speak the legacy era; `no_post` where it does not even take a POST."""

    def __init__(self, message: str, *, no_post: bool = False) -> None:
        super().__init__(message)
        self.no_post = no_post


def discover_request(client: ClientIdentity) -> UpstreamRequest:
    """A `server/discover` of the newest modern revision."""
    params = add_client_meta(None, client, rev.LATEST_MODERN, None)
    return UpstreamRequest(_DISCOVER, "server/discover", params)


def initialize_request(client: ClientIdentity, revision: str) -> UpstreamRequest:
    """An `initialize` that offers `revision` and says of the client what it said of itself."""
    params: Message = {
        "protocolVersion": jsonrpc.encode_raw(revision),
        "capabilities": Raw(client.capabilities),
        "clientInfo": Raw(client.info or b'{"name":"unknown","version":"0"}'),
    }
    return UpstreamRequest(_INITIALIZE, "initialize", params)


def parse_discover_result(message: Message) -> ServerDescription | None:
    """The greeting in the answer to `server/discover`; None when it does not speak modern.

    Raises NotMcp for one that is too large.
    """
    if "result" not in message:
        return None
    try:
        result = jsonrpc.decode_object(message["result"])
    except RpcError:
        return None
    _check_size(result)
    offered = jsonrpc.decode(result.get("supportedVersions"))
    mutual = [v for v in rev.MODERN if isinstance(offered, list) and v in offered]
    return ServerDescription(mutual[-1], result) if mutual else None


def _check_size(result: Message) -> None:
    """Raise NotMcp for a greeting that is too large: every client gets what it says."""
    if sum(map(len, result.values())) > GREETING.value:
        GREETING.record()
        raise ProtocolError(f"it introduces itself with more than {GREETING.value} bytes")


def names_modern_revision(message: Message) -> bool:
    """Whether a refused `server/discover` names a modern revision that we both speak."""
    error = jsonrpc.error_of(message, understood=True)
    if error is None or error.code != jsonrpc.UNSUPPORTED_VERSION:
        return False
    supported = error.data.get("supported") if isinstance(error.data, dict) else None
    return isinstance(supported, list) and any(v in supported for v in rev.MODERN)


def parse_initialize_result(message: Message, pinned: str | None) -> ServerDescription:
    """The greeting in the answer to `initialize`. Raises NotLegacy, NotMcp."""
    if "result" not in message:
        error = jsonrpc.error_of(message)
        raise EraNotSupported(f"it refuses initialize: error {error.code if error else 'unknown'}")
    result = jsonrpc.decode_object(message["result"])
    _check_size(result)
    revision = jsonrpc.decode_str(result.get("protocolVersion"))
    if revision not in rev.LEGACY:
        raise ProtocolError("it answers initialize with a revision that is not known")
    if pinned is not None and revision != pinned:
        raise ProtocolError(f"it speaks {revision}, but protocol pins {pinned}")
    return ServerDescription(revision, result)


async def send_initialized(link: UpstreamSession) -> None:
    """Tell a backend that its session has begun; never raises."""
    try:
        await link.notify(jsonrpc.notification_message(INITIALIZED))
    except BackendError as error:
        log.info("a backend did not take notifications/initialized: %s", error)


async def first_response(
    endpoint: McpHttpClient, response: ClientResponse, request_id: Raw
) -> Message | None:
    """The response to a request of our own, whatever else is streamed; None when there is none."""
    try:
        if response.media_type == h.EVENT_STREAM:
            return await _first_streamed(endpoint, response, request_id)
        if response.status >= 400 and response.media_type != h.JSON:
            await response.read(MAX_MESSAGE)
            return None
        message = await read_json(response)
    except BaseException:
        response.close()
        raise
    if response.status >= 500 and not _refuses(message):
        raise Unreachable(f"it answers HTTP {response.status}")
    if message is None or "method" in message or not jsonrpc.answers(message, request_id):
        return None
    return message


def _refuses(message: Message | None) -> bool:
    """Return True if a message is an error that says which era the backend does not speak."""
    error = None if message is None else jsonrpc.error_of(message)
    return error is not None and error.code in _OF_ERA


async def _first_streamed(
    endpoint: McpHttpClient, response: ClientResponse, request_id: Raw
) -> Message | None:
    reader = endpoint.events(response)
    while (messages := await reader.messages()) is not None:
        for message in messages:
            if "method" not in message and jsonrpc.answers(message, request_id):
                response.leave()
                return message
    return None


async def initialize(
    link: UpstreamSession, client: ClientIdentity, revision: str, pin: str | None
) -> None:
    """Begin a session of the legacy era over a link. Raises BackendError, NotLegacy among it."""
    try:
        answer = await link.request(initialize_request(client, revision), NullContext(client))
        link.greeting = parse_initialize_result(answer, pin)
        await link.notify(jsonrpc.notification_message(INITIALIZED))
    except BaseException:
        await link.close()
        raise


class StdioHandshake:
    """The first requests to a new process that may be of either era.

    Neither is ever cancelled: a process that is slow to start finds both in its input, and the
    first answer that names an era decides. SDKs lock a process to the era of its first request
    and refuse the other one, so that no more than one answer does.
    """

    def __init__(
        self, link: UpstreamSession, client: ClientIdentity, revision: str, pinned: str | None
    ) -> None:
        self._link = link
        self._client = client
        self._revision = revision
        self._pinned = pinned
        self._asked: list[asyncio.Task[Message]] = []

    async def greeting(self, patience: float, *, modern_first: bool) -> ServerDescription:
        """How it introduces itself; after `patience` seconds without an answer to
        `server/discover`, `initialize` follows. Raises BackendError, NotLegacy among it."""
        if not modern_first:
            return await self._legacy_or_modern()
        discovering = self._ask(discover_request(self._client))
        done, _ = await asyncio.wait((discovering,), timeout=patience)
        if not done:
            PROGRAM_PROBE_TIME.record()
        elif names_modern_revision(discovering.result()):
            discovering = self._ask(discover_request(self._client))
            await discovering
        if (
            discovering.done()
            and (found := parse_discover_result(discovering.result())) is not None
        ):
            return found
        initializing = self._ask(initialize_request(self._client, self._revision))
        waiting = {initializing} if discovering.done() else {initializing, discovering}
        while True:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if discovering.done() and discovering in waiting:
                waiting.discard(discovering)
                if (found := parse_discover_result(discovering.result())) is not None:
                    return found
            if initializing.done():
                return await self._settled(initializing, discovering)

    async def _settled(
        self, initializing: "asyncio.Task[Message]", discovering: "asyncio.Task[Message]"
    ) -> ServerDescription:
        try:
            return parse_initialize_result(initializing.result(), self._pinned)
        except EraNotSupported:
            found = parse_discover_result(await discovering)
            if found is None:
                raise
            return found

    async def _legacy_or_modern(self) -> ServerDescription:
        answer = await self._ask(initialize_request(self._client, self._revision))
        try:
            return parse_initialize_result(answer, self._pinned)
        except EraNotSupported:
            found = parse_discover_result(await self._ask(discover_request(self._client)))
            if found is None:
                raise
            return found

    def _ask(self, outgoing: UpstreamRequest) -> "asyncio.Task[Message]":
        asking = asyncio.ensure_future(self._link.request(outgoing, NullContext(self._client)))
        self._asked.append(asking)
        return asking

    def close(self) -> None:
        """Wait for no more answers."""
        for asking in self._asked:
            if asking.done():
                asking.cancelled() or asking.exception()
            else:
                asking.cancel()
