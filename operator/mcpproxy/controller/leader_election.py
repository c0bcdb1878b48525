"""Leader election by a Lease of coordination.k8s.io: one of several operators works.

The election of kubernetes.aio is not sufficient. Its requests have no deadline, so that a leader
without an answer continues after its lease expired. A refused connection ends it, it depends on the
wall clock, and it never releases the Lease.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.errors import ClusterError
from mcpproxy.cluster.resources import LEASE, ResourceKind

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaderElectionConfig:
    """Durations in seconds."""

    duration: float = 15.0
    """Time without a renewal after which any candidate may take the Lease."""
    renewal: float = 10.0
    """Time without a renewal after which a leader stops; requests in flight can still arrive."""
    retry: float = 2.0
    """Time between two attempts to acquire or renew the Lease."""

    def __post_init__(self) -> None:
        if not 0 < self.retry < self.renewal < self.duration:
            raise ValueError(
                f"lease duration {self.duration:g} s, renewal {self.renewal:g} s and retry"
                f" {self.retry:g} s: each must be shorter than the previous one"
            )


class LeaseClient(Protocol):
    """Requests of the election to the API server. Every method raises ClusterError."""

    async def get(self, kind: ResourceKind, namespace: str, name: str) -> Object | None:
        """Return the Lease; None if it does not exist."""

    async def create(self, manifest: Object) -> bool:
        """Create the Lease; return False if it exists already."""

    async def replace(self, manifest: Object) -> Object:
        """Replace the Lease. Raise Conflict if it has changed since it was read."""


@dataclass(frozen=True, slots=True)
class LeaseRef:
    """Namespace and name of a Lease."""

    namespace: str
    name: str


class LeaderElector:
    """Candidate for the leadership."""

    def __init__(
        self,
        leases: LeaseClient,
        place: LeaseRef,
        identity: str,
        clock: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        timing: LeaderElectionConfig | None = None,
    ) -> None:
        """`identity` is unique to this candidate.

        Decisions depend on `clock`, which is monotonic; `now` is only written to the Lease.
        """
        self._leases = leases
        self._place = place
        self._identity = identity
        self._clock = clock
        self._now = now
        self._timing = timing or LeaderElectionConfig()
        self._leads_until = -math.inf
        self._seen: tuple[Any, ...] = ()
        self._seen_at = 0.0

    def leads(self) -> bool:
        """Return True if this candidate may write now."""
        return self._clock() < self._leads_until

    async def attempt(self) -> bool:
        """Try to acquire or renew the Lease. Return True if this candidate holds it.

        Raise ClusterError; a leader remains one until its time is over.
        """
        began = self._clock()
        lease = await self._leases.get(LEASE, self._place.namespace, self._place.name)
        if lease is None:
            won = await self._leases.create(self._new())
        else:
            won = self._is_free(lease)
            if won:
                await self._leases.replace({**lease, "spec": self._renewed(_spec(lease))})
        self._leads_until = began + self._timing.renewal if won else -math.inf
        return won

    async def release(self) -> None:
        """Release the Lease, so that the next candidate need not wait until it expires."""
        if not self.leads():
            return
        self._leads_until = -math.inf
        lease = await self._leases.get(LEASE, self._place.namespace, self._place.name)
        if lease is not None and _holder(lease) == self._identity:
            spec = {**lease["spec"], "leaseDurationSeconds": 1, "renewTime": self._time()}
            del spec["holderIdentity"]
            await self._leases.replace({**lease, "spec": spec})
            log.info("released Lease %s", self._place.name)

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Run `lead` while this candidate holds the Lease, until cancelled.

        `lead` is cancelled as soon as the Lease is lost. Raise its error if it fails.
        """
        while True:
            await self._until_won()
            log.info("leading as %s", self._identity)
            term = asyncio.ensure_future(lead())
            try:
                await self._until_lost(term)
                log.warning("lost the leadership")
            finally:
                term.cancel()
                await asyncio.gather(term, return_exceptions=True)
                await self._let_go()

    async def _until_won(self) -> None:
        while True:
            if await self._try(self._timing.duration):
                return
            await asyncio.sleep(self._timing.retry)

    async def _until_lost(self, term: asyncio.Future[None]) -> None:
        while self.leads():
            await asyncio.wait({term}, timeout=min(self._timing.retry, self._left()))
            if term.done():
                term.result()
                raise RuntimeError("the leader's work ended without an error")
            await self._try(self._left())

    async def _try(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                return await self.attempt()
        except TimeoutError:
            log.warning("a request for Lease %s timed out", self._place.name)
        except ClusterError as error:
            log.warning("a request for Lease %s failed: %s", self._place.name, error)
        return False

    async def _let_go(self) -> None:
        try:
            async with asyncio.timeout(self._timing.retry):
                await self.release()
        except (ClusterError, TimeoutError) as error:
            log.warning("cannot release Lease %s: %s", self._place.name, error)

    def _left(self) -> float:
        return self._leads_until - self._clock()

    def _is_free(self, lease: Object) -> bool:
        """Return True if the Lease is held by this candidate, or not renewed by its holder.

        Only this candidate's clock counts.
        """
        spec, holder = _spec(lease), _holder(lease)
        seen = (holder, spec.get("renewTime"), lease["metadata"]["resourceVersion"])
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        if holder in (None, self._identity):
            return True
        duration = spec.get("leaseDurationSeconds", self._timing.duration)
        return bool(self._clock() - self._seen_at >= duration)

    def _new(self) -> Object:
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": {"name": self._place.name, "namespace": self._place.namespace},
            "spec": self._renewed({}),
        }

    def _renewed(self, spec: Object) -> Object:
        now = self._time()
        renewed = {
            **spec,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": math.ceil(self._timing.duration),
            "renewTime": now,
        }
        if spec.get("holderIdentity") != self._identity:
            renewed["acquireTime"] = now
            renewed["leaseTransitions"] = spec.get("leaseTransitions", 0) + (1 if spec else 0)
        return renewed

    def _time(self) -> str:
        return self._now().astimezone(UTC).strftime(_MICRO_TIME)


_MICRO_TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


def _spec(lease: Object) -> Object:
    return lease.get("spec") or {}


def _holder(lease: Object) -> str | None:
    return _spec(lease).get("holderIdentity") or None
