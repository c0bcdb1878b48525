"""Access tokens, and the responses of token endpoints (RFC 6749, section 5)."""

import re
from dataclasses import dataclass
from typing import Any, Final

from mcpproxy.limits.tokens import TOKEN_SIZE
from mcpproxy.proxy.core.errors import BackendError, TokenRefused, TokenUnavailable
from mcpproxy.proxy.issuers.documents import IssuerError, IssuerResponse

DEFAULT_LIFETIME: Final = 300.0
"""Seconds for which a token is used if the server does not state its lifetime."""
SHORTEST: Final = 1.0
"""Seconds for which a token is used at least, so that there is one request a second at most."""
LONGEST: Final = 86_400.0
AUTHORIZATION: Final = b"authorization"
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""Seconds between two requests while they fail."""
_JSON: Final = b"application/json"
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_ERROR: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_OF_CLIENT: Final = "invalid_client"
"""The error about the proxy's own authentication, which therefore concerns every request."""

REFUSED: Final = "the authorization server refused a token"

Line = tuple[bytes, bytes]
"""A header field."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token, and until when it can be used; times are those of a monotonic clock."""

    line: Line
    """The header field with the token."""
    obtained_at: float
    expires_at: float

    @property
    def lifetime(self) -> float:
        """Return the seconds for which the token is used."""
        return self.expires_at - self.obtained_at


def bearer_line(token: str) -> Line:
    """Return the header field with a token. Raise ValueError for what is not a token."""
    if len(token) > TOKEN_SIZE.value:
        TOKEN_SIZE.record()
        raise ValueError(f"the token has more than {TOKEN_SIZE.value} bytes")
    if not _TOKEN.fullmatch(token):
        raise ValueError("the token is empty or has characters other than visible ASCII")
    return AUTHORIZATION, b"Bearer " + token.encode("ascii")


class ServerFailed(Exception):
    """The authorization server issues no tokens at present, to anybody."""

    def __init__(self, error: BackendError, retry_after: float = 0.0) -> None:
        """`error` is what calls get; `retry_after` is in seconds."""
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


def parse_token_response(
    response: IssuerResponse, now: float, lifetime: float | None = None
) -> AccessToken:
    """Return the token in a response. Raise TokenRefused, or ServerFailed.

    `lifetime` is in seconds and counts if the server states none.
    """
    if response.status != 200:
        raise refusal(response, REFUSED)
    content = json_content(response)
    token, kind = content.get("access_token"), content.get("token_type")
    if not isinstance(token, str) or not isinstance(kind, str):
        raise unusable(response, "the response has no access_token and token_type")
    if kind.lower() != "bearer":
        raise unusable(response, "the token is not of type Bearer")
    try:
        line = bearer_line(token)
    except ValueError as error:
        raise unusable(response, str(error)) from None
    seconds = _seconds(content.get("expires_in"))
    if seconds is None:
        seconds = DEFAULT_LIFETIME if lifetime is None else lifetime
    return AccessToken(line, now, now + min(max(seconds, SHORTEST), LONGEST))


def _seconds(value: object) -> float | None:
    """Return a number of seconds, which some servers send as text; None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < float("inf") else None


def json_content(response: IssuerResponse) -> dict[str, Any]:
    """Return the members of a response. Raise ServerFailed."""
    if response.media_type != _JSON:
        raise unusable(response, "the response is not application/json")
    try:
        return response.json_object()
    except IssuerError:
        raise unusable(response, "the response is not a JSON object") from None


def refusal(response: IssuerResponse, who: str) -> Exception:
    """Return the error for a response without a token. It has no text of the server but a code.

    `who` begins the message: which server refused what.
    """
    status = response.status
    if status not in (400, 401, 403):
        return ServerFailed(_unavailable(response, f"HTTP {status}"), _retry_after(response))
    try:
        code = json_content(response).get("error")
    except ServerFailed:
        code = None
    if not isinstance(code, str) or not _ERROR.fullmatch(code):
        return ServerFailed(_unavailable(response, f"HTTP {status} without an error code"))
    why = f"{who} for the backend: {code}"
    refused = TokenRefused(why, finding=f"{response.url}: {why}").unsent()
    return ServerFailed(refused.about_client()) if code == _OF_CLIENT else refused


def unusable(response: IssuerResponse, why: str) -> ServerFailed:
    """Return the error for a response with status 200 that cannot be used."""
    return ServerFailed(_unavailable(response, why))


def _unavailable(response: IssuerResponse, why: str) -> TokenUnavailable:
    return unavailable(f"{response.url}: {why}")


def unavailable(finding: str) -> TokenUnavailable:
    """Return the error for a token that did not come; only the status shows `finding`."""
    why = "the authorization server issued no token for the backend"
    return TokenUnavailable(why, finding=f"{why}: {finding}").unsent()


def _retry_after(response: IssuerResponse) -> float:
    value = response.headers.get(b"retry-after", b"")
    return min(float(value), 60.0) if value.isdigit() and len(value) < 9 else 0.0


def repeated(error: BackendError) -> BackendError:
    """Return a copy of an error, because several tasks raise it."""
    copied = type(error)(str(error), finding=error.finding).unsent()
    if isinstance(error, TokenRefused) and error.concerns_client:
        assert isinstance(copied, TokenRefused)
        copied.about_client()
    return copied
