"""The published metadata of the endpoint: RFC 9728, OAuth 2.0 Protected Resource Metadata."""

import json
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from mcpproxy.api import constants

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import MCPProxySpec

WELL_KNOWN: Final = constants.METADATA_PATH
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def canonical_url(url: str) -> str:
    """Return the form in which URLs of resources are compared (RFC 8707, section 2).

    Scheme and host are in lower case. The default port and a slash at the end are absent. Text that
    is no URL is returned unchanged.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url
    if not parts.scheme or not parts.hostname or "@" in parts.netloc:
        return url
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    authority = host if port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{port}"
    rest = url.partition("://")[2]
    path = rest[len(parts.netloc) :].removesuffix("/")
    return f"{parts.scheme}://{authority}{path}"


class ResourceMetadataDocument:
    """The metadata document, its URL, and the paths at which requests for it arrive."""

    def __init__(self, spec: "MCPProxySpec", path: str) -> None:
        """`spec` has publicUrl and authentication.jwt; `path` is that of the endpoint."""
        assert spec.public_url is not None
        assert spec.authentication is not None
        parts = urlsplit(spec.public_url)
        public_path = parts.path.rstrip("/")
        self.url = f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{public_path}"
        self.body = json.dumps(_content(spec)).encode()
        self._paths = _paths(unquote(public_path), path.rstrip("/"))

    def is_at(self, path: str) -> bool:
        """Return True if a request for this decoded path is one for the document."""
        return path.rstrip("/") in self._paths


def _content(spec: "MCPProxySpec") -> dict[str, object]:
    authentication = spec.authentication
    assert authentication is not None
    content: dict[str, object] = {
        "resource": spec.public_url,
        "authorization_servers": [entry.issuer for entry in authentication.jwt or ()],
        "bearer_methods_supported": ["header"],
    }
    more = authentication.resource_metadata
    if more is not None and more.scopes_supported:
        content["scopes_supported"] = list(more.scopes_supported)
    if more is not None and more.documentation is not None:
        content["resource_documentation"] = more.documentation
    return content


def _paths(public: str, own: str) -> frozenset[str]:
    """Return the paths of the document.

    Ingresses remove a prefix of the public path, before the well-known part or after it.
    """
    segments = public.split("/")[1:]
    ends = {"".join(f"/{part}" for part in segments[n:]) for n in range(len(segments) + 1)}
    heads = {"".join(f"/{part}" for part in segments[:n]) for n in range(len(segments) + 1)}
    return frozenset(
        {WELL_KNOWN + end for end in (*ends, own)} | {head + WELL_KNOWN for head in (*heads, own)}
    )
