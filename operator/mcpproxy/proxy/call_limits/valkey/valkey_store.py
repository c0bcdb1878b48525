"""Counting by a Valkey or Redis server, whose script grants leases as an owner does."""

import asyncio
import logging
import os
import secrets
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mcpproxy.api.authority import parse_authority
from mcpproxy.limits.clients import STORE_REQUESTS
from mcpproxy.limits.instances import HOLD_TIME, LEASE_TIME
from mcpproxy.proxy.call_limits.store import (
    FailureRecord,
    HoldRequest,
    Lease,
    LeaseRequest,
    StoreUnavailable,
    SubjectKey,
)
from mcpproxy.proxy.call_limits.valkey.resp import Reply, RespClient, StoreError
from mcpproxy.proxy.call_limits.valkey.scripts import GIVE_BACK, HOLD, LEASE
from mcpproxy.proxy.call_limits.window import Rate
from mcpproxy.proxy.core.errors import MissingReference
from mcpproxy.proxy.upstream.mounted.values import MountedValues, ValueGroup

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import ValkeyServer

DEFAULT_PORT: Final = 6379
log = logging.getLogger("mcpproxy.limits")


class ValkeyStore:
    """Store on one server."""

    def __init__(self, spec: "ValkeyServer", prefix: str, values: MountedValues) -> None:
        """`prefix` distinguishes the keys of this proxy from those of others."""
        authority = parse_authority(spec.address)
        if authority is None or authority.port is None:
            raise ValueError(f"spec.limits.shared.valkey.address: {spec.address} is not HOST:PORT")
        self._prefix, self._address = prefix, spec.address
        self._asker = secrets.token_urlsafe(6)
        host = authority.host.strip("[]")
        self._client = RespClient(host, authority.port, _tls(spec, values), _password(spec, values))
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure = FailureRecord(values.clock)
        self.sent = 0
        """Requests sent so far."""

    def lease_at_once(self, request: LeaseRequest, now: float) -> Lease | None:
        return None

    async def lease(self, request: LeaseRequest) -> Lease:
        calls, period, burst = request.rate
        content = (calls, round(period * 1000), burst, request.wanted, self._asker)
        reply = await self._run(LEASE, request.key, *map(str, content))
        match reply:
            case [int(count), int(wait), int(slot)] if 0 <= count <= request.wanted and wait >= 0:
                return Lease(count, wait / 1000, float(slot), self._address)
        raise self._failed("the answer is not understood")

    def give_back(self, key: SubjectKey, rate: Rate, lease: Lease, count: int) -> None:
        if len(self._tasks) >= STORE_REQUESTS.value:
            return
        interval = rate.period * 1000 / rate.calls
        task = asyncio.get_running_loop().create_task(
            self._give_back(key, f"{lease.booked:.0f}", str(count), str(interval))
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _give_back(self, key: SubjectKey, *content: str) -> None:
        try:
            await self._run(GIVE_BACK, key, *content)
        except StoreUnavailable:
            # The calls stay counted until they leave the period.
            return

    def hold_at_once(self, request: HoldRequest, now: float) -> int | None:
        return None

    async def hold(self, request: HoldRequest) -> int:
        key, limit, wanted, running = request
        time = round(HOLD_TIME.value * 1000)
        content = (str(limit), str(wanted), str(running), self._asker, str(time))
        reply = await self._run(HOLD, key._replace(rule=f"{key.rule}:slots"), *content)
        if isinstance(reply, int) and 0 <= reply <= wanted:
            return reply
        raise self._failed("the answer is not understood")

    async def _run(self, script: str, key: SubjectKey, *content: str) -> Reply:
        name = f"{self._prefix}:{key.rule}:{key.subject}"
        self.sent += 1
        try:
            async with asyncio.timeout(LEASE_TIME.value):
                reply = await self._client.request("EVAL", script, "1", name, *content)
        except TimeoutError:
            LEASE_TIME.record()
            raise self._failed(f"no answer within {LEASE_TIME.value} s") from None
        except (OSError, ssl.SSLError, StoreError, MissingReference, ValueError) as error:
            raise self._failed(_describe(error)) from None
        if self._failure.current() is not None:
            log.info("the store of spec.limits answers again")
        self._failure.clear()
        return reply

    def _failed(self, why: str) -> StoreUnavailable:
        if self._failure.record(f"{self._address}: {why}"):
            log.warning("the store of spec.limits at %s fails: %s", self._address, why)
        return StoreUnavailable(why)

    def failure(self) -> str | None:
        return self._failure.current()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()


def _describe(error: Exception) -> str:
    """Return the cause of a failure for messages."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS failed: {error.verify_message}"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error)


def _tls(spec: "ValkeyServer", values: MountedValues) -> Callable[[], ssl.SSLContext | None]:
    group = ValueGroup(values, [spec.tls_from])

    def context() -> ssl.SSLContext | None:
        if spec.tls_from is None:
            return None
        return ssl.create_default_context(cadata=group.current()[0])

    return context


def _password(spec: "ValkeyServer", values: MountedValues) -> Callable[[], str | None]:
    group = ValueGroup(values, [spec.password_from])
    return lambda: None if spec.password_from is None else group.current()[0]
