"""Metadata of issuers: RFC 8414 and OpenID Connect Discovery."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from mcpproxy.api.untrusted_text import quote
from mcpproxy.proxy.issuers.documents import (
    IssuerAbsent,
    IssuerError,
    IssuerHttp,
    IssuerResponse,
    IssuerUnreachable,
    is_fetchable,
)

_OAUTH: Final = "/.well-known/oauth-authorization-server"
_OPENID: Final = "/.well-known/openid-configuration"


class MetadataUrl(NamedTuple):
    """A URL in metadata, and the fields of a spec that replace it."""

    member: str
    """Member of the metadata."""
    field: str
    """Field with this URL."""
    other_issuer: str
    """Remedy if the metadata names another issuer."""


KEYS: Final = MetadataUrl(
    "jwks_uri",
    "jwksUrl",
    "if it is in the tokens, set issuer to it, and jwksUrl if the pods can not reach it",
)
TOKENS: Final = MetadataUrl(
    "token_endpoint", "tokenUrl", "if it is the right one, set issuer to it, or set tokenUrl"
)


class IssuerMetadata:
    """The metadata of an issuer, which names the issuer itself."""

    def __init__(self, issuer: str, response: IssuerResponse, endpoint: MetadataUrl) -> None:
        """Raise IssuerError for a document that is not the metadata of this issuer."""
        self.issuer = issuer
        self._url = response.url
        self.content: dict[str, Any] = _parse(response)
        named = self.content.get("issuer")
        if named != issuer:
            raise IssuerError(
                f"{response.url}: the metadata names another issuer, {quote(named)};"
                f" {endpoint.other_issuer}"
            )
        self.url = self._url_of(endpoint)
        """The URL of the endpoint."""

    def _url_of(self, endpoint: MetadataUrl) -> str:
        url = self.content.get(endpoint.member)
        if not isinstance(url, str) or not is_fetchable(url, self.issuer):
            raise IssuerError(
                f"{self._url}: {endpoint.member} is not an https URL but {quote(url)}; correct the"
                f" issuer, or set {endpoint.field}"
            )
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


async def discover_metadata(issuer: str, http: IssuerHttp, endpoint: MetadataUrl) -> IssuerMetadata:
    """Return the metadata of an issuer that has the URL of an endpoint. Raise IssuerError."""
    problem: IssuerError | None = None
    for url in metadata_urls(issuer):
        try:
            return IssuerMetadata(issuer, await http.fetch(url), endpoint)
        except IssuerUnreachable:
            raise
        except IssuerError as error:
            # The first problem concerns the form of the URL that issuers should have.
            problem = problem or error
    assert problem is not None
    if isinstance(problem, IssuerAbsent):
        raise IssuerError(
            f"{problem}; no metadata of this issuer is there: correct issuer, or set"
            f" {endpoint.field}"
        )
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
