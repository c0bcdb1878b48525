"""Rules for the claims of tokens, and the identities that valid tokens stand for.

The rules are checked before the signature, because they cost less.
"""

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from mcpproxy.api.untrusted_text import quote
from mcpproxy.proxy.authentication.refusals import CredentialsRefused
from mcpproxy.proxy.authentication.resource_metadata import canonical_url
from mcpproxy.proxy.authentication.tokens import LazyClaims, Token
from mcpproxy.proxy.authentication.verification_keys import KeySource
from mcpproxy.proxy.core.identity import CLOCK_SKEW, SERVICE_ACCOUNTS, Identity

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import JwtIssuer

_LAST: Final = 253_402_300_799
"""The last second of the year 9999; later expirations are cut to it."""
_BEYOND: Final = 10**15
"""Seconds that no clock shows; JSON has integers that no float can hold."""
_SUBJECT: Final = "system:serviceaccount:"
_NO_CLAIMS: Final[Mapping[str, Any]] = MappingProxyType({})


class AudienceRule:
    """The audiences that tokens may have."""

    def __init__(self, exact: Collection[str], resource: str | None = None) -> None:
        """`resource` is the URL that counts if `exact` is empty."""
        self._exact = frozenset(exact)
        self._resource = canonical_url(resource) if resource and not exact else None
        self._needed = (
            f"one of the configured audiences {quote(sorted(exact))}"
            if exact
            else f"publicUrl {quote(resource)}"
        )

    def check(self, claims: Mapping[str, Any]) -> None:
        """Raise CredentialsRefused unless the token was issued for this proxy."""
        audience = claims.get("aud")
        values = audience if isinstance(audience, list) else [audience]
        for value in values:
            if not isinstance(value, str):
                continue
            if value in self._exact or (self._resource and canonical_url(value) == self._resource):
                return
        raise CredentialsRefused(
            "wrong_audience",
            "the token was not issued for this resource; see its claim aud",
            lambda: (
                f"aud is {quote(audience)} and lacks {self._needed}; let the issuer add it, such as"
                " by an audience mapper"
            ),
        )


def check_times(claims: Mapping[str, Any], now: float) -> float:
    """Return the expiration of a token. Raise CredentialsRefused if it is not valid now."""
    expires = _number(claims.get("exp"))
    if expires is None:
        raise CredentialsRefused("malformed", "the token has no expiration (exp)")
    if expires + CLOCK_SKEW <= now:
        raise CredentialsRefused(
            "expired",
            "the token expired",
            lambda: (
                f"exp was {now - expires:.0f} s ago by the clock of this pod; if the token is new,"
                " compare the clocks of this node and the issuer"
            ),
        )
    for name in ("nbf", "iat"):
        if name not in claims:
            continue
        begin = _number(claims[name])
        if begin is None:
            raise CredentialsRefused("malformed", f"the claim {name} of the token is not a number")
        if begin - CLOCK_SKEW > now:
            raise CredentialsRefused(
                "not_yet_valid",
                "the token is not valid yet",
                partial(_describe_early, name, begin - now),
            )
    return float(min(expires, _LAST))


def _describe_early(claim: str, seconds: float) -> str:
    return (
        f"{claim} is {seconds:.0f} s ahead of the clock of this pod; compare the clocks of this"
        " node and the issuer"
    )


def _number(value: object) -> float | None:
    """Return a number, within the bounds of what calculations can hold; None for other values."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return max(min(value, _BEYOND), -_BEYOND)


class IdentityRule(Protocol):
    """The way from the claims of a token to an identity."""

    def identify(self, token: Token, expires: float) -> Identity:
        """Return the identity. Raise CredentialsRefused if the token does not have one."""


class TokenIssuer:
    """An issuer: whose tokens are its own, the rules for them, and the keys that verify them."""

    def __init__(
        self,
        name: Callable[[], str],
        keys: KeySource,
        audience: AudienceRule,
        identities: IdentityRule,
    ) -> None:
        """`name` returns the value of the claim iss, which a cluster may change."""
        self._name = name
        self.keys = keys
        self._audience = audience
        self.identify = identities.identify

    @property
    def name(self) -> str:
        """The value of the claim iss; empty while it is unknown."""
        return self._name()

    def issues(self, token: Token) -> bool:
        """Return True if a token names this issuer."""
        name = self.name
        return bool(name) and token.claims.get("iss") == name

    def check(self, token: Token, now: float) -> float:
        """Return the expiration of a token. Raise CredentialsRefused if it is not acceptable."""
        self._audience.check(token.claims)
        return check_times(token.claims, now)


class JwtIdentities:
    """Identities in the tokens of one issuer of `spec.authentication.jwt`."""

    def __init__(self, entry: "JwtIssuer", *, keeps_claims: bool = True) -> None:
        """`keeps_claims` means that identities contain all claims of their tokens, which take more
        memory than the rest."""
        self._issuer = entry.issuer
        self._keeps_claims = keeps_claims
        self._names = entry.claim_names

    def identify(self, token: Token, expires: float) -> Identity:
        """Return the identity. Raise CredentialsRefused if the token does not name its subject."""
        names, claims = self._names, token.claims
        scopes = _find(claims, names.scopes or "scope")
        if scopes is None and names.scopes is None:
            scopes = _find(claims, "scp")
        actor = _find(claims, "act.sub")
        client = _find(claims, names.client) if names.client else None
        return Identity(
            "jwt",
            issuer=self._issuer,
            subject=_subject(_find(claims, names.subject or "sub")),
            client=client if isinstance(client, str) else "",
            groups=_shared(frozenset(_strings(_find(claims, names.groups or "groups")))),
            scopes=_shared(frozenset(word for text in _strings(scopes) for word in text.split())),
            actor=actor if isinstance(actor, str) else "",
            expires=expires,
            claims=LazyClaims(token.payload) if self._keeps_claims else _NO_CLAIMS,
        )


class ServiceAccountIdentities:
    """Identities in the tokens of the cluster's ServiceAccounts."""

    @staticmethod
    def identify(token: Token, expires: float) -> Identity:
        """Return the identity. Raise CredentialsRefused if the token is of no ServiceAccount."""
        subject = _subject(token.claims.get("sub"))
        namespace, colon, name = subject.removeprefix(_SUBJECT).partition(":")
        if not subject.startswith(_SUBJECT) or not (namespace and colon and name) or ":" in name:
            raise CredentialsRefused("wrong_type", "the token is not one of a ServiceAccount")
        return Identity(
            "serviceAccount",
            issuer=SERVICE_ACCOUNTS,
            subject=subject,
            service_account=(namespace, name),
            expires=expires,
            claims=LazyClaims(token.payload),
        )


@lru_cache(maxsize=1024)
def _shared(words: frozenset[str]) -> frozenset[str]:
    """Return the same object for equal sets, because many subjects have the same groups."""
    return words


def _subject(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise CredentialsRefused(
            "malformed",
            "the token does not name its subject",
            lambda: (
                f"the claim of the subject is {quote(value)}; let the issuer add it, such as by"
                " Keycloak's client scope basic, or name another claim in claims.subject"
            ),
        )
    return value


def _find(claims: Mapping[str, Any], name: str) -> object:
    """Return a claim by its name or, with dots, a member of nested claims; None without it."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _strings(value: object) -> list[str]:
    """Return the strings of a claim that is a list or one string."""
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]
