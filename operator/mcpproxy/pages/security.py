"""Visitors who may see a page, and rules for browsers that show it.

A page shows names, addresses and schemas. It is served to the machine or pod that it is about:
people reach it with `kubectl port-forward` or `mcpproxy open`, for which they need permission. A
web page of another origin, such as one that rebinds its name to a loopback address, gets nothing.
"""

from typing import Final, NamedTuple

from mcpproxy.api.authority import FOREIGN_HOST, is_loopback, names_this_machine

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


def standalone_headers(style_hash: str) -> tuple[tuple[str, str], ...]:
    """Return the headers of a page without script, whose only style has this hash (base64)."""
    policy = f"default-src 'none'; style-src 'sha256-{style_hash}'; {_NOTHING_ELSE}"
    return (("Content-Security-Policy", policy), *_COMMON)


class Visit(NamedTuple):
    """The connection and the Host header of a request for a page."""

    peer: str | None
    """Address of the visitor's end of the connection."""
    local: str | None
    """Address of this end of the connection."""
    host: str | None

    def refusal(self, *, anywhere: bool) -> tuple[int, str] | None:
        """Return the status and the message for a visitor who may not see a page, or None.

        `anywhere` admits visitors from other machines.
        """
        # A service mesh in the pod connects from a loopback address to the address of the pod.
        if not anywhere and not (is_loopback(self.peer) and is_loopback(self.local)):
            return 403, NOT_LOCAL
        return None if names_this_machine(self.host) else (421, FOREIGN_HOST)
