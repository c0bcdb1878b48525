"""Catalog that offers approved components only.

The complete lists are kept so that drift can be reported; the base class holds the approved part of
them. The spec is the only state, so a restart withholds the same components.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from mcpproxy.api.v1alpha1.catalog import CatalogDigests
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_list import ComponentList
from mcpproxy.proxy.core.catalog.digests import component_digest
from mcpproxy.proxy.core.translation.uri_templates import Uri
from mcpproxy.proxy.protocol.kinds import RESOURCES, TEMPLATES, ComponentKind
from mcpproxy.report_aggregation import NAMED

log = logging.getLogger("mcpproxy.catalog")


class ApprovedCatalog(Catalog):
    """Catalog that withholds every component whose digest is not the approved one."""

    approves = True

    def __init__(self, approved: CatalogDigests, *, serves_clashes: bool = True) -> None:
        super().__init__(serves_clashes=serves_clashes)
        self.on_offer: Callable[[], None] = lambda: None
        """Called when the backends' components change, even if no client sees the change."""
        self._approved = approved
        self._offered = Catalog(serves_clashes=serves_clashes)

    def put(
        self,
        backend: str,
        kind: ComponentKind,
        components: ComponentList | None,
        seen: bytes | None = None,
    ) -> bool:
        before = self._offered.version
        self._offered.put(backend, kind, components, seen)
        offered = self._offered.version != before
        if components is not None:
            components = self._approved_part(backend, kind, components, log_withheld=offered)
        changed = super().put(backend, kind, components, seen)
        if offered:
            self.version += 1
            self.on_offer()
        return changed

    def _approved_part(
        self, backend: str, kind: ComponentKind, components: ComponentList, *, log_withheld: bool
    ) -> ComponentList:
        approved = self._approved.get(kind.member, {})
        pairs = [*zip(components.names, components.items, strict=True)]
        kept = [pair for pair in pairs if approved.get(pair[0]) == component_digest(pair[1])]
        if len(kept) == len(pairs):
            return components
        names = tuple(name for name, _ in kept)
        if log_withheld:
            kept_names = {*names}
            withheld = sorted({name for name in components.names if name not in kept_names})
            log.warning(
                "backend %s: withheld %d of its %s because they are not approved: %s",
                *(backend, len(withheld), kind.member, ", ".join(withheld[:NAMED])),
            )
        headers = {name: components.headers[name] for name in names if name in components.headers}
        return replace(components, names=names, items=tuple(i for _, i in kept), headers=headers)

    def is_withheld(self, backend: str, kind: ComponentKind, name: str) -> bool:
        # Backends do not list every resource. An unlisted resource is served unless its URI can
        # only come from templates that are withheld.
        if self.owner(kind, name) == backend:
            return False
        if kind is RESOURCES and self._unlisted(backend, name):
            return False
        log.debug("%s of backend %s is not approved: %s", kind.member, backend, name)
        return True

    def _unlisted(self, backend: str, uri: str) -> bool:
        """Return True if a URI is not a listed resource and may be used."""
        if self._offered.owner(RESOURCES, uri) is not None:
            return False
        compared = Uri(uri)
        if compared.is_from(self.names(backend, TEMPLATES)):
            return True
        if any(self._offered.get(backend, kind) is None for kind in (RESOURCES, TEMPLATES)):
            # The backend's list is unknown.
            return False
        return not compared.may_be_from(self._offered.names(backend, TEMPLATES))

    def digests(self) -> dict[str, dict[str, str]]:
        """Return the digests of all components that backends offer, withheld or not."""
        return self._offered.digests()
