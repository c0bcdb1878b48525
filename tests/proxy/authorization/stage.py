"""Catalogs and policies in memory."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from mcpproxy.api.v1alpha1 import Authorization
from mcpproxy.proxy.authorization.policy import AccessClass, Policy
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_list import parse_component_list
from mcpproxy.proxy.core.identity import Identity
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind

ISSUER = "https://login.example.com"
EVERYTHING = {"backends": ["*"]}


def rule(name: str, who: dict[str, Any], *may: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A rule that allows everything, unless `may` says otherwise."""
    return {"name": name, "who": who, "may": list(may) or [EVERYTHING], **more}


def put(
    catalog: Catalog,
    backend: str,
    kind: ComponentKind,
    names: Iterable[str],
    annotations: Mapping[str, Any] | None = None,
    seen: bytes | None = None,
) -> bool:
    """Let a backend list components of these names, with the annotations of some of them."""
    items = []
    for name in names:
        item: dict[str, Any] = {kind.key: name}
        if annotations and name in annotations:
            item["annotations"] = annotations[name]
        items.append(item)
    page = jsonrpc.decode_object(json.dumps({kind.member: items}).encode())
    listed = parse_component_list(kind, PrefixMapping(backend), [page], 0.0)
    return catalog.put(backend, kind, listed, seen)


def catalog_of(**backends: dict[ComponentKind, list[str]]) -> Catalog:
    """A catalog of these backends, each with its own name as prefix."""
    catalog = Catalog()
    for backend, components in backends.items():
        for kind in KINDS:
            put(catalog, backend, kind, components.get(kind, []))
    return catalog


def policy(catalog: Catalog, *rules: dict[str, Any], **fields: Any) -> Policy:
    """A policy of these rules."""
    spec = Authorization.model_validate({"rules": list(rules), **fields})
    return Policy(spec, catalog)


def shown(access: AccessClass, kind: ComponentKind) -> list[str]:
    """The names that a class shows."""
    return [name for _, name in access.names(kind)]


def token(
    subject: str = "alice", *, groups: Iterable[str] = (), scopes: Iterable[str] = (), **more: Any
) -> Identity:
    """The identity of a caller with a token."""
    value = {"issuer": ISSUER, **more}
    return Identity(
        "jwt", subject=subject, groups=frozenset(groups), scopes=frozenset(scopes), **value
    )
