"""Refused requests: their results in metrics, and the challenges of RFC 6750 and RFC 9728.

Nothing here depends on headers of requests: a client must not choose the URLs that others get.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from mcpproxy.proxy.http1.errors import HttpError

Result = Literal[
    "accepted",
    "missing",
    "malformed",
    "wrong_type",
    "unknown_issuer",
    "wrong_audience",
    "expired",
    "not_yet_valid",
    "unknown_key",
    "bad_signature",
    "unavailable",
    "limited",
]
"""The outcome of an authentication, the label `result` of a metric."""
REALM: Final = "mcpproxy"
CHALLENGE: Final = b"www-authenticate"
RETRY_AFTER: Final = 5
"""Seconds after which a client should try again while an issuer can't be reached."""


LOGGED: Final = 60.0
"""Seconds between two lines of the log on tokens that were refused for the same reason."""

log = logging.getLogger("mcpproxy.authentication")


class CredentialsRefused(Exception):
    """Credentials that are not accepted. The message is for the client, and quotes nothing."""

    def __init__(
        self, result: Result, message: str, finding: Callable[[], str] | None = None
    ) -> None:
        """`message` has neither double quotes nor backslashes (RFC 6750, section 3).

        `finding` returns a text for the log: the claim, its value, and the remedy.
        """
        super().__init__(message)
        self.result = result
        self.finding = finding


class Challenges:
    """Error responses with the challenges of one endpoint."""

    def __init__(self, metadata_url: str | None, scopes: Sequence[str]) -> None:
        """`metadata_url` is that of the published metadata; `scopes` are those to request."""
        self._parameters = [("resource_metadata", metadata_url)] if metadata_url else []
        self._scopes = tuple(scopes)

    def missing(self) -> HttpError:
        """Return the response to a request without credentials of a known scheme.

        It has no error code (RFC 6750, section 3.1).
        """
        message = "credentials are missing; send Authorization: Bearer and a token or API key"
        return HttpError(401, message, self._challenge(self._scopes))

    def repeated(self) -> HttpError:
        """Return the response to a request with several Authorization headers."""
        message = "the header Authorization is repeated; send it once"
        return HttpError(400, message, self._challenge(self._scopes, "invalid_request", message))

    def invalid(self, refusal: CredentialsRefused) -> HttpError:
        """Return the response to credentials that are not accepted."""
        message = str(refusal)
        return HttpError(401, message, self._challenge(self._scopes, "invalid_token", message))

    def unavailable(self, refusal: CredentialsRefused) -> HttpError:
        """Return the response to a token whose issuer's keys are not known."""
        return HttpError(503, str(refusal), (b"retry-after", b"%d" % RETRY_AFTER))

    def too_many(self, refusal: CredentialsRefused) -> HttpError:
        """Return the response to a client from whose network too many tokens were forged."""
        return HttpError(429, str(refusal), (b"retry-after", b"1"))

    def insufficient_scope(self, scopes: Iterable[str]) -> HttpError:
        """Return the response to a caller who needs all of these scopes (RFC 6750, section 3.1)."""
        message = "the token lacks a scope that this request needs"
        challenge = self._challenge(sorted(set(scopes)), "insufficient_scope", message)
        return HttpError(403, message, challenge)

    def _challenge(
        self, scopes: Sequence[str], error: str | None = None, description: str = ""
    ) -> tuple[bytes, bytes]:
        parameters = [*self._parameters] or [("realm", REALM)]
        if scopes:
            parameters.append(("scope", " ".join(scopes)))
        if error is not None:
            parameters += [("error", error), ("error_description", description)]
        text = ", ".join(f'{name}="{value}"' for name, value in parameters)
        return CHALLENGE, f"Bearer {text}".encode("ascii")


class RefusalLog:
    """Log of refused tokens, which shows wrong configurations of the proxy or its issuers.

    Most claims are not verified when a token is refused, so a line quotes an unknown sender. Any
    sender can cause lines, so there is at most one per result and interval.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` returns the seconds since the epoch."""
        self._now = now
        self._written: dict[str, float] = {}
        """Times of the last lines by result."""

    def record(self, refusal: CredentialsRefused) -> None:
        """Write a line, unless there was one on the same result lately."""
        if refusal.finding is None:
            return
        now = self._now()
        if now - self._written.get(refusal.result, float("-inf")) < LOGGED:
            return
        self._written[refusal.result] = now
        log.warning("a token was refused (%s): %s", refusal.result, refusal.finding())
