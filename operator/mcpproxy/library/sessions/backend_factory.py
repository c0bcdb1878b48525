"""Definitions of backends, from which a server builds the backends of its gateway.

The settings of absent fields are those of `api/defaults.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from mcpproxy.api.defaults import BackendSettings, HealthPolicy, health_policy
from mcpproxy.api.v1alpha1 import MCPProxySpec
from mcpproxy.proxy.embed import (
    EVERYTHING,
    Backend,
    BackendContext,
    Connector,
    FeaturePolicy,
    TaskSet,
)

ConnectorFactory = Callable[[BackendSettings, BackendContext, TaskSet], Connector]

_EMPTY: Final = MCPProxySpec.model_construct(backends=[])


def default_health() -> HealthPolicy:
    """Return the health policy for backends of the library."""
    return health_policy(_EMPTY)


@dataclass(frozen=True)
class BackendDefinition:
    """The definition of one backend, before it runs."""

    name: str
    settings: BackendSettings
    make_connector: ConnectorFactory
    warm_each: int = 1
    """Number of warm sessions for each concurrent request."""
    forwarding: FeaturePolicy = EVERYTHING
    asks: bool = False
    """True if the backend may send requests during a call, whatever its era."""

    def named(self, name: str) -> "BackendDefinition":
        """Return the same definition under another name."""
        return replace(self, name=name)

    def prefixed(self, prefix: str) -> "BackendDefinition":
        """Return the same definition with a prefix."""
        return replace(self, settings=replace(self.settings, prefix=prefix))

    def backend(self, context: BackendContext) -> Backend:
        """Return the backend, which is not started yet."""
        return Backend(
            self.name,
            self.settings,
            lambda background: self.make_connector(self.settings, context, background),
            context,
            warm_each=self.warm_each,
            forwarding=self.forwarding,
            asks=self.asks,
        )
