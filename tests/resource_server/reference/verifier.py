"""Decides whose a token is, as RFC 9068 section 4 demands."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt

from tests.resource_server.reference import jws
from tests.resource_server.reference.jws import InvalidToken, Parts
from tests.resource_server.reference.key_store import KeyStore
from tests.resource_server.reference.rules import Rules


@dataclass(frozen=True)
class Caller:
    """The verified caller of a request."""

    principal: tuple[str, str]
    """Issuer and subject."""
    scopes: frozenset[str]
    expires: float


def _number(value: object, rules: Rules) -> float:
    if rules.breaks("times-number"):
        return float(str(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidToken("a time is no number")
    if rules.breaks("times-fraction") and isinstance(value, float):
        raise InvalidToken("a time has a fraction")
    try:
        number = float(value)
    except OverflowError:
        raise InvalidToken("a time is too large") from None
    if not 0 < number < 1e15:
        raise InvalidToken("a time is out of range")
    return number


class Verifier:
    """Verifies tokens for one resource."""

    def __init__(self, public_url: str, keys: KeyStore, leeway: float, rules: Rules) -> None:
        self._public_url = public_url
        self._keys = keys
        self._leeway = leeway
        self._rules = rules
        self._known: dict[str, Caller] = {}
        """Callers by their tokens, for a mutant that forgets that tokens expire."""

    def verify(self, token: str) -> Caller:
        """Return the caller. Raise InvalidToken, or Unavailable if no keys could be fetched."""
        if self._rules.breaks("accepts"):
            raise InvalidToken("no token is good enough")
        if token in self._known:
            return self._known[token]
        parts = jws.split(token, self._rules)
        jws.check_header(parts.header, self._rules)
        if not isinstance(parts.claims, dict) and self._rules.keep("claims-object"):
            raise InvalidToken("the claims are no object")
        issuer = self._issuer(parts.claims)
        self._verify_signature(parts, issuer)
        self._check_audience(parts.claims)
        expires = self._check_times(parts.claims)
        subject, scopes = self._subject(parts.claims), self._scopes(parts.claims)
        caller = Caller((issuer, subject), scopes, expires)
        if self._rules.breaks("exp-cache"):
            self._known[token] = caller
        return caller

    def _issuer(self, claims: dict[str, Any]) -> str:
        issuer = claims.get("iss")
        if self._rules.breaks("iss-required") and (not isinstance(issuer, str) or not issuer):
            issuer = self._main
        if self._rules.breaks("iss-exact") and isinstance(issuer, str):
            issuer = issuer.strip(" /?#").lower()
        if self._rules.breaks("iss-trusted") and isinstance(issuer, str) and "://" in issuer:
            self._keys.add(issuer)
        if not self._keys.trusts(issuer):
            raise InvalidToken("the issuer is not trusted")
        return str(issuer)

    @property
    def _main(self) -> str:
        return self._keys.main

    def _verify_signature(self, parts: Parts, issuer: str) -> None:
        key = self._find_key(parts, issuer)
        if key is None and self._rules.breaks("kid-known"):
            return
        if key is None:
            raise InvalidToken("the key is not known")
        try:
            jws.verify(parts, key, self._rules)
        except InvalidToken:
            if self._rules.breaks("fetch-on-bad-signature"):
                self._keys.refresh(issuer)
            raise

    def _find_key(self, parts: Parts, issuer: str) -> jwt.PyJWK | None:
        embedded = jws.embedded_key(parts.header, self._rules)
        if embedded is not None:
            return embedded
        kid = parts.header.get("kid")
        if kid is None and self._rules.breaks("no-unsigned"):
            kid = self._keys.any_kid(issuer)
        if not isinstance(kid, str) and self._rules.keep("kid-string"):
            raise InvalidToken("kid is no text")
        key = self._keys.find(issuer, kid)  # type: ignore[arg-type]
        if key is None and self._rules.breaks("kid-hint"):
            key = self._keys.find_by_alg(issuer, str(parts.header.get("alg")))
        return self._keys.find_anywhere(str(kid)) if self._rules.breaks("key-of-issuer") else key

    def _audiences(self, claims: dict[str, Any]) -> Iterator[str]:
        value = claims.get("aud")
        if isinstance(value, str):
            yield value
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            if self._rules.keep("aud-list"):
                yield from value
        elif self._rules.breaks("aud-type"):
            yield self._public_url if self._public_url in str(value) else ""

    def _check_audience(self, claims: dict[str, Any]) -> None:
        if self._rules.breaks("aud"):
            return
        if self._rules.breaks("aud-required") and not any(claims.get("aud") or [""]):
            return
        expected = self._normalized(self._public_url)
        if self._rules.breaks("aud-exact"):
            if any(value.startswith(expected[:-1]) for value in self._audiences(claims)):
                return
        elif expected in map(self._normalized, self._audiences(claims)):
            return
        raise InvalidToken("the token is for another resource")

    def _normalized(self, url: str) -> str:
        """Return a URL with scheme and host in lower case and without one final slash."""
        text = url.removesuffix("/") if self._rules.keep("aud-slash") else url
        try:
            parts = urlsplit(text)
        except ValueError:
            return text
        if not parts.netloc or self._rules.breaks("aud-case"):
            return text
        start = text.index(parts.netloc) + len(parts.netloc)
        return text[:start].lower() + text[start:]

    def _check_times(self, claims: dict[str, Any]) -> float:
        now, rules = time.time(), self._rules
        if "exp" not in claims and rules.breaks("exp-required"):
            return now + 60
        expires = _number(claims.get("exp"), rules)
        if rules.keep("exp") and now >= expires + (self._leeway if rules.keep("exp-skew") else 0):
            raise InvalidToken("the token has expired")
        for name in ("nbf", "iat"):
            if name not in claims or rules.breaks(name):
                continue
            ahead = self._leeway if rules.keep(f"{name}-skew") else 0.0
            if _number(claims[name], rules) > now + ahead:
                raise InvalidToken("the token is not valid yet")
        return expires

    def _subject(self, claims: dict[str, Any]) -> str:
        subject = claims.get("sub")
        if self._rules.breaks("sub"):
            return str(subject)
        if not isinstance(subject, str) or not subject:
            raise InvalidToken("the token has no subject")
        id_token = "at_hash" in claims or claims.get("typ") == "ID"
        if id_token and self._rules.keep("id-token"):
            raise InvalidToken("this is an ID token")
        return subject

    def _scopes(self, claims: dict[str, Any]) -> frozenset[str]:
        scope = claims.get("scope", "")
        if self._rules.breaks("scope-type"):
            return frozenset(scope.split())
        return frozenset(scope.split() if isinstance(scope, str) else ())
