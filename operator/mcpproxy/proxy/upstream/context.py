"""Dependencies that all backends of one proxy share, among them the events that they publish."""

import functools
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Generic, ParamSpec

from mcpproxy.api.defaults import HealthPolicy
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.exchange import (
    BackendCredentials,
    CallContext,
    ClientIdentity,
    NullContext,
)
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import ComponentKind
from mcpproxy.proxy.upstream.mounted.values import MountedValues
from mcpproxy.proxy.upstream.sign_in.settings import SignIn, state_directory

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import BackendSpec
    from mcpproxy.proxy.results.kept_results import KeptResults
    from mcpproxy.proxy.upstream.sign_in.credentials import SignInCredentials

P = ParamSpec("P")
ContextFactory = Callable[[ClientIdentity], CallContext]
"""Function that returns the context of a client."""


class Topic(Generic[P]):
    """Subscribers that are called with each event of one sort."""

    def __init__(self) -> None:
        self._subscribers: list[Callable[P, None]] = []

    def subscribe(self, subscriber: Callable[P, None]) -> None:
        """Call `subscriber` with each event from now on."""
        self._subscribers.append(subscriber)

    def publish(self, *event: P.args, **named: P.kwargs) -> None:
        """Call all subscribers."""
        for subscriber in self._subscribers:
            subscriber(*event, **named)


class BackendEvents:
    """Events of all backends of one proxy. Their other parts subscribe; backends only publish."""

    def __init__(self) -> None:
        self.list_change: Topic[[set[ComponentKind], str]] = Topic()
        """The kinds whose lists changed: for the client of a session, or with an empty session for
        all clients. Without kinds, only what the status reports has changed."""
        self.resource_update: Topic[[str, Message]] = Topic()
        """A backend and its notification that a resource changed, with the backend's URI."""
        self.check: Topic[[str, bool]] = Topic()
        """A backend and the result of a check that this process ran on its own schedule."""
        self.token_request: Topic[[str, str]] = Topic()
        """A backend and the result of a request for a token: issued, refused or unavailable."""
        self.pages: Topic[[str, ComponentKind, list[Message]]] = Topic()
        """A backend, and the pages of a list as it sent them."""


class SessionContexts:
    """Contexts of client sessions, which receive messages that belong to no request.

    Until the downstream side provides them, such messages are dropped.
    """

    def __init__(self) -> None:
        self._factories: dict[str | None, ContextFactory] = {None: NullContext}

    def provide(self, build: ContextFactory, session: str | None = None) -> Callable[[], None]:
        """Use `build` for contexts from now on: those of one session, or of all that have no
        factory of their own. Return its canceller."""
        self._factories[session] = build

        def withdraw() -> None:
            if session is not None:
                self._factories.pop(session, None)

        return withdraw

    def context_of(self, client: ClientIdentity) -> CallContext:
        """Return the context of a client's session."""
        return self._factories.get(client.session, self._factories[None])(client)


@dataclass(frozen=True, slots=True)
class BackendContext:
    """Dependencies that all backends of one proxy share."""

    catalog: Catalog
    policy: HealthPolicy
    values: MountedValues
    resolve: Mapping[str, str]
    """Name of a Service or host → `host:port` to connect to instead."""
    info: bytes
    """The proxy's introduction as a client, as JSON."""
    tls: Callable[[], ssl.SSLContext]
    directory: Path
    """Base of relative paths of stdio servers."""
    sealer: Sealer
    """Seals task ids and cursors, which clients may send to any instance."""
    kept_results: "KeptResults | None" = None
    """Results that are too large to send; None unless some backend links to them."""
    seals_task_ids: bool = False
    """True if there are several backends, so that task ids have to name theirs."""
    probe_delay_factor: float = 1.0
    """Multiple of the check interval to wait for the result of another process."""
    events: BackendEvents = field(default_factory=BackendEvents)
    sign_ins: Mapping[str, SignIn] = field(default_factory=dict)
    """Backend → sign-in of the user of this proxy."""
    session_contexts: SessionContexts = field(default_factory=SessionContexts)

    def credentials_for(
        self,
        spec: "BackendSpec",
        url: str,
        tls: Callable[[], ssl.SSLContext],
        resolve: Mapping[str, str],
    ) -> BackendCredentials | None:
        """Return the credentials for a backend with `auth`, which is reached with `tls`."""
        # PyJWT and cryptography are large, and most proxies never load them.
        from mcpproxy.proxy.upstream.credentials.factory import CredentialsFactory

        report = functools.partial(self.events.token_request.publish, spec.name)
        return CredentialsFactory(spec, url, self.values, self.tls, tls, resolve, report).build()

    def sign_in_to(
        self,
        backend: str,
        url: str,
        tls: Callable[[], ssl.SSLContext],
        resolve: Mapping[str, str],
    ) -> "SignInCredentials | None":
        """Return the credentials of the user for a backend; None without a sign-in."""
        settings = self.sign_ins.get(backend)
        if settings is None:
            return None
        # Most proxies have no sign-in.
        from mcpproxy.proxy.upstream.sign_in.credentials import SignInCredentials
        from mcpproxy.proxy.upstream.sign_in.store import SignInFile

        file = SignInFile(state_directory(dict(environ)), backend, url, settings.client_id)
        return SignInCredentials(backend, url, settings, file, tls, resolve)
