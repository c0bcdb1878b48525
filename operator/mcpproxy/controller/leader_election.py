"""Leader election by a Lease of coordination.k8s.io: of several operators one works.

The election that kubernetes.aio brings does not do: its requests have no deadline, so a leader
that gets no answer goes on past its time; a refused connection ends it; it goes by the wall clock;
and it never releases the Lease.
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
    """Seconds."""

    duration: float = 15.0
    """Without a renewal for so long, the Lease is anybody's."""
    renewal: float = 10.0
    """A leader that could not renew for so long stops; what it has sent can still arrive."""
    retry: float = 2.0
    """Between two attempts to win or to renew."""

    def __post_init__(self) -> None:
        if not 0 < self.retry < self.renewal < self.duration:
            raise ValueError(
                f"lease duration {self.duration:g} s, renewal {self.renewal:g} s and retry"
                f" {self.retry:g} s: each has to be shorter than the one before"
            )


class LeaseClient(Protocol):
    """What the election does with the API server. Every method raises ClusterError."""

    async def get(self, kind: ResourceKind, namespace: str, name: str) -> Object | None:
        """The Lease; None when there is none."""

    async def create(self, manifest: Object) -> bool:
        """Create the Lease; False when it exists already."""

    async def replace(self, manifest: Object) -> Object:
        """Replace the Lease unless it has changed since it was read: then raise Conflict."""


@dataclass(frozen=True, slots=True)
class LeaseRef:
    """Which Lease."""

    namespace: str
    name: str


class LeaderElector:
    """One candidate."""

    def __init__(
        self,
        leases: LeaseClient,
        place: LeaseRef,
        identity: str,
        clock: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        timing: LeaderElectionConfig | None = None,
    ) -> None:
        """`identity` is this candidate's alone. `clock` decides, `now` is written down."""
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
        """Whether this candidate may write now."""
        return self._clock() < self._leads_until

    async def attempt(self) -> bool:
        """Win or renew the Lease if that can be; whether it is ours now.

        Raises ClusterError; a leader remains one until its time is over.
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
        """Give the Lease up, so that the next candidate need not wait for its end."""
        if not self.leads():
            return
        self._leads_until = -math.inf
        lease = await self._leases.get(LEASE, self._place.namespace, self._place.name)
        if lease is not None and _holder(lease) == self._identity:
            spec = {**lease["spec"], "leaseDurationSeconds": 1, "renewTime": self._time()}
            del spec["holderIdentity"]
            await self._leases.replace({**lease, "spec": spec})
            log.info("released the lease %s", self._place.name)

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Until cancelled: `lead` while the Lease is ours, cancelled as soon as it is not.

        Ends with the error of `lead` if that fails.
        """
        while True:
            await self._until_won()
            log.info("leading as %s", self._identity)
            term = asyncio.ensure_future(lead())
            try:
                await self._until_lost(term)
                log.warning("not leading any more")
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
                raise RuntimeError("the work of the leader came to an end by itself")
            await self._try(self._left())

    async def _try(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                return await self.attempt()
        except TimeoutError:
            log.warning("no answer about the lease %s in time", self._place.name)
        except ClusterError as error:
            log.warning("the lease %s: %s", self._place.name, error)
        return False

    async def _let_go(self) -> None:
        try:
            async with asyncio.timeout(self._timing.retry):
                await self.release()
        except (ClusterError, TimeoutError) as error:
            log.warning("the lease %s was not released: %s", self._place.name, error)

    def _left(self) -> float:
        return self._leads_until - self._clock()

    def _is_free(self, lease: Object) -> bool:
        """Whether it is ours, or nobody renews it. Clocks of others don't matter."""
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
        found = {
            **spec,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": math.ceil(self._timing.duration),
            "renewTime": now,
        }
        if spec.get("holderIdentity") != self._identity:
            found["acquireTime"] = now
            found["leaseTransitions"] = spec.get("leaseTransitions", 0) + (1 if spec else 0)
        return found

    def _time(self) -> str:
        return self._now().astimezone(UTC).strftime(_MICRO_TIME)


_MICRO_TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


def _spec(lease: Object) -> Object:
    return lease.get("spec") or {}


def _holder(lease: Object) -> str | None:
    return _spec(lease).get("holderIdentity") or None
