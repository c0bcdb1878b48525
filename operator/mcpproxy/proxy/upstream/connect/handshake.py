"""Requests that begin a session, and parsing of the eras and revisions in their responses."""

import asyncio
import logging
from typing import Final

from msgspec import Raw

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.sessions import GREETING, PROGRAM_PROBE_TIME
from mcpproxy.proxy.core.errors import (
    BackendError,
    ProcessExited,
    ProtocolError,
    TimedOut,
    Unreachable,
)
from mcpproxy.proxy.core.exchange import INITIALIZED, ClientIdentity, NullContext
from mcpproxy.proxy.core.translation.era_translation import add_client_meta
from mcpproxy.proxy.http1.client.connection import ClientResponse
from mcpproxy.proxy.protocol import headers as h
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol import revisions as rev
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.http_errors import BACKEND_ERRORS
from mcpproxy.proxy.upstream.json_responses import read_json
from mcpproxy.proxy.upstream.transports.event_stream import MAX_MESSAGE
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient
from mcpproxy.proxy.upstream.transports.session import (
    ServerDescription,
    UpstreamRequest,
    UpstreamSession,
)

_DISCOVER: Final = Raw(b'"mcpproxy-discover"')
INITIALIZE: Final = Raw(b'"mcpproxy-initialize"')
"""Id of the request `initialize`."""
_NOT_LEGACY: Final = (
    jsonrpc.METHOD_NOT_FOUND,
    jsonrpc.HEADER_MISMATCH,
    jsonrpc.MISSING_CAPABILITY,
    jsonrpc.UNSUPPORTED_VERSION,
)
"""Error codes of `initialize` from servers of the modern era alone. The SDKs' servers send the
last one."""
_NOT_MODERN: Final = (
    jsonrpc.METHOD_NOT_FOUND,
    jsonrpc.UNSUPPORTED_VERSION,
    jsonrpc.INVALID_REQUEST,
    jsonrpc.INVALID_PARAMS,
)
"""Error codes with which legacy servers refuse an unknown method."""
_MAX_ERROR_TEXT: Final = 200
"""Characters of a server's message that an error shows."""

log = logging.getLogger("mcpproxy.backend")


class EraNotSupported(ProtocolError):
    """The backend refuses `initialize`, or does not accept a POST at all (`no_post`).

    If `transient`, the error proves nothing about the era; the backend may support the legacy era.
    """

    def __init__(self, message: str, *, no_post: bool = False, transient: bool = False) -> None:
        super().__init__(message)
        self.no_post = no_post
        self.transient = transient


def discover_request(client: ClientIdentity) -> UpstreamRequest:
    """Build a `server/discover` of the latest modern revision."""
    params = add_client_meta(None, client, rev.LATEST_MODERN, None)
    return UpstreamRequest(_DISCOVER, "server/discover", params)


def initialize_request(
    client: ClientIdentity, revision: str, *, stamped_too: bool = False
) -> UpstreamRequest:
    """Build an `initialize` that offers `revision`, with the client's capabilities and name.

    `stamped_too` adds the `_meta` of modern requests, which legacy servers ignore.
    """
    params: Message = {
        "protocolVersion": jsonrpc.encode_raw(revision),
        "capabilities": Raw(client.capabilities),
        "clientInfo": Raw(client.info or b'{"name":"unknown","version":"0"}'),
    }
    if stamped_too:
        params = add_client_meta(params, client, rev.LATEST_MODERN, None)
    return UpstreamRequest(INITIALIZE, "initialize", params)


def parse_discover_result(message: Message) -> ServerDescription | None:
    """Parse a response to `server/discover`; None if the server does not support the modern era.

    Raises ProtocolError if the result is too large.
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
    """Raise ProtocolError if the introduction is too large; every client receives it."""
    if sum(map(len, result.values())) > GREETING.value:
        GREETING.record()
        raise ProtocolError(
            f"the result of initialize or server/discover has more than {GREETING.value} bytes"
        )


def names_modern_revision(message: Message) -> bool:
    """True if a refused `server/discover` names a modern revision that the proxy supports."""
    error = jsonrpc.error_of(message, understood=True)
    if error is None or error.code != jsonrpc.UNSUPPORTED_VERSION:
        return False
    supported = error.data.get("supported") if isinstance(error.data, dict) else None
    return isinstance(supported, list) and any(v in supported for v in rev.MODERN)


def parse_initialize_result(message: Message, pinned: str | None) -> ServerDescription:
    """Parse the response to `initialize`. Raises EraNotSupported, ProtocolError."""
    if "result" not in message:
        error = jsonrpc.error_of(message)
        transient = error is None or not _rules_out_legacy(error)
        raise EraNotSupported(
            f"the backend refused initialize: {_describe_error(error)}", transient=transient
        )
    result = jsonrpc.decode_object(message["result"])
    _check_size(result)
    revision = jsonrpc.decode_str(result.get("protocolVersion"))
    if revision not in rev.LEGACY:
        raise ProtocolError("the backend responded to initialize with an unknown revision")
    if pinned is not None and revision != pinned:
        raise ProtocolError(f"the backend uses revision {revision}, but protocol is {pinned}")
    return ServerDescription(revision, result)


def read_description(message: Message) -> ServerDescription | None:
    """Parse the response to `server/discover`. Raises ProtocolError, also for transient errors."""
    introduction = parse_discover_result(message)
    if introduction is None and (error := transient_error(message)) is not None:
        raise error
    return introduction


def transient_error(message: Message) -> ProtocolError | None:
    """Return the error in a response to `server/discover` if it proves nothing about the era,
    else None."""
    error = jsonrpc.error_of(message)
    if error is None or error.code in _NOT_MODERN:
        return None
    return ProtocolError(f"the backend refused server/discover: {_describe_error(error)}")


def _rules_out_legacy(error: RpcError) -> bool:
    """Return True if an error of `initialize` proves that the server supports the modern era alone.

    It may complain about missing `_meta` of the modern era.
    """
    lacks_meta = error.code == jsonrpc.INVALID_PARAMS and rev.META_PREFIX in error.message
    return error.code in _NOT_LEGACY or lacks_meta


def _describe_error(error: RpcError | None) -> str:
    if error is None:
        return "unknown error"
    text = clean_text(error.message, _MAX_ERROR_TEXT)
    return f"error {error.code}: {text}" if text else f"error {error.code}"


async def send_initialized(link: UpstreamSession) -> None:
    """Send `notifications/initialized`. Never raises."""
    try:
        await link.notify(jsonrpc.notification_message(INITIALIZED))
    except BackendError as error:
        log.info("a backend refused notifications/initialized: %s", error)


async def first_response(
    endpoint: McpHttpClient, response: ClientResponse, request_id: Raw
) -> Message | None:
    """Return the response to a request of the proxy, ignoring other messages; None without a
    response.

    Raises BackendError.
    """
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
            detail = f": {_describe_error(error)}" if error else ""
            raise Unreachable(f"the backend responded with HTTP {response.status}{detail}")
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
    """Begin a legacy session. Raises BackendError, including EraNotSupported."""
    try:
        answer = await link.request(initialize_request(client, revision), NullContext(client))
        link.server = parse_initialize_result(answer, pin)
        await link.notify(jsonrpc.notification_message(INITIALIZED))
    except BaseException:
        await link.close()
        raise


class StdioHandshake:
    """The first requests to a new process that may support either era.

    The requests are never cancelled: a slow process finds both in its input, and the first response
    that names an era decides. The Python SDK locks a process to the era of its first request and
    refuses the other one. The TypeScript SDK starts over at an `initialize` after
    `server/discover`, unless the `initialize` carries the `_meta` of modern requests.
    """

    def __init__(
        self, link: UpstreamSession, client: ClientIdentity, revision: str, pinned: str | None
    ) -> None:
        self._link = link
        self._client = client
        self._revision = revision
        self._pinned = pinned
        self._sent: list[asyncio.Task[Message]] = []
        self.doubt: BackendError | None = None
        """Error of the preferred era's request, if the backend may support that era
        nevertheless."""

    async def server(self, patience: float, *, modern_first: bool) -> ServerDescription:
        """Return the server's introduction.

        If `modern_first`, `initialize` follows when `server/discover` has no response after
        `patience` seconds. Raises BackendError, including EraNotSupported.
        """
        if not modern_first:
            return await self._legacy_or_modern()
        discover = self._send(discover_request(self._client))
        done, _ = await asyncio.wait((discover,), timeout=patience)
        if not done:
            PROGRAM_PROBE_TIME.record()
        elif names_modern_revision(discover.result()):
            discover = self._send(discover_request(self._client))
            await discover
        if (
            discover.done()
            and (introduction := parse_discover_result(discover.result())) is not None
        ):
            return introduction
        is_pending = not discover.done()
        request = initialize_request(self._client, self._revision, stamped_too=is_pending)
        initialize_task = self._send(request)
        waiting = {initialize_task} if discover.done() else {initialize_task, discover}
        while True:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if discover.done() and discover in waiting:
                waiting.discard(discover)
                if (introduction := parse_discover_result(discover.result())) is not None:
                    return introduction
            if initialize_task.done():
                return await self._decide(initialize_task, discover)

    async def _decide(
        self, initializing: "asyncio.Task[Message]", discovering: "asyncio.Task[Message]"
    ) -> ServerDescription:
        try:
            introduction = parse_initialize_result(initializing.result(), self._pinned)
        except EraNotSupported:
            discovered = parse_discover_result(await discovering)
            if discovered is None:
                raise
            return discovered
        if discovering.done():
            self.doubt = transient_error(discovering.result())
        else:
            self.doubt = TimedOut("no response to server/discover")
        return introduction

    async def _legacy_or_modern(self) -> ServerDescription:
        answer = await self._send(initialize_request(self._client, self._revision))
        try:
            return parse_initialize_result(answer, self._pinned)
        except EraNotSupported as error:
            try:
                introduction = parse_discover_result(
                    await self._send(discover_request(self._client))
                )
            except (ProcessExited, Unreachable):
                # Some programs exit when they receive an unknown method.
                raise error from None
            if introduction is None:
                raise
            self.doubt = error if error.transient else None
            return introduction

    def _send(self, outgoing: UpstreamRequest) -> "asyncio.Task[Message]":
        task = asyncio.ensure_future(self._link.request(outgoing, NullContext(self._client)))
        self._sent.append(task)
        return task

    def close(self) -> None:
        """Stop waiting for responses."""
        for task in self._sent:
            if task.done():
                task.cancelled() or task.exception()
            else:
                task.cancel()
