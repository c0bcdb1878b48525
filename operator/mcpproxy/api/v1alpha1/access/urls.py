"""URLs, audiences and scopes of OAuth, with the rule that secrets need https."""

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from mcpproxy.api.authority import HTTPS, LOCAL_URL, is_secure_url, parse_authority
from mcpproxy.api.base import cel_validation

HOST: Final = r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
PORT: Final = r"([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_REST: Final = rf"(:{PORT})?(/[^\x00-\x20\x7f?#]*)?$"
_NEEDS_HTTPS: Final = (
    "must be https; http is only for a host such as keycloak.sso.svc (or localhost), with"
    " insecureHttp: true"
)
_SCOPE: Final = r"^[!#-\[\]-~]+$"
"""A scope token (RFC 6749, section 3.3)."""


def check_authority(text: str) -> str:
    """Return a URL or authority unchanged. Raise ValueError if its host or port is invalid."""
    if parse_authority(urlsplit(text).netloc if "://" in text else text) is None:
        raise ValueError("must have a host with or without a port up to 65535")
    return text


BaseUrl = Annotated[
    str,
    Field(min_length=8, max_length=1024, pattern=rf"^https?://{HOST}{_REST}"),
    AfterValidator(check_authority),
]
"""An http or https URL without user information, query and fragment."""
DocumentUrl = Annotated[
    str,
    Field(
        max_length=1024,
        pattern=r"^https?://[A-Za-z0-9._\[\]:-]+([/?][^\x00-\x20\x7f#]*)?$",
    ),
    AfterValidator(check_authority),
]
"""An http or https URL that may have a query."""
Audience = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]+$")]
Scope = Annotated[str, Field(min_length=1, max_length=256, pattern=_SCOPE)]


def https_rule(field: str) -> dict[str, str]:
    """Return the CEL rule that a field is an https URL, or a local one with insecureHttp."""
    return cel_validation(
        f"!has(self.{field}) || self.{field}.startsWith('{HTTPS}')"
        " || (has(self.insecureHttp) && self.insecureHttp"
        f" && self.{field}.matches(r'{LOCAL_URL}'))",
        f"{field} {_NEEDS_HTTPS}",
        f".{field}",
    )


def check_https(field: str, url: str | None, *, insecure_http: bool) -> None:
    """Raise ValueError unless a URL is absent or permitted."""
    if url is not None and not is_secure_url(url, insecure_http=insecure_http):
        raise ValueError(f"{field} {_NEEDS_HTTPS}")
