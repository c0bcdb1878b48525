"""Requests for the data of a page, and their results. Workers exchange them as JSON."""

from typing import Final

import msgspec

from mcpproxy.proxy.telemetry.recent_calls import RecentCall

PAGE_SIZE: Final = 100
"""Components in one part of the list."""
MAX_NAME: Final = 2048
"""Characters of a name up to which the page links to the definition of a component."""
MAX_FILTER: Final = 200
"""Characters of the text by which components are filtered."""


class OverviewRequest(msgspec.Struct, tag="overview", frozen=True):
    """Request for the state of the proxy and of its backends."""


class ComponentsRequest(msgspec.Struct, tag="components", frozen=True):
    """Request for a part of the list of components."""

    kind: str = "tools"
    text: str = ""
    """Text in the name of the component or of its backend, in any case."""
    offset: int = 0


class DefinitionRequest(msgspec.Struct, tag="definition", frozen=True):
    """Request for one component as its backend defines it, with downstream names."""

    kind: str
    backend: str
    name: str


PageRequest = OverviewRequest | ComponentsRequest | DefinitionRequest


class BackendView(msgspec.Struct):
    """One backend, as this process sees it."""

    name: str
    state: str
    required: bool = True
    reason: str | None = None
    message: str | None = None
    address: str | None = None
    """Address without credentials and query; None if it is unknown."""
    transport: str | None = None
    revision: str | None = None
    server: str | None = None
    session_mode: str | None = None
    components: dict[str, int] = {}
    """Number of components by kind; without kinds whose number is unknown."""
    sessions: int = 0
    in_flight: int = 0
    checked_at: float | None = None
    """End of the last check, in seconds since the epoch."""
    last_failure: str | None = None


class Overview(msgspec.Struct):
    """State of the proxy, as this process sees it."""

    name: str
    namespace: str
    url: str
    """URL of the endpoint."""
    version: str
    catalog_hash: str | None
    config_hash: str
    ready: str
    """Status of Ready, as far as this process can decide it: True, False or Unknown."""
    reason: str
    message: str
    backends: list[BackendView]
    clashes: list[str]
    sessions: int
    streams: int
    in_flight: int
    parked: int
    calls: list[RecentCall] | None
    """The last calls; None if they are not kept."""
    workers: int = 0
    """Number of worker processes; 0 without."""


class ComponentView(msgspec.Struct):
    """One component in the list."""

    name: str
    own_name: str
    """Name or URI at the backend."""
    backend: str
    description: str
    tokens: int
    """Estimated tokens of its definition."""
    overridden: bool
    """True if spec.backends[].components replaces its name, title or description."""
    withheld: bool
    """True if it is not served because it is not approved."""
    hidden_by: str | None
    """Backend that serves the name instead; empty if none does, None if there is no conflict."""


class ComponentPart(msgspec.Struct):
    """A part of the list of components."""

    rows: list[ComponentView]
    total: int
    """Number of components that match the request."""
    counts: dict[str, int]
    """Number of all components, by kind."""
    tokens: int
    """Estimated tokens of all components of the kind that are served."""


class Definition(msgspec.Struct):
    """Definition of a component, as JSON; empty if there is no such component."""

    text: str
    description: str = ""
    whole_text: int = 0
    """Characters of the whole definition, of which `text` is the beginning."""
    whole_description: int = 0
