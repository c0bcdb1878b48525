"""Authentication of requests by their Authorization header."""

import hashlib
import hmac
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from mcpproxy.api.untrusted_text import quote
from mcpproxy.limits.access import CREDENTIALS, WAITING_FOR_KEYS
from mcpproxy.proxy.authentication.admissions import (
    ANONYMOUS_ADMISSION,
    Admission,
    AdmissionCache,
    ForgeryLimit,
    Proof,
)
from mcpproxy.proxy.authentication.mounted_keys import ApiKeyHashes
from mcpproxy.proxy.authentication.refusals import (
    Challenges,
    CredentialsRefused,
    RefusalLog,
)
from mcpproxy.proxy.authentication.token_rules import TokenIssuer
from mcpproxy.proxy.authentication.tokens import (
    NO_ID_TOKENS,
    IdTokens,
    Token,
    looks_signed,
    parse_token,
)
from mcpproxy.proxy.authentication.verification_keys import KeySource
from mcpproxy.proxy.core.identity import API_KEYS, Identity
from mcpproxy.proxy.fair_shares import FairShares
from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.http1.server.request import RequestHead

AUTHORIZATION: Final = b"authorization"
_BEARER: Final = b"bearer"


def ignore_refusal(result: str, network: str) -> None:
    """Record nothing about credentials that are not accepted."""


class KeysNeeded(Exception):
    """Keys must be fetched before a token can be verified."""

    def __init__(self, keys: KeySource) -> None:
        super().__init__("keys must be fetched")
        self.keys = keys


class Authenticator:
    """Authenticator of the requests to one endpoint."""

    def __init__(
        self,
        issuers: Sequence[TokenIssuer],
        api_keys: ApiKeyHashes | None,
        challenges: Challenges,
        *,
        allows_anonymous: bool,
        id_tokens: IdTokens = NO_ID_TOKENS,
        now: Callable[[], float] = time.time,
        on_refused: Callable[[str, str], None] = ignore_refusal,
    ) -> None:
        """`id_tokens` are accepted like access tokens. `now` returns the seconds since the epoch.

        `on_refused` is called with the result and the sender's network for credentials that are
        not accepted.
        """
        self._on_refused = on_refused
        self._issuers = issuers
        self._api_keys = api_keys
        self._challenges = challenges
        self._allows_anonymous = allows_anonymous
        self._id_tokens = id_tokens
        self.now = now
        self._cache = AdmissionCache()
        self._forgeries = ForgeryLimit(now)
        self._waiting: FairShares[int] = FairShares(WAITING_FOR_KEYS.value)
        self._numbers = itertools.count(1)
        self._results: Counter[tuple[str, str]] = Counter()
        self._log = RefusalLog(now)

    def results(self) -> Iterable[tuple[Sequence[str], int]]:
        """Return the number of authentications by method and result."""
        return [(labels, count) for labels, count in self._results.items()]

    def admit(self, head: RequestHead, network: str) -> Admission:
        """Authenticate the sender of a request. Raise HttpError, or KeysNeeded."""
        try:
            return self._admit(head, network)
        except CredentialsRefused as refusal:
            raise self._response(refusal, network) from None

    async def admit_later(self, head: RequestHead, network: str) -> Admission:
        """Authenticate the sender of a request, with newly fetched keys. Raise HttpError."""
        try:
            return self._admit(head, network)
        except KeysNeeded as needed:
            await self._await_keys(needed.keys, network)
        except CredentialsRefused as refusal:
            raise self._response(refusal, network) from None
        try:
            return self._admit(head, network, last=True)
        except CredentialsRefused as refusal:
            raise self._response(refusal, network) from None

    async def _await_keys(self, keys: KeySource, network: str) -> None:
        # The sender is not authenticated yet, so each network has a share.
        if not self._waiting.admits((network,)):
            WAITING_FOR_KEYS.record()
            raise self._response(_unavailable(), network)
        number = next(self._numbers)
        self._waiting.add(number, (network,))
        try:
            await keys.learn()
        finally:
            self._waiting.discard(number)

    def _response(self, refusal: CredentialsRefused, network: str) -> HttpError:
        self._results["", refusal.result] += 1
        self._on_refused(refusal.result, network)
        self._log.record(refusal)
        match refusal.result:
            case "missing":
                return self._challenges.missing()
            case "unavailable":
                return self._challenges.unavailable(refusal)
            case "limited":
                return self._challenges.too_many(refusal)
        return self._challenges.invalid(refusal)

    def _admit(self, head: RequestHead, network: str, *, last: bool = False) -> Admission:
        value = head.headers.get(AUTHORIZATION)
        if value is None:
            if self._allows_anonymous:
                return ANONYMOUS_ADMISSION
            raise CredentialsRefused("missing", "")
        if len(head.headers) != len(head.lines) and _is_repeated(head):
            self._results["", "malformed"] += 1
            self._on_refused("malformed", network)
            raise self._challenges.repeated()
        credentials = _bearer(value)
        digest = hashlib.sha256(credentials).digest()
        known = self._cache.find(digest)
        now = self.now()
        if known is not None and known.is_valid(now):
            return known
        try:
            identity, proof = self._verify(credentials, digest, network, known is not None, last)
        except CredentialsRefused:
            self._cache.discard(digest)
            raise
        self._results[identity.method, "accepted"] += 1
        return self._cache.add(digest, identity, proof, now)

    def _verify(
        self, credentials: bytes, digest: bytes, network: str, known: bool, last: bool
    ) -> tuple[Identity, Proof]:
        """Return the identity and its proof. Raise CredentialsRefused, or KeysNeeded.

        `known` tokens were verified before; a `last` attempt fetches no keys.
        """
        api_key = self._find_api_key(digest)
        if api_key is not None:
            return api_key
        if not (self._issuers and looks_signed(credentials)):
            raise CredentialsRefused(
                "malformed", "the credentials are neither a valid token nor a known API key"
            )
        token = parse_token(credentials, self._id_tokens)
        issuer, expires = self._issuer_of(token)
        keys = issuer.keys.candidates(token)
        if not keys:
            raise _lacking(issuer.keys, token, last=last)
        if not known and self._forgeries.is_reached(network):
            raise CredentialsRefused("limited", "too many tokens with wrong signatures; try later")
        for key in keys:
            if key.verifies(token):
                return issuer.identify(token, expires), key
        self._forgeries.count(network)
        raise CredentialsRefused("bad_signature", "the signature of the token is wrong")

    def _find_api_key(self, digest: bytes) -> tuple[Identity, Proof] | None:
        """Return the API key with this hash, after as many comparisons as there are keys."""
        match = None
        for entry in self._api_keys.hashes if self._api_keys else ():
            if hmac.compare_digest(entry.digest, digest):
                match = entry
        if match is None:
            return None
        return Identity("apiKey", API_KEYS, match.name, api_key=match.name), match

    def _issuer_of(self, token: Token) -> tuple[TokenIssuer, float]:
        """Return the issuer of a token and its expiration. Raise CredentialsRefused."""
        refusal: CredentialsRefused | None = None
        for issuer in self._issuers:
            if not issuer.issues(token):
                continue
            try:
                return issuer, issuer.check(token, self.now())
            except CredentialsRefused as error:
                refusal = error
        raise refusal or self._unknown_issuer(token)

    def _unknown_issuer(self, token: Token) -> CredentialsRefused:
        return CredentialsRefused(
            "unknown_issuer",
            "the issuer of the token is not accepted; see its claim iss",
            lambda: (
                f"iss is {quote(token.claims.get('iss'))}, and the configured issuers are"
                f" {quote([issuer.name for issuer in self._issuers])}; scheme, host, port and a"
                " slash at the end must be the same"
            ),
        )


def _is_repeated(head: RequestHead) -> bool:
    return sum(name == AUTHORIZATION for name, _ in head.lines) > 1


def _bearer(value: bytes) -> bytes:
    """Return the credentials in an Authorization header. Raise CredentialsRefused."""
    scheme, _, credentials = value.strip(b" \t").partition(b" ")
    credentials = credentials.strip(b" ")
    if scheme.lower() != _BEARER:
        raise CredentialsRefused("missing", "")
    if len(credentials) > CREDENTIALS.value:
        CREDENTIALS.record()
        most = CREDENTIALS.value
        raise CredentialsRefused("malformed", f"the credentials have more than {most} bytes")
    if not credentials or any(byte in credentials for byte in b" ,\t"):
        raise CredentialsRefused("malformed", "Authorization: Bearer needs one token or API key")
    return credentials


def _lacking(keys: KeySource, token: Token, *, last: bool) -> Exception:
    """Return the error for a token whose key is not among the known ones."""
    if keys.may_learn and not last:
        return KeysNeeded(keys)
    if not keys.are_known:
        return _unavailable()
    return CredentialsRefused(
        "unknown_key",
        "the key of the token is unknown",
        lambda: (
            f"the issuer publishes no key with kid {quote(token.key_id)} for"
            f" {quote(token.algorithm)}; the key was removed, or jwksUrl is that of another realm"
        ),
    )


def _unavailable() -> CredentialsRefused:
    return CredentialsRefused("unavailable", "the keys of the issuer can not be read at present")
