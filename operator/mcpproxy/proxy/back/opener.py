"""Opening links: which transport and which eras a backend speaks, found out once and remembered.

A backend that speaks both eras is spoken to in the client's own. The probe for the modern era
(`server/discover`) takes only a clear answer for a yes; an answer that says nothing about the era
(401, 429, 5xx, none) is an error, never a verdict.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Literal

from msgspec import Raw

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.proxy.back import sse
from mcpproxy.proxy.back.connection import Response
from mcpproxy.proxy.back.duplex import DuplexLink
from mcpproxy.proxy.back.endpoint import (
    Endpoint,
    read_json,
    session_id_of,
)
from mcpproxy.proxy.back.event_stream import MAX_MESSAGE
from mcpproxy.proxy.back.http import HttpLegacyLink
from mcpproxy.proxy.back.http_modern import HttpModernLink
from mcpproxy.proxy.back.link import Background, Greeting, Link, Outgoing
from mcpproxy.proxy.back.stdio import StdioChannel
from mcpproxy.proxy.back.within import Within
from mcpproxy.proxy.core.eras import stamped
from mcpproxy.proxy.core.errors import NotMcp, TimedOut
from mcpproxy.proxy.core.exchange import INITIALIZED, Client, Discarding
from mcpproxy.proxy.wire import headers as h
from mcpproxy.proxy.wire import jsonrpc
from mcpproxy.proxy.wire import revisions as rev
from mcpproxy.proxy.wire.jsonrpc import Message, RpcError

Era = Literal["legacy", "modern"]
TransportName = Literal["streamable-http", "sse", "stdio"]
_DISCOVER: Final = Raw(b'"mcpproxy-discover"')
_INITIALIZE: Final = Raw(b'"mcpproxy-initialize"')
_NO_ENDPOINT: Final = (400, 404, 405, 406, 415)


class NotLegacy(NotMcp):
    """It does not speak the legacy era; `no_post` where it does not even take a POST."""

    def __init__(self, message: str, *, no_post: bool = False) -> None:
        super().__init__(message)
        self.no_post = no_post


def discover_request(client: Client) -> Outgoing:
    """A `server/discover` of the newest modern revision."""
    params = stamped(None, client, rev.LATEST_MODERN, None)
    return Outgoing(_DISCOVER, "server/discover", params)


def initialize_request(client: Client, revision: str) -> Outgoing:
    """An `initialize` that offers `revision` and says of the client what it said of itself."""
    params: Message = {
        "protocolVersion": jsonrpc.dump(revision),
        "capabilities": Raw(client.capabilities),
        "clientInfo": Raw(client.info or b'{"name":"unknown","version":"0"}'),
    }
    return Outgoing(_INITIALIZE, "initialize", params)


def modern_greeting(message: Message) -> Greeting | None:
    """The greeting in the answer to `server/discover`; None when it does not speak modern."""
    if "result" not in message:
        return None
    result = jsonrpc.members(message["result"])
    offered = jsonrpc.value(result.get("supportedVersions"))
    mutual = [v for v in rev.MODERN if isinstance(offered, list) and v in offered]
    return Greeting(mutual[-1], result) if mutual else None


def speaks_modern(message: Message) -> bool:
    """Whether a refused `server/discover` names a modern revision that we both speak."""
    error = jsonrpc.error_of(message)
    if error is None or error.code != jsonrpc.UNSUPPORTED_VERSION:
        return False
    supported = error.data.get("supported") if isinstance(error.data, dict) else None
    return isinstance(supported, list) and any(v in supported for v in rev.MODERN)


def legacy_greeting(message: Message, pinned: str | None) -> Greeting:
    """The greeting in the answer to `initialize`. Raises NotLegacy, NotMcp."""
    if "result" not in message:
        error = jsonrpc.error_of(message)
        raise NotLegacy(f"it refuses initialize: error {error.code if error else 'unknown'}")
    result = jsonrpc.members(message["result"])
    revision = jsonrpc.string(result.get("protocolVersion"))
    if revision not in rev.LEGACY:
        raise NotMcp("it answers initialize with a revision that is not known")
    if pinned is not None and revision != pinned:
        raise NotMcp(f"it speaks {revision}, but protocol pins {pinned}")
    return Greeting(revision, result)


class Opener:
    """What is remembered of one backend's transport and eras, and how a link is opened."""

    def __init__(self, settings: BackendSettings, background: Background) -> None:
        pin = settings.protocol
        self._deadline = settings.deadlines
        self._in_time = Within(self._deadline.connect + self._deadline.initialize)
        self._background = background
        self._pinned = pin if pin in rev.ALL else None
        self._sharing = settings.session_mode == "Reused"
        self._pinned_era: Era | None = None
        if pin != "auto":
            self._pinned_era = "modern" if pin == "modern" or pin in rev.MODERN else "legacy"
        self._refused: set[Era] = set()
        """Eras that it was asked for and does not speak."""
        self._spoken: set[Era] = set()
        """Eras that it was heard to speak."""
        self.transport: TransportName | None = None

    def forget(self) -> None:
        """The backend failed: it may come back speaking another era."""
        self._refused.clear()
        self._spoken.clear()

    def changed(self) -> bool:
        """Whether anything was opened with other mounted values than those of now, since this was
        asked last; nothing that can still be chosen should be used again then."""
        return False

    def revision_for(self, client: Client) -> str:
        """The legacy revision to offer on behalf of a client."""
        return self._pinned or rev.negotiated(client.revision)

    async def open(self, client: Client) -> Link:
        """A new upstream session for this client, ready for requests. Raises BackendError."""
        try:
            with self._in_time():
                return await self._open(client)
        except RpcError as error:
            raise NotMcp(f"it does not answer as MCP wants: {error}") from None
        except TimeoutError:
            raise TimedOut(
                f"it did not open a session within {self._deadline.initialize:g} s"
            ) from None

    async def _open(self, client: Client) -> Link:
        """The client's own era where the backend speaks it, the other one where it does not."""
        refusal: NotMcp | None = None
        for era in self._eras(client):
            try:
                link = await (self._legacy if era == "legacy" else self._modern)(client)
                if link is not None:
                    self._spoken.add(era)
                    return link
                self._refused.add("modern")
                refusal = refusal or NotMcp("it does not speak the modern era")
            except NotLegacy as error:
                self._refused.add("legacy")
                refusal = error
        self._refused.clear()
        raise refusal or NotMcp("it speaks no era of MCP")

    def _eras(self, client: Client) -> list[Era]:
        if self._pinned_era is not None:
            return [self._pinned_era]
        # Where sessions are to be shared, the era that has none comes first.
        modern_first = client.modern or self._sharing
        order: list[Era] = ["modern", "legacy"] if modern_first else ["legacy", "modern"]
        return [era for era in order if era not in self._refused] or order

    async def _legacy(self, client: Client) -> Link | None:
        """A link of the legacy era. Raises NotLegacy, BackendError."""
        raise NotImplementedError

    async def _modern(self, client: Client) -> Link | None:
        """A link of the modern era; None when the backend does not speak it."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let go of connections."""


class HttpOpener(Opener):
    """Streamable HTTP of both eras, and HTTP+SSE."""

    transport: TransportName | None

    def __init__(
        self,
        endpoint: Endpoint,
        settings: BackendSettings,
        background: Background,
        headers_changed: Callable[[], bool] = lambda: False,
        tls_changed: Callable[[], bool] = lambda: False,
    ) -> None:
        """The last two say what `changed` does, of requests and of connections."""
        super().__init__(settings, background)
        self._endpoint = endpoint
        self._headers_changed = headers_changed
        self._tls_changed = tls_changed
        self._fixed_transport = settings.transport
        if settings.transport == "sse":
            self._pinned_era = "legacy"
        self._greeting: Greeting | None = None
        self._sse_only = settings.transport == "sse"

    def forget(self) -> None:
        """See Opener."""
        super().forget()
        self._sse_only = self._fixed_transport == "sse"
        self._greeting = None

    def changed(self) -> bool:
        """See Opener. Connections that are free are closed, others with their answer."""
        others = self._headers_changed()
        if self._tls_changed():
            self._endpoint.client.renew()
            others = True
        return others

    async def _modern(self, client: Client) -> Link | None:
        if self._greeting is None:
            message = await self._discover(client)
            if message is not None and speaks_modern(message):
                # It is of the era, and would have taken another try better.
                message = await self._discover(client)
            self._greeting = modern_greeting(message) if message is not None else None
        if self._greeting is None:
            return None
        self.transport = "streamable-http"
        return HttpModernLink(self._endpoint.of(client), self._greeting)

    async def _discover(self, client: Client) -> Message | None:
        outgoing = discover_request(client)
        headers = (
            (h.PROTOCOL_VERSION, rev.LATEST_MODERN.encode()),
            (h.METHOD, b"server/discover"),
        )
        response = await self._endpoint.of(client).post(outgoing.body(), headers)
        return await _first_response(self._endpoint, response, outgoing.id)

    async def _legacy(self, client: Client) -> Link:
        if not self._sse_only:
            try:
                return await self._legacy_post(client)
            except NotLegacy as error:
                if self._fixed_transport != "auto" or not error.no_post or self._greeting:
                    raise
                refusal = error
            try:
                return await self._sse(client)
            except NotMcp:
                # Neither way leads to this era; it may speak the other one.
                raise refusal from None
        return await self._sse(client)

    async def _legacy_post(self, client: Client) -> Link:
        outgoing = initialize_request(client, self.revision_for(client))
        endpoint = self._endpoint.of(client)
        response = await endpoint.post(outgoing.body(), ())
        status, session_id = response.status, session_id_of(response)
        message = await _first_response(self._endpoint, response, outgoing.id)
        if message is None:
            why = f"it answers initialize with HTTP {status} and no MCP"
            raise NotLegacy(why, no_post=True) if status in _NO_ENDPOINT else NotMcp(why)
        greeting = legacy_greeting(message, self._pinned)
        self.transport = "streamable-http"
        link = HttpLegacyLink(
            endpoint, greeting, session_id, self._background, shared=self._sharing
        )
        if link.stateful:
            await link.notify(jsonrpc.told(INITIALIZED))
        return link

    async def _sse(self, client: Client) -> Link:
        channel = await sse.connect(self._endpoint.of(client), self._deadline.initialize)
        link = DuplexLink(channel, self._background)
        await _initialize(link, client, self.revision_for(client), self._pinned)
        self.transport, self._sse_only = "sse", True
        return link

    async def close(self) -> None:
        """See Opener."""
        self._endpoint.client.close()


async def _first_response(
    endpoint: Endpoint, response: Response, request_id: Raw
) -> Message | None:
    """The response to a request of our own, whatever else is streamed; None when there is none."""
    if response.media_type != h.EVENT_STREAM:
        if response.status >= 400 and response.media_type != h.JSON:
            await response.read(MAX_MESSAGE)
            return None
        message = await read_json(response)
        if message is None or "method" in message or not jsonrpc.answers(message, request_id):
            return None
        return message
    reader = endpoint.events(response)
    while (messages := await reader.messages()) is not None:
        for message in messages:
            if "method" not in message and jsonrpc.answers(message, request_id):
                response.leave()
                return message
    return None


async def _initialize(link: DuplexLink, client: Client, revision: str, pin: str | None) -> None:
    try:
        answer = await link.request(initialize_request(client, revision), Discarding(client))
        link.greeting = legacy_greeting(answer, pin)
        await link.notify(jsonrpc.told(INITIALIZED))
    except BaseException:
        await link.close()
        raise


class StdioOpener(Opener):
    """Child processes: one for each link; the first message decides the era of each."""

    def __init__(
        self,
        spawn: Any,
        settings: BackendSettings,
        background: Background,
        env_changed: Callable[[], bool] = lambda: False,
    ) -> None:
        """`spawn` is an async callable that starts a process and returns its StdioChannel;
        `env_changed` says what `changed` does of the environments of processes."""
        super().__init__(settings, background)
        self._spawn = spawn
        self._env_changed = env_changed
        self.transport = "stdio"

    def changed(self) -> bool:
        """See Opener."""
        return self._env_changed()

    async def _legacy(self, client: Client) -> Link:
        link = await self._link()
        await _initialize(link, client, self.revision_for(client), self._pinned)
        return link

    async def _link(self) -> DuplexLink:
        channel: StdioChannel = await self._spawn()
        return DuplexLink(channel, self._background)

    async def _modern(self, client: Client) -> Link | None:
        """A link of the modern era; None when the server does not know `server/discover`."""
        link = await self._link()
        greeting = None
        # One that has answered before is slow to start, and not of another era.
        patience = None if "modern" in self._spoken else self._deadline.initialize / 2
        try:
            async with asyncio.timeout(patience):
                answer = await link.request(discover_request(client), Discarding(client))
            greeting = modern_greeting(answer)
        except TimeoutError:
            # Some servers say nothing at all to what they don't know.
            greeting = None
        finally:
            if greeting is None:
                await link.close()
        if greeting is None:
            return None
        link.greeting = greeting
        return link
