"""Addresses of backends for people, without anything that may be secret.

Users put tokens into queries, user information and paths of URLs, and into arguments of programs.
"""

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mcpproxy.api.authority import join_host_port

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import MCPProxy
    from mcpproxy.api.v1alpha1.backend import BackendSpec

MASK: Final = "…"
"""Replacement of a part of a path that may be secret."""
_WORD: Final = re.compile(r"[A-Za-z0-9._~-]{0,20}")
_DIGITS: Final = re.compile(r"\d")
_MANY_DIGITS: Final = 6


def display_address(proxy: "MCPProxy", backend: "BackendSpec") -> str | None:
    """Return the address of a backend; only the name of the program for a stdio server."""
    if backend.stdio is not None:
        return f"program {PurePath(backend.stdio.command).name}"
    if backend.service is not None:
        service = backend.service
        namespace = service.namespace or proxy.metadata.namespace or "default"
        return f"Service {namespace}/{service.name}, port {service.port}"
    return None if backend.url is None else display_url(backend.url)


def display_url(url: str) -> str:
    """Return a URL without user information, query and parts of the path that may be secret."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return MASK
    authority = host if port is None else join_host_port(host, port)
    if port is None and ":" in host:
        authority = f"[{host}]"
    path = "/".join(_segment(segment) for segment in parts.path.split("/"))
    return f"{parts.scheme}://{authority}{path}"


def _segment(segment: str) -> str:
    """Return a part of a path, or the mask if it is too long or random for a word."""
    is_word = _WORD.fullmatch(segment) and len(_DIGITS.findall(segment)) < _MANY_DIGITS
    return segment if is_word else MASK
