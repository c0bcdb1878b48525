"""A part of a server: what one backend of its gateway is made from, before it runs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from mcpproxy.api.defaults import BackendSettings, HealthPolicy, effective_settings, health_policy
from mcpproxy.api.v1alpha1 import BackendSpec, MCPProxySpec
from mcpproxy.proxy.upstream.backend import Backend, BackendContext
from mcpproxy.proxy.upstream.client_features import EVERYTHING, FeaturePolicy
from mcpproxy.proxy.upstream.connect.negotiation import Connector
from mcpproxy.proxy.upstream.transports.session import TaskSet

OpenerOf = Callable[[BackendSettings, BackendContext, TaskSet], Connector]

_EMPTY: Final = MCPProxySpec.model_construct(backends=[])


def default_settings() -> BackendSettings:
    """What holds for a backend of which nothing is said; it has no prefix."""
    return effective_settings(_EMPTY, BackendSpec.model_construct(name="backend", prefix=""))


def default_health() -> HealthPolicy:
    """How backends of the library are watched."""
    return health_policy(_EMPTY)


@dataclass(frozen=True)
class BackendDefinition:
    """One backend to be."""

    name: str
    settings: BackendSettings
    opener: OpenerOf
    warm_each: int = 1
    """Sessions kept warm for each request at a time."""
    forwarding: FeaturePolicy = EVERYTHING
    asks: bool = False
    """Whether it may ask while it answers, whatever era it speaks."""

    def named(self, name: str) -> "BackendDefinition":
        """The same part under another name."""
        return replace(self, name=name)

    def prefixed(self, prefix: str) -> "BackendDefinition":
        """The same part with a prefix."""
        return replace(self, settings=replace(self.settings, prefix=prefix))

    def backend(self, around: BackendContext) -> Backend:
        """The backend, not yet started."""
        return Backend(
            self.name,
            self.settings,
            lambda background: self.opener(self.settings, around, background),
            around,
            warm_each=self.warm_each,
            forwarding=self.forwarding,
            asks=self.asks,
        )
