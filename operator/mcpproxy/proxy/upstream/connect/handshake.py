"""The requests that begin a session, and the eras and revisions that their answers name."""

import asyncio
import logging
from typing import Final

from msgspec import Raw

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.sessions import GREETING, PROGRAM_PROBE_TIME
from mcpproxy.proxy.core.errors import BackendError, ProtocolError, TimedOut, Unreachable
from mcpproxy.proxy.core.exchange import INITIALIZED, ClientIdentity, NullContext
from mcpproxy.proxy.core.translation.era_translation import add_client_meta
from mcpproxy.proxy.http1.client.response import ClientResponse
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol import revisions as rev
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.http_errors import BACKEND_ERRORS
from mcpproxy.proxy.upstream.transports.event_stream import MAX_MESSAGE
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient, read_json
from mcpproxy.proxy.upstream.transports.session import (
    ServerDescription,
    UpstreamRequest,
    UpstreamSession,
)

_DISCOVER: Final = Raw(b'"mcpproxy-discover"')
_INITIALIZE: Final = Raw(b'"mcpproxy-initialize"')
_NOT_LEGACY: Final = (
    jsonrpc.METHOD_NOT_FOUND,
    jsonrpc.HEADER_MISMATCH,
    jsonrpc.MISSING_CAPABILITY,
    jsonrpc.UNSUPPORTED_VERSION,
)
"""Codes of errors to `initialize` that say that a server speaks the modern era alone. Servers of
the SDKs send the last one."""
_NOT_MODERN: Final = (
    jsonrpc.METHOD_NOT_FOUND,
    jsonrpc.UNSUPPORTED_VERSION,
    jsonrpc.INVALID_REQUEST,
    jsonrpc.INVALID_PARAMS,
)
"""Codes with which servers of the legacy era refuse a method that they do not know."""
_SAID: Final = 200
"""Characters of a server's message that an error shows."""

log = logging.getLogger("mcpproxy.backend")


class EraNotSupported(ProtocolError):
    """It refuses `initialize`; `no_post` where it does not even take a POST.

    `transient` where the error says nothing of the era: it may speak the legacy era all the same.
    """

    def __init__(self, message: str, *, no_post: bool = False, transient: bool = False) -> None:
        super().__init__(message)
        self.no_post = no_post
        self.transient = transient


def discover_request(client: ClientIdentity) -> UpstreamRequest:
    """A `server/discover` of the newest modern revision."""
    params = add_client_meta(None, client, rev.LATEST_MODERN, None)
    return UpstreamRequest(_DISCOVER, "server/discover", params)


def initialize_request(
    client: ClientIdentity, revision: str, *, stamped_too: bool = False
) -> UpstreamRequest:
    """An `initialize` that offers `revision` and says of the client what it said of itself.

    `stamped_too` adds what requests of the modern era carry; servers of the legacy era pass it
    over.
    """
    params: Message = {
        "protocolVersion": jsonrpc.encode_raw(revision),
        "capabilities": Raw(client.capabilities),
        "clientInfo": Raw(client.info or b'{"name":"unknown","version":"0"}'),
    }
    if stamped_too:
        params = add_client_meta(params, client, rev.LATEST_MODERN, None)
    return UpstreamRequest(_INITIALIZE, "initialize", params)


def parse_discover_result(message: Message) -> ServerDescription | None:
    """The greeting in the answer to `server/discover`; None when it does not speak modern.

    Raises ProtocolError for one that is too large.
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
    """Raise ProtocolError for a greeting that is too large: every client gets what it says."""
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
    """The greeting in the answer to `initialize`. Raises EraNotSupported, ProtocolError."""
    if "result" not in message:
        error = jsonrpc.error_of(message)
        transient = error is None or not _rules_out_legacy(error)
        raise EraNotSupported(f"it refuses initialize: {_told(error)}", transient=transient)
    result = jsonrpc.decode_object(message["result"])
    _check_size(result)
    revision = jsonrpc.decode_str(result.get("protocolVersion"))
    if revision not in rev.LEGACY:
        raise ProtocolError("it answers initialize with a revision that is not known")
    if pinned is not None and revision != pinned:
        raise ProtocolError(f"it speaks {revision}, but protocol pins {pinned}")
    return ServerDescription(revision, result)


def greeting_or_error(message: Message) -> ServerDescription | None:
    """Parse the response to `server/discover`. Raises ProtocolError, also for transient errors."""
    found = parse_discover_result(message)
    if found is None and (error := transient_error(message)) is not None:
        raise error
    return found


def transient_error(message: Message) -> ProtocolError | None:
    """The error in an answer to `server/discover` that says nothing of the era; None of others."""
    error = jsonrpc.error_of(message)
    if error is None or error.code in _NOT_MODERN:
        return None
    return ProtocolError(f"it refuses server/discover: {_told(error)}")


def _rules_out_legacy(error: RpcError) -> bool:
    """Return True if an error to `initialize` says that the server speaks the modern era alone.

    It may want the metadata of the modern era.
    """
    lacks_stamp = error.code == jsonrpc.INVALID_PARAMS and rev.META_PREFIX in error.message
    return error.code in _NOT_LEGACY or lacks_stamp


def _told(error: RpcError | None) -> str:
    if error is None:
        return "error unknown"
    said = clean_text(error.message, _SAID)
    return f"error {error.code}: {said}" if said else f"error {error.code}"


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
            with BACKEND_ERRORS:
                await response.read(MAX_MESSAGE)
            return None
        message = await read_json(response)
    except BaseException:
        response.close()
        raise
    if response.status >= 500:
        error = None if message is None else jsonrpc.error_of(message)
        if error is None or not _rules_out_legacy(error):
            said = f": {_told(error)}" if error else ""
            raise Unreachable(f"it answers HTTP {response.status}{said}")
    if message is None or "method" in message or not jsonrpc.answers(message, request_id):
        return None
    return message


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
    """Begin a session of the legacy era. Raises BackendError, such as EraNotSupported."""
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
    first answer that names an era decides. The SDK in Python locks a process to the era of its
    first request and refuses the other one. That in TypeScript begins anew with an `initialize`
    behind `server/discover`, unless it is stamped as requests of the modern era are.
    """

    def __init__(
        self, link: UpstreamSession, client: ClientIdentity, revision: str, pinned: str | None
    ) -> None:
        self._link = link
        self._client = client
        self._revision = revision
        self._pinned = pinned
        self._asked: list[asyncio.Task[Message]] = []
        self.doubt: BackendError | None = None
        """Why the era that comes first was not chosen, where it may be spoken all the same."""

    async def greeting(self, patience: float, *, modern_first: bool) -> ServerDescription:
        """How it introduces itself; after `patience` seconds without an answer to
        `server/discover`, `initialize` follows. Raises BackendError, EraNotSupported among it."""
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
        behind = not discovering.done()
        request = initialize_request(self._client, self._revision, stamped_too=behind)
        initializing = self._ask(request)
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
            found = parse_initialize_result(initializing.result(), self._pinned)
        except EraNotSupported:
            discovered = parse_discover_result(await discovering)
            if discovered is None:
                raise
            return discovered
        if discovering.done():
            self.doubt = transient_error(discovering.result())
        else:
            self.doubt = TimedOut("no answer to server/discover")
        return found

    async def _legacy_or_modern(self) -> ServerDescription:
        answer = await self._ask(initialize_request(self._client, self._revision))
        try:
            return parse_initialize_result(answer, self._pinned)
        except EraNotSupported as error:
            try:
                found = parse_discover_result(await self._ask(discover_request(self._client)))
            except Unreachable:
                # Some programs end at what they don't know.
                raise error from None
            if found is None:
                raise
            self.doubt = error if error.transient else None
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
