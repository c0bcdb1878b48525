"""A catalog that shows approved components alone.

All listings are kept, so that it is known what would be shown; the base class has those parts
of them that were approved. There is no state besides the spec: a restart withholds the same.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from mcpproxy.api.v1alpha1.catalog import CatalogDigests
from mcpproxy.proxy.core.catalog.catalog import Catalog, ComponentList
from mcpproxy.proxy.core.catalog.digests import component_digest
from mcpproxy.proxy.core.translation.uri_templates import Uri
from mcpproxy.proxy.protocol.kinds import RESOURCES, TEMPLATES, ComponentKind
from mcpproxy.report_aggregation import NAMED

log = logging.getLogger("mcpproxy.catalog")


class ApprovedCatalog(Catalog):
    """Withholds every component whose digest is not the approved one, whoever it is listed to."""

    approves = True

    def __init__(self, approved: CatalogDigests, *, serves_clashes: bool = True) -> None:
        super().__init__(serves_clashes=serves_clashes)
        self.on_offer: Callable[[], None] = lambda: None
        """Called when what the backends offer has changed, also where no client sees it."""
        self._approved = approved
        self._offered = Catalog(serves_clashes=serves_clashes)

    def put(
        self,
        backend: str,
        kind: ComponentKind,
        found: ComponentList | None,
        seen: bytes | None = None,
    ) -> bool:
        before = self._offered.version
        self._offered.put(backend, kind, found, seen)
        offered = self._offered.version != before
        if found is not None:
            found = self._shown(backend, kind, found, noted=offered)
        changed = super().put(backend, kind, found, seen)
        if offered:
            self.version += 1
            self.on_offer()
        return changed

    def _shown(
        self, backend: str, kind: ComponentKind, found: ComponentList, *, noted: bool
    ) -> ComponentList:
        approved = self._approved.get(kind.member, {})
        pairs = [*zip(found.names, found.items, strict=True)]
        shown = [one for one in pairs if approved.get(one[0]) == component_digest(one[1])]
        if len(shown) == len(pairs):
            return found
        names = tuple(name for name, _ in shown)
        if noted:
            known = {*names}
            withheld = sorted({name for name in found.names if name not in known})
            log.warning(
                "backend %s: %d of its %s are not approved and withheld: %s",
                *(backend, len(withheld), kind.member, ", ".join(withheld[:NAMED])),
            )
        headers = {name: found.headers[name] for name in names if name in found.headers}
        return replace(found, names=names, items=tuple(i for _, i in shown), headers=headers)

    def withholds(self, backend: str, kind: ComponentKind, name: str) -> bool:
        """See Catalog.

        Of resources not all are listed: one that is in no list is served where its URI does not
        come from templates that are all withheld.
        """
        if self.owner(kind, name) == backend:
            return False
        if kind is RESOURCES and self._unlisted(backend, name):
            return False
        log.debug("%s of backend %s is not approved: %s", kind.member, backend, name)
        return True

    def _unlisted(self, backend: str, uri: str) -> bool:
        """Whether a URI is no resource that was listed, and may be used."""
        if self._offered.owner(RESOURCES, uri) is not None:
            return False
        compared = Uri(uri)
        if compared.is_from(self.names(backend, TEMPLATES)):
            return True
        if any(self._offered.get(backend, kind) is None for kind in (RESOURCES, TEMPLATES)):
            # It is not known what it lists.
            return False
        return not compared.may_be_from(self._offered.names(backend, TEMPLATES))

    def digests(self) -> dict[str, dict[str, str]]:
        """Of all that is offered, before anything is withheld."""
        return self._offered.digests()
