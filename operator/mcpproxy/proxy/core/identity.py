"""The verified identity of a caller, from which sessions are bound and policy is decided."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

Method = Literal["jwt", "serviceAccount", "apiKey", "anonymous", "proxy"]

CLOCK_SKEW: Final = 60
"""Seconds by which clocks of issuers may differ from this one."""
SERVICE_ACCOUNTS: Final = "mcpproxy:serviceAccounts"
"""Issuer of ServiceAccounts in principals; no URL, so that no issuer of tokens has it."""
API_KEYS: Final = "mcpproxy:apiKeys"
"""Issuer of the holders of API keys in principals."""

OF_ONE_TOKEN: Final = frozenset(
    {
        *("exp", "iat", "nbf", "jti", "auth_time", "sid", "session_state", "uti"),
        *("nonce", "at_hash", "c_hash"),
    }
)
"""Claims in which tokens for the same rights differ; all others decide what the caller may do."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Identity:
    """The verified identity of a caller."""

    method: Method
    issuer: str = ""
    subject: str = ""
    client: str = ""
    """The OAuth client (`claims.client`), if configured and present."""
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    service_account: tuple[str, str] | None = None
    """Namespace and name of a ServiceAccount."""
    api_key: str = ""
    """Name of the entry of `spec.authentication.apiKeys`."""
    actor: str = ""
    """`act.sub` of RFC 8693, if any."""
    expires: float | None = None
    """Seconds since the epoch; None for an identity that does not expire."""
    claims: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The claims of the token, for CEL."""
    token: str = field(default="", compare=False, repr=False)
    """The token itself, only if a backend is called on behalf of callers. It is for exchanges
    alone: logs, records and other principals never get it."""

    _rights: list[bytes] = field(default_factory=list, init=False, compare=False, repr=False)
    """The digest of `rights`, once it was needed: identities are kept with their tokens."""

    @property
    def principal(self) -> str:
        """The digest that sessions, parked calls and caches are bound to; "" for anonymous.

        It has no bytes of a token, so a refreshed token has the principal of the one before.
        """
        return self._digest(self.client)

    @property
    def user(self) -> str:
        """The digest of issuer and subject, by which calls and shares are counted.

        A user with many OAuth clients, which servers let register themselves, has one.
        """
        return self._digest("")

    def _digest(self, client: str) -> str:
        if self.method == "anonymous":
            return ""
        parts = (self.issuer, self.subject, client)
        # Lengths keep apart values that would be equal when joined.
        joined = b"".join(b"%d:%s" % (len(part), part) for part in map(str.encode, parts))
        return hashlib.sha256(joined).hexdigest()[:32]

    @property
    def rights(self) -> bytes:
        """The digest of the claims that decide what a token permits; empty without claims."""
        if not self._rights:
            self._rights.append(_rights_of(self.claims))
        return self._rights[0]

    def is_of(self, issuer: str, subject: str | None) -> bool:
        """True if this is the subject of an issuer, or any of the issuer's if that is None."""
        return self.issuer == issuer and subject in (None, self.subject)

    def stream_lifetime(self, now: float) -> float | None:
        """Return the seconds for which a stream that begins now may last; None without a limit.

        It ends when the token expires, and the client may open another one with a new token.
        """
        if self.expires is None:
            return None
        left = self.expires - now
        return left if left > 0 else max(left + CLOCK_SKEW, 0.0)


def _rights_of(claims: Mapping[str, Any]) -> bytes:
    rights = {name: claims[name] for name in claims if name not in OF_ONE_TOKEN}
    if not rights:
        return b""
    return hashlib.sha256(msgspec.json.encode(rights, order="deterministic")).digest()


ANONYMOUS: Final = Identity("anonymous")
PROXY: Final = Identity("proxy")
"""The proxy itself, in requests that no client causes."""
