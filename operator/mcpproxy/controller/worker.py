"""Workers that take keys from the queue and reconcile them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Literal, Protocol

from mcpproxy.cluster.errors import ClusterError, Conflict, Invalid, InvalidFields
from mcpproxy.cluster.resources import ProxyKey
from mcpproxy.controller.work_queue import WorkQueue

log = logging.getLogger(__name__)

Result = Literal["ok", "conflict", "refused", "error"]


class PassRecorder(Protocol):
    """Recorder of passes."""

    def passed(self, result: Result, seconds: float) -> None:
        """Record the result and duration of a pass."""


SLOW: Final = 2.0
"""Seconds after which a worker takes the next key while a pass continues."""
WAITING: Final = 16
"""Number of unfinished passes of one worker. Each holds the objects of its MCPProxy: 0.1 MiB."""
WAITING_WHEN_BUSY: Final = 1
"""Number of unfinished passes of one worker while the API server is busy."""


async def run_worker(
    queue: WorkQueue[ProxyKey],
    reconcile: Callable[[ProxyKey], Awaitable[float | None]],
    recorder: PassRecorder,
    clock: Callable[[], float],
    logged: dict[ProxyKey, str] | None = None,
    is_busy: Callable[[], bool] = lambda: False,
) -> None:
    """Reconcile one key after another until cancelled.

    A pass that takes long, for example because of a webhook, does not delay other MCPProxies: it
    continues beside theirs. While the API server `is_busy`, no pass runs beside a slow one,
    because it would only make all of them slower.

    Workers share `logged`, the last logged error of each failing MCPProxy.
    """
    logged = {} if logged is None else logged
    waiting: set[asyncio.Task[None]] = set()

    async def run(key: ProxyKey) -> None:
        began = clock()
        try:
            result = await _one(queue, reconcile, key, logged)
        finally:
            queue.done(key)
        recorder.passed(result, clock() - began)

    try:
        while True:
            while len(waiting) >= (WAITING_WHEN_BUSY if is_busy() else WAITING):
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(run(await queue.get()))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            await asyncio.wait({task}, timeout=SLOW)
    finally:
        unfinished = list(waiting)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)


async def _one(
    queue: WorkQueue[ProxyKey],
    reconcile: Callable[[ProxyKey], Awaitable[float | None]],
    key: ProxyKey,
    logged: dict[ProxyKey, str],
) -> Result:
    """Reconcile one key and schedule its next pass; log each error of an MCPProxy once."""
    try:
        again = await reconcile(key)
    except asyncio.CancelledError:
        raise
    except Conflict as error:
        log.info("%s/%s changed during the reconciliation; retrying: %s", *key, error)
        queue.retry(key)
        return "conflict"
    except ClusterError as error:
        delay = queue.retry(key, lasts=isinstance(error, InvalidFields))
        level = logging.DEBUG if logged.get(key) == str(error) else logging.WARNING
        log.log(level, "%s/%s: retrying in %.1f s: %s", *key, delay, error)
        logged[key] = str(error)
        # Only the author of the spec or of a policy can fix a rejection, so it is not an error.
        return "refused" if isinstance(error, Invalid) else "error"
    except Exception as error:
        delay = queue.retry(key)
        is_new = logged.get(key) != repr(error)
        log.error("%s/%s: %r; retrying in %.1f s", *key, error, delay, exc_info=is_new)
        logged[key] = repr(error)
        return "error"
    queue.forget(key)
    if logged.pop(key, None) is not None:
        log.info("%s/%s: reconciliation succeeds again", *key)
    if again is not None:
        queue.add_after(key, again)
    return "ok"
