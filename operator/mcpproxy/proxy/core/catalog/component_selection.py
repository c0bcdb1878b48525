"""Components of one backend that clients may use, by the filters of its settings."""

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_filter import NOTHING, ComponentFilter
from mcpproxy.proxy.core.translation.uri_templates import Uri
from mcpproxy.proxy.protocol.kinds import KINDS, RESOURCES, TEMPLATES, ComponentKind


def selections(settings: BackendSettings) -> dict[ComponentKind, ComponentFilter]:
    """Return the filter of components for each kind."""
    return {kind: ComponentFilter.of(settings.components.get(kind.member)) for kind in KINDS}


class ComponentSelection:
    """The filters of one backend, applied to listed and unlisted components."""

    def __init__(self, backend: str, settings: BackendSettings, catalog: Catalog) -> None:
        self._backend = backend
        self._filters = selections(settings)
        self._catalog = catalog

    @property
    def shows_all(self) -> bool:
        """True if clients may use every component of the backend."""
        return not self._catalog.approves and all(
            chosen.everything for chosen in self._filters.values()
        )

    def filter_of(self, kind: ComponentKind, name: str) -> ComponentFilter:
        """Return the filter that applies to a component, by its downstream name or URI."""
        component_filter = self._filters[kind]
        if kind is not RESOURCES:
            return component_filter
        templates = self._filters[TEMPLATES]
        if component_filter.everything and templates.everything:
            return component_filter
        # An unlisted URI may come from a template, which has its own filter.
        if name in self._catalog.names(self._backend, RESOURCES):
            return component_filter
        if Uri(name).is_from(self._catalog.names(self._backend, TEMPLATES)):
            return ComponentFilter(exclude=component_filter.exclude, hidden=component_filter.hidden)
        return component_filter if templates.everything else NOTHING
