"""Networks of clients, by which anonymous clients share bounded collections."""

from ipaddress import IPv6Address
from typing import Any


def network_of(peer: Any) -> str:
    """Return the network of a peer's socket address; empty if unknown.

    An IPv6 host has a whole /64 (RFC 7934), so all addresses in it count as one network.
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
