"""Host and Origin protection (DNS rebinding): always on."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

LOCAL: Final = ("localhost", "127.0.0.1", "[::1]")


def _host(authority: str) -> str:
    """The name in a Host header, without its port, in lower case."""
    authority = authority.strip().lower()
    if authority.startswith("["):
        return authority.partition("]")[0] + "]"
    return authority.partition(":")[0].removesuffix(".")


class Guard:
    """Decides by the Host and Origin headers whether a request is meant for us."""

    def __init__(self, hosts: Iterable[str], origins: Iterable[str] = ()) -> None:
        """`hosts` are names, `*.example.com` for all below one, or `*` for any."""
        self._hosts = {_host(host) for host in hosts}
        self._suffixes = tuple(host[1:] for host in self._hosts if host.startswith("*."))
        self._any = "*" in self._hosts
        self._origins = {origin.rstrip("/").lower() for origin in origins}

    def admits_host(self, header: bytes | None) -> bool:
        """Whether this Host header names us."""
        if header is None:
            return False
        return self._any or self._names_us(_host(header.decode("latin-1")))

    def _names_us(self, host: str) -> bool:
        return host in self._hosts or host.endswith(self._suffixes)

    def admits_origin(self, header: bytes | None) -> bool:
        """Whether a page of this Origin may talk to us; requests of programs have none."""
        if header is None:
            return True
        origin = header.decode("latin-1").strip().rstrip("/").lower()
        if origin in self._origins or "*" in self._origins:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        named = parts.scheme in ("http", "https") and self._names_us(_host(parts.netloc))
        return named and not self._any


def service_hosts(name: str, namespace: str | None) -> tuple[str, ...]:
    """The names that the Service of a proxy has inside its cluster."""
    if namespace is None:
        return ()
    below = f"{name}.{namespace}"
    return (name, below, f"{below}.svc", f"{below}.svc.cluster.local")
