"""Admissions: verified credentials, which are not verified again with each request."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from mcpproxy.limits.access import ADMISSIONS, ADMITTED_FOR, FORGERIES, FORGING_NETWORKS
from mcpproxy.proxy.core.identity import ANONYMOUS, CLOCK_SKEW, Identity
from mcpproxy.proxy.fair_shares import FairShares


class Proof(Protocol):
    """The key or hash that credentials were verified with."""

    @property
    def revoked(self) -> bool:
        """True once credentials that were verified with it count no longer."""


class _Unrevoked:
    revoked = False


class Admission:
    """An identity, and how long it may be used without another verification."""

    __slots__ = ("_with_token", "identity", "proof", "until")

    def __init__(self, identity: Identity, until: float, proof: Proof) -> None:
        """`until` is in seconds since the epoch."""
        self.identity = identity
        self.until = until
        self.proof = proof
        self._with_token: weakref.ref[Identity] | None = None

    def identity_with(self, token: str) -> Identity:
        """Return the identity with its token: one object for all heads that carry the token.

        Only the heads keep the token; the admission does not.
        """
        known = None if self._with_token is None else self._with_token()
        if known is None:
            known = replace(self.identity, token=token)
            self._with_token = weakref.ref(known)
        return known

    def is_valid(self, now: float) -> bool:
        """Return True if the identity need not be verified again."""
        return now < self.until and not self.proof.revoked


ANONYMOUS_ADMISSION: Final = Admission(ANONYMOUS, float("inf"), _Unrevoked())


class AdmissionCache:
    """Admissions by the digests of their credentials; the credentials themselves are not kept."""

    def __init__(self) -> None:
        self._admissions: dict[bytes, Admission] = {}
        self._shares: FairShares[bytes] = FairShares(ADMISSIONS.value)

    def find(self, digest: bytes) -> Admission | None:
        """Return the admission of credentials, valid or not."""
        admission = self._admissions.get(digest)
        if admission is not None:
            self._shares.touch(digest)
        return admission

    def add(self, digest: bytes, identity: Identity, proof: Proof, now: float) -> Admission:
        """Admit verified credentials."""
        until = now + ADMITTED_FOR.value
        if identity.expires is not None:
            until = min(until, identity.expires + CLOCK_SKEW)
        if self._shares.is_full and digest not in self._shares:
            ADMISSIONS.record()
            self.discard(self._shares.choose())
        admission = self._admissions[digest] = Admission(identity, until, proof)
        # A user, in strings that the identity keeps in any case.
        self._shares.add(digest, (identity.method, identity.issuer, identity.subject))
        return admission

    def discard(self, digest: bytes | None) -> None:
        """Forget credentials that are not accepted, or not for longer."""
        if digest is not None and self._admissions.pop(digest, None) is not None:
            self._shares.discard(digest)

    def __len__(self) -> int:
        return len(self._admissions)


@dataclass(slots=True)
class _Count:
    since: float
    forgeries: float


class ForgeryLimit:
    """Limit of the tokens with wrong signatures from each network.

    Verifying a signature takes longer than anything else that is done for an unknown client.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._counts: dict[str, _Count] = {}
        """Networks in the order of their last wrong signature."""

    def is_reached(self, network: str) -> bool:
        """Return True if no further unknown token from this network should be verified now."""
        count = self._counts.get(network)
        if count is None:
            return False
        reached = self._left(count) >= FORGERIES.value
        if reached:
            FORGERIES.record()
        return reached

    def count(self, network: str) -> None:
        """Record a token with a wrong signature."""
        count = self._counts.pop(network, None) or _Count(self._now(), 0)
        if len(self._counts) >= FORGING_NETWORKS.value:
            FORGING_NETWORKS.record()
            del self._counts[next(iter(self._counts))]
        self._counts[network] = _Count(self._now(), self._left(count) + 1)

    def _left(self, count: _Count) -> float:
        return max(0.0, count.forgeries - (self._now() - count.since) * FORGERIES.value)
