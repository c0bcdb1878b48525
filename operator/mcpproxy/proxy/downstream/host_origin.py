"""Protection against DNS rebinding by the Host and Origin headers. Always enabled.

A page may send requests if its origin is in `allowedOrigins`, or if it comes from the host and port
that the request names. Forwarding headers (X-Forwarded-*, Forwarded) never count.
"""

from collections.abc import Iterable
from typing import Final

from mcpproxy.api.authority import (
    DEFAULT_PORTS,
    Authority,
    WebOrigin,
    parse_authority,
    parse_origin,
)

LOCAL: Final = ("localhost", "127.0.0.1", "[::1]")
ANY: Final = "*"
_BELOW: Final = "*."


class HostOriginPolicy:
    """Policy that accepts or rejects a request by its Host and Origin headers."""

    def __init__(self, hosts: Iterable[str], origins: Iterable[str] = ()) -> None:
        """Accept these hosts and origins. Raise ValueError if one is malformed.

        A host is a name with or without a port, `*.example.com` for all names below one, or `*` for
        any. An origin is `https://app.example.com`, `https://*.example.com` for all names below
        one, or `*` for any.
        """
        self._hosts: set[Authority] = set()
        self._any_host = self._any_origin = False
        for host in hosts:
            if host == ANY:
                self._any_host = True
            else:
                self._hosts.add(_host(host))
        self._domains = tuple(h for h in self._hosts if h.host.startswith(_BELOW))
        self._origins: set[WebOrigin] = set()
        for origin in origins:
            if origin == ANY:
                self._any_origin = True
            else:
                self._origins.add(_origin(origin))
        self._origin_domains = tuple(o for o in self._origins if o.host.startswith(_BELOW))

    def admits_host(self, header: bytes | None) -> bool:
        """Return True if this Host header names the proxy."""
        authority = _read_host(header)
        return authority is not None and (self._any_host or self._names_us(authority))

    def admits_origin(self, header: bytes | None, host: bytes | None) -> bool:
        """Return True if a page of this Origin may send a request with this Host header.

        Programs send no Origin and are always accepted.
        """
        return header is None or self.shares_with(header) or self._is_own(header, host)

    def shares_with(self, header: bytes) -> bool:
        """Return True if pages of this Origin may read responses (CORS)."""
        origin = _read_origin(header)
        return origin is not None and (self._any_origin or self._is_named(origin))

    def names_origin(self, header: bytes) -> bool:
        """Return True if this Origin is allowed by name and not merely by `*`."""
        origin = _read_origin(header)
        return origin is not None and self._is_named(origin)

    def _is_named(self, origin: WebOrigin) -> bool:
        if origin in self._origins:
            return True
        return any(
            (origin.scheme, origin.port) == (domain.scheme, domain.port)
            and origin.host.endswith(domain.host[1:])
            for domain in self._origin_domains
        )

    def _is_own(self, header: bytes, host: bytes | None) -> bool:
        """Return True if the page comes from the host and port to which the request is sent.

        The client's scheme is unknown here, because TLS may end in front of the proxy. The response
        has no CORS headers, so a browser shows it only to pages of the same scheme. A host that
        only `*` allows may be a name that an attacker rebound.
        """
        origin, authority = _read_origin(header), _read_host(host)
        if origin is None or authority is None or origin.scheme not in DEFAULT_PORTS:
            return False
        port = DEFAULT_PORTS[origin.scheme] if authority.port is None else authority.port
        return (origin.host, origin.port) == (authority.host, port) and self._names_us(authority)

    def _names_us(self, authority: Authority) -> bool:
        host, port = authority
        ports = (None, port) if port is not None else (None, *DEFAULT_PORTS.values())
        if any(Authority(host, named) in self._hosts for named in ports):
            return True
        return any(
            domain.port in ports and host.endswith(domain.host[1:]) for domain in self._domains
        )


def _read_host(header: bytes | None) -> Authority | None:
    return None if header is None else parse_authority(header.decode("latin-1").strip(" \t"))


def _read_origin(header: bytes) -> WebOrigin | None:
    return parse_origin(header.decode("latin-1").strip(" \t"))


def _host(text: str) -> Authority:
    authority = parse_authority(text)
    if authority is None:
        raise ValueError(
            f"allowed host {text!r}: invalid; write a host with an optional port, such as"
            " mcp.example.com, *.example.com, [::1]:8000, or *"
        )
    return authority


def _origin(text: str) -> WebOrigin:
    origin = parse_origin(text.removesuffix("/"))
    if origin is None:
        raise ValueError(
            f"allowed origin {text!r}: invalid; write a scheme, a host and, unless it is the"
            " default of the scheme, a port, such as https://app.example.com or"
            " http://localhost:6274, or *"
        )
    return origin


def service_hosts(name: str, namespace: str | None) -> tuple[str, ...]:
    """Return the host names of a proxy's Service inside its cluster."""
    if namespace is None:
        return ()
    below = f"{name}.{namespace}"
    return (name, below, f"{below}.svc", f"{below}.svc.cluster.local")
