"""ProxyClient: how a proxy talks to one server."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mcp import Client as SdkClient

from mcpproxy.proxy.back.backend import Surroundings
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.library.fastmcp_objects import connected_client, unwrapped
from mcpproxy.proxy.library.handlers import (
    FORWARD,
    ElicitationHandler,
    Forward,
    LogHandler,
    ProgressHandler,
    Roots,
    SamplingHandler,
    forwarding_of,
)
from mcpproxy.proxy.library.parts import default_health
from mcpproxy.proxy.library.sdk import SdkSession, is_connected, source_of_client, source_of_session
from mcpproxy.proxy.library.sharing import Session
from mcpproxy.proxy.library.sources import Source, named_headers, source_of
from mcpproxy.proxy.runtime import Options, surroundings


class ProxyClient:
    """A server, and what of its features passes between it and a proxy's clients.

    It need not be connected: a proxy opens a fresh session for each request. Used with
    `async with`, it has one session, which every proxy made from it shares.
    """

    def __init__(
        self,
        target: Any,
        *,
        roots: Roots | Forward | None = FORWARD,
        sampling_handler: SamplingHandler | Forward | None = FORWARD,
        elicitation_handler: ElicitationHandler | Forward | None = FORWARD,
        log_handler: LogHandler | Forward | None = FORWARD,
        progress_handler: ProgressHandler | Forward | None = FORWARD,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        init_timeout: float | None = None,
        protocol: str | None = None,
    ) -> None:
        """`target` is a URL, a path, a transport, client or server, or a configuration.

        A handler that is None withdraws the feature: the server does not see that clients have
        it, or what it sends is dropped. Any other handler answers (or listens) in the client's
        place. Timeouts are in seconds; `protocol` pins an era or a revision.
        """
        self._arguments: dict[str, Any] = {
            "roots": roots,
            "sampling_handler": sampling_handler,
            "elicitation_handler": elicitation_handler,
            "log_handler": log_handler,
            "progress_handler": progress_handler,
            "headers": headers,
            "timeout": timeout,
            "init_timeout": init_timeout,
            "protocol": protocol,
        }
        self._target = target
        self.forwarding = forwarding_of(
            roots, sampling_handler, elicitation_handler, log_handler, progress_handler
        )
        self._sdk = target if isinstance(target, SdkClient) else connected_client(target)
        self.source = self._source(headers, timeout, init_timeout, protocol)
        self.session = self._session()
        self._entered = False

    def _session(self) -> Session | SdkSession:
        if self._sdk is not None and is_connected(self._sdk):
            return SdkSession(self._sdk)
        return Session(self.source, self.forwarding)

    def _source(
        self,
        headers: Mapping[str, str] | None,
        timeout: float | None,
        init_timeout: float | None,
        protocol: str | None,
    ) -> Source:
        if isinstance(self._sdk, SdkClient):
            return source_of_client(self._sdk)
        if self._sdk is not None:
            return source_of_session(self._sdk)
        fields: dict[str, Any] = {}
        if headers:
            fields["headers"] = named_headers(headers)
        timeouts = {"request": timeout, "initialize": init_timeout}
        given = {name: f"{round(t * 1000)}ms" for name, t in timeouts.items() if t is not None}
        if given:
            fields["timeouts"] = given
        target = unwrapped(self._target)
        if isinstance(target, Path):
            target = str(target)
        return source_of(target, protocol, **fields)

    def new(self) -> "ProxyClient":
        """Another client of the same server, with a session of its own."""
        return ProxyClient(self._target, **self._arguments)

    @property
    def is_connected(self) -> bool:
        """Whether it holds a session that proxies share."""
        return self._entered or (self._sdk is not None and isinstance(self.session, SdkSession))

    async def __aenter__(self) -> Self:
        """Connect. Raises ConnectionError."""
        try:
            await self.session.link(_alone())
        except BackendError as error:
            raise ConnectionError(f"{self._target}: {error}") from None
        self._entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the session."""
        self._entered = False
        await self.session.close()


def _alone() -> Surroundings:
    return surroundings(default_health(), Options(), Path.cwd())
