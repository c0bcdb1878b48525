"""Visitors who may see a page, and rules for browsers that show it.

A page shows names, addresses and schemas. It is served to the machine or pod that it is about:
people reach it with `kubectl port-forward` or `mcpproxy open`, for which they need permission. A
web page of another origin, such as one that rebinds its name to a loopback address, gets nothing.
"""

from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple

from mcpproxy.api.authority import parse_authority

LOCALHOST: Final = "localhost"
_COMMON: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)
_NOTHING_ELSE: Final = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_OWN_FILES: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
)
HEADERS: Final = (("Content-Security-Policy", f"{_OWN_FILES}; {_NOTHING_ELSE}"), *_COMMON)
"""Headers of pages whose style and script are files of the same origin."""
NOT_LOCAL: Final = (
    "this page is served only to its own machine or pod; use mcpproxy open, or kubectl port-forward"
)
FOREIGN_HOST: Final = "the Host header does not name this machine; use localhost or an IP address"


def standalone_headers(style_hash: str) -> tuple[tuple[str, str], ...]:
    """Return the headers of a page without script, whose only style has this hash (base64)."""
    policy = f"default-src 'none'; style-src 'sha256-{style_hash}'; {_NOTHING_ELSE}"
    return (("Content-Security-Policy", policy), *_COMMON)


def is_loopback(address: str | None) -> bool:
    """Return True if a connection comes from the same machine or pod."""
    if address is None:
        return False
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_loopback


def names_this_machine(host: str | None) -> bool:
    """Return True if a Host header is `localhost` or an IP address.

    Names of other kinds can be rebound: their owners decide to which address they refer.
    """
    authority = None if host is None else parse_authority(host)
    if authority is None:
        return False
    if authority.host == LOCALHOST or authority.host.endswith(f".{LOCALHOST}"):
        return True
    try:
        ip_address(authority.host.strip("[]"))
    except ValueError:
        return False
    return True


class Visit(NamedTuple):
    """The connection and the Host header of a request for a page."""

    peer: str | None
    """Address of the visitor's end of the connection."""
    local: str | None
    """Address of this end of the connection."""
    host: str | None

    @property
    def is_rebound(self) -> bool:
        """True for a request to a loopback address by a name that may belong to anyone.

        A web page that rebinds its own name to a loopback address sends such requests.
        """
        foreign = self.host is not None and not names_this_machine(self.host)
        return foreign and is_loopback(self.local)

    def refusal(self, *, anywhere: bool) -> tuple[int, str] | None:
        """Return the status and the message for a visitor who may not see a page, or None.

        `anywhere` admits visitors from other machines.
        """
        # A service mesh in the pod connects from a loopback address to the address of the pod.
        if not anywhere and not (is_loopback(self.peer) and is_loopback(self.local)):
            return 403, NOT_LOCAL
        return None if names_this_machine(self.host) else (421, FOREIGN_HOST)
