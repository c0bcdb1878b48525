"""Filter of a catalog that offers approved components only.

The catalog keeps the complete lists so that drift can be reported. The spec is the only state, so a
restart withholds the same components.
"""

import logging
from dataclasses import replace

from mcpproxy.api.catalog_digests import NAMED, CatalogDigests
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_list import ComponentList
from mcpproxy.proxy.core.catalog.digests import component_digest
from mcpproxy.proxy.core.translation.uri_templates import Uri
from mcpproxy.proxy.protocol.kinds import RESOURCES, TEMPLATES, ComponentKind

log = logging.getLogger("mcpproxy.catalog")


class ApprovalFilter:
    """Filter that withholds every component whose digest is not the approved one."""

    approves = True

    def __init__(self, approved: CatalogDigests) -> None:
        self._approved = approved

    def visible_part(
        self, backend: str, kind: ComponentKind, components: ComponentList, *, changed: bool
    ) -> ComponentList:
        approved = self._approved.get(kind.member, {})
        pairs = [*zip(components.names, components.items, strict=True)]
        kept = [pair for pair in pairs if approved.get(pair[0]) == component_digest(pair[1])]
        if len(kept) == len(pairs):
            return components
        names = tuple(name for name, _ in kept)
        if changed:
            kept_names = {*names}
            withheld = sorted({name for name in components.names if name not in kept_names})
            log.warning(
                "backend %s: withheld %d of its %s because they are not approved: %s",
                *(backend, len(withheld), kind.member, ", ".join(withheld[:NAMED])),
            )
        headers = {name: components.headers[name] for name in names if name in components.headers}
        return replace(components, names=names, items=tuple(i for _, i in kept), headers=headers)

    def withholds(self, catalog: Catalog, backend: str, kind: ComponentKind, name: str) -> bool:
        # Backends do not list every resource. An unlisted resource is served unless its URI can
        # only come from templates that are withheld.
        if catalog.owner(kind, name) == backend:
            return False
        if kind is RESOURCES and _is_unlisted(catalog, backend, name):
            return False
        log.debug("%s of backend %s is not approved: %s", kind.member, backend, name)
        return True


def _is_unlisted(catalog: Catalog, backend: str, uri: str) -> bool:
    """Return True if a URI is not a listed resource and may be used."""
    if catalog.unfiltered.owner(RESOURCES, uri) is not None:
        return False
    compared = Uri(uri)
    if compared.is_from(catalog.names(backend, TEMPLATES)):
        return True
    if any(catalog.unfiltered.get(backend, kind) is None for kind in (RESOURCES, TEMPLATES)):
        # The backend's list is unknown.
        return False
    return not compared.may_be_from(catalog.unfiltered.names(backend, TEMPLATES))
