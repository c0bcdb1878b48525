"""Networks of clients: whose share of a bounded collection an anonymous client has."""

from ipaddress import IPv6Address
from typing import Any


def network_of(peer: Any) -> str:
    """The network of a peer's socket address; empty if unknown.

    A host of IPv6 has a /64 to itself (RFC 7934), so all its addresses are one.
    """
    if not isinstance(peer, tuple) or not peer:
        return ""
    host = str(peer[0]).partition("%")[0]
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host)
    except ValueError:
        return ""
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else address.packed[:8].hex()
