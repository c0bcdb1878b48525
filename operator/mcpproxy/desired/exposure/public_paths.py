"""Host and paths of `publicUrl` for which routes are created.

The proxy serves its endpoint and its metadata at the public paths, so that routes rewrite nothing.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from mcpproxy.api import constants
from mcpproxy.api.v1alpha1 import MCPProxySpec


@dataclass(frozen=True, slots=True)
class PublicPaths:
    """Host and exact paths of one MCPProxy."""

    host: str
    """DNS name in lower case."""
    endpoint: tuple[str, ...]
    """Paths of the endpoint, with and without a slash at the end."""
    metadata: tuple[str, ...]
    """Paths of the metadata of this resource: the well-known part before the path or after it.

    The well-known path alone is not one of them unless the endpoint is at the root: another proxy
    may have the same host.
    """


def public_paths(spec: MCPProxySpec) -> PublicPaths:
    """Return the paths of a spec that has `publicUrl`."""
    assert spec.public_url is not None
    parts = urlsplit(spec.public_url)
    path, well_known = parts.path.rstrip("/"), constants.METADATA_PATH
    host = parts.hostname or ""
    if not path:
        return PublicPaths(host, ("/",), (well_known,))
    return PublicPaths(host, (path, f"{path}/"), (f"{well_known}{path}", f"{path}{well_known}"))
