"""Authorities of Host headers (RFC 3986, section 3.2) and web origins (RFC 6454, section 6.2).

Both are parsed by their grammars. Text that does not match is rejected and never repaired: if two
parsers read a name differently, one web page could pass as another.
"""

import re
from ipaddress import AddressValueError, IPv6Address, ip_address
from typing import Final, NamedTuple

MAX_PORT: Final = 65535
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
LOCALHOST: Final = "localhost"
FOREIGN_HOST: Final = "the Host header does not name this machine; use localhost or an IP address"
# unreserved, pct-encoded and sub-delims; an IPv4 address is a registered name as well.
_NAME: Final = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+"
_LITERAL: Final = r"\[[0-9A-Fa-f:.]+\]"
_AUTHORITY: Final = re.compile(rf"({_NAME}|{_LITERAL})(?::([0-9]*))?")
_ORIGIN: Final = re.compile(
    rf"([A-Za-z][A-Za-z0-9+.\-]*)://({_NAME}|{_LITERAL})(?::([0-9]{{1,5}}))?"
)
_LOCAL_HOST: Final = (
    r"([A-Za-z0-9-]+\.[A-Za-z0-9-]+\.svc(\.cluster\.local)?|localhost|127\.0\.0\.1|\[::1\])"
)
LOCAL_URL: Final = rf"^http://{_LOCAL_HOST}(:[0-9]+)?([/?].*)?$"
"""URLs to which secrets may be sent without TLS, if that is permitted."""
HTTPS: Final = "https:"


class Authority(NamedTuple):
    """A host in lower case, and the port if the text contains one."""

    host: str
    port: int | None


class WebOrigin(NamedTuple):
    """The scheme, host and port of a web page; an absent port is the default port of the scheme."""

    scheme: str
    host: str
    port: int | None


def parse_authority(text: str) -> Authority | None:
    """Parse `host [":" port]`. Return None if the text has user information or is malformed."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    host = _normalized(match[1])
    port = int(match[2]) if match[2] and len(match[2]) < 10 else None
    too_high = bool(match[2]) and (port is None or port > MAX_PORT)
    return None if host is None or too_high else Authority(host, port)


def parse_origin(text: str) -> WebOrigin | None:
    """Parse one serialized origin. Return None for `null`, lists, paths and malformed text."""
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    scheme, host = match[1].lower(), _normalized(match[2])
    port = int(match[3]) if match[3] else DEFAULT_PORTS.get(scheme)
    if host is None or (port is not None and port > MAX_PORT):
        return None
    return WebOrigin(scheme, host, port)


def _normalized(host: str) -> str | None:
    """Return the canonical form of a host, or None if it is invalid."""
    if not host.startswith("["):
        return host.lower().removesuffix(".") or None
    try:
        return f"[{IPv6Address(host[1:-1]).compressed}]"
    except AddressValueError:
        return None


def join_host_port(host: str, port: int) -> str:
    """Return `host:port` as in a URL. The host has no brackets and may be an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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


def is_rebound(local: str | None, host: str | None) -> bool:
    """Return True for a request to a loopback address by a name that may belong to anyone.

    `local` is the address of this end of the connection, and `host` the Host header. A web page
    that rebinds its own name to a loopback address sends such requests.
    """
    return host is not None and is_loopback(local) and not names_this_machine(host)


def is_secure_url(url: str, *, insecure_http: bool) -> bool:
    """Return True for https and, with `insecure_http`, for http to a host that counts as local."""
    return url.startswith(HTTPS) or (insecure_http and re.match(LOCAL_URL, url) is not None)
