"""ProxyClient: the connection of a proxy to one server."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mcp import Client as SdkClient

from mcpproxy.library.client_handlers import (
    FORWARD,
    ElicitationHandler,
    ForwardFeature,
    LogHandler,
    ProgressHandler,
    Roots,
    SamplingHandler,
    feature_policy_of,
)
from mcpproxy.library.fastmcp_objects import connected_client, unwrapped
from mcpproxy.library.sessions.backend_factory import default_health
from mcpproxy.library.sessions.sdk_session import (
    SdkSession,
    is_connected,
    target_of_client,
    target_of_session,
)
from mcpproxy.library.sessions.session_sharing import ClientSession
from mcpproxy.library.targets import ServerTarget, named_headers, target_of
from mcpproxy.proxy.embed import (
    BackendContext,
    BackendError,
    RuntimeOptions,
    build_backend_context,
)


class ProxyClient:
    """A server, and the policy for features that pass between it and a proxy's clients.

    The client need not be connected: a proxy opens a new session for each request. Inside `async
    with`, the client has one session, which all proxies made from it share.
    """

    def __init__(
        self,
        target: Any,
        *,
        roots: Roots | ForwardFeature | None = FORWARD,
        sampling_handler: SamplingHandler | ForwardFeature | None = FORWARD,
        elicitation_handler: ElicitationHandler | ForwardFeature | None = FORWARD,
        log_handler: LogHandler | ForwardFeature | None = FORWARD,
        progress_handler: ProgressHandler | ForwardFeature | None = FORWARD,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        init_timeout: float | None = None,
        protocol: str | None = None,
    ) -> None:
        """Create a client for `target`: a URL, path, transport, client, server or configuration.

        A handler that is None disables the feature: the server does not see that clients support
        it, or its messages are dropped. Any other handler responds to, or receives, the messages
        instead of the client. Timeouts are in seconds; `protocol` pins an era or a revision.
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
        self.forwarding = feature_policy_of(
            roots, sampling_handler, elicitation_handler, log_handler, progress_handler
        )
        self._sdk = target if isinstance(target, SdkClient) else connected_client(target)
        self.source = self._source(headers, timeout, init_timeout, protocol)
        self.session = self._session()
        self._entered = False

    def _session(self) -> ClientSession | SdkSession:
        if self._sdk is not None and is_connected(self._sdk):
            return SdkSession(self._sdk)
        return ClientSession(self.source, self.forwarding)

    def _source(
        self,
        headers: Mapping[str, str] | None,
        timeout: float | None,
        init_timeout: float | None,
        protocol: str | None,
    ) -> ServerTarget:
        if isinstance(self._sdk, SdkClient):
            return target_of_client(self._sdk)
        if self._sdk is not None:
            return target_of_session(self._sdk)
        fields: dict[str, Any] = {}
        if headers:
            fields["headers"] = named_headers(headers)
        timeouts = {"request": timeout, "initialize": init_timeout}
        set_timeouts = {
            name: f"{round(t * 1000)}ms" for name, t in timeouts.items() if t is not None
        }
        if set_timeouts:
            fields["timeouts"] = set_timeouts
        target = unwrapped(self._target)
        if isinstance(target, Path):
            target = str(target)
        return target_of(target, protocol, **fields)

    def new(self) -> "ProxyClient":
        """Return another client of the same server, with a separate session."""
        return ProxyClient(self._target, **self._arguments)

    @property
    def is_connected(self) -> bool:
        """True if the client holds a session that proxies share."""
        return self._entered or (self._sdk is not None and isinstance(self.session, SdkSession))

    async def __aenter__(self) -> Self:
        """Connect to the server. Raise ConnectionError."""
        try:
            await self.session.link(_default_context())
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


def _default_context() -> BackendContext:
    return build_backend_context(default_health(), RuntimeOptions(), Path.cwd())
