"""Metadata of issuers: RFC 8414 and OpenID Connect Discovery."""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from mcpproxy.proxy.issuers.documents import (
    IssuerError,
    IssuerHttp,
    IssuerResponse,
    IssuerUnreachable,
    is_fetchable,
)

_OAUTH: Final = "/.well-known/oauth-authorization-server"
_OPENID: Final = "/.well-known/openid-configuration"


class IssuerMetadata:
    """The metadata of an issuer, which names the issuer itself."""

    def __init__(self, issuer: str, response: IssuerResponse) -> None:
        """Raise IssuerError for a document that is not the metadata of this issuer."""
        self.issuer = issuer
        self._url = response.url
        self.content: dict[str, Any] = _parse(response)
        if self.content.get("issuer") != issuer:
            raise IssuerError(f"{response.url}: the metadata names another issuer")

    def url_of(self, member: str) -> str:
        """Return a URL in the metadata. Raise IssuerError."""
        url = self.content.get(member)
        if not isinstance(url, str) or not is_fetchable(url, self.issuer):
            raise IssuerError(f"{self._url}: {member} is not an https URL")
        return url

    def strings(self, member: str) -> list[str]:
        """Return the texts in a list of the metadata."""
        values = self.content.get(member)
        return [v for v in values if isinstance(v, str)] if isinstance(values, list) else []


def _parse(response: IssuerResponse) -> dict[str, Any]:
    try:
        return response.json_object()
    except IssuerError:
        raise IssuerError(f"{response.url}: the metadata is not a JSON object") from None


async def discover_metadata(issuer: str, http: IssuerHttp, member: str) -> IssuerMetadata:
    """Return the metadata of an issuer that has a URL in this member. Raise IssuerError."""
    problem: IssuerError | None = None
    for url in metadata_urls(issuer):
        try:
            metadata = IssuerMetadata(issuer, await http.fetch(url))
            metadata.url_of(member)
            return metadata
        except IssuerUnreachable:
            raise
        except IssuerError as error:
            # The first problem concerns the form of the URL that issuers should have.
            problem = problem or error
    assert problem is not None
    raise problem


def metadata_urls(issuer: str) -> Iterator[str]:
    """Yield the URLs at which an issuer may publish its metadata, in the order to try them.

    RFC 8414 inserts the well-known part before the path; OpenID Connect appends it. Issuers mix
    both.
    """
    parts = urlsplit(issuer)
    base, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    yield f"{base}{_OAUTH}{path}"
    yield f"{base}{path}{_OPENID}"
    if path:
        yield f"{base}{path}{_OAUTH}"
        yield f"{base}{_OPENID}{path}"
