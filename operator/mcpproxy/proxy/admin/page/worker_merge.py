"""The data of one page from all worker processes, which serve the same backends."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from heapq import nlargest
from itertools import chain
from typing import Final

import msgspec

from mcpproxy.api.v1alpha1.status import PodReport
from mcpproxy.limits.audit import RECENT_CALLS
from mcpproxy.proxy.admin.page.data import (
    BackendView,
    Overview,
    OverviewRequest,
    PageRequest,
)
from mcpproxy.proxy.admin.page.readiness import judge
from mcpproxy.proxy.telemetry.recent_calls import RecentCall

_REQUESTS: Final = msgspec.json.Decoder(PageRequest)
_OVERVIEWS: Final = msgspec.json.Decoder(Overview)
Ask = Callable[[bytes], Awaitable[Sequence[bytes]]]


async def merge_page_data(request: bytes, ask: Ask, report: PodReport, why: str | None) -> bytes:
    """Return the result of a `PageRequest` from those of the workers; `ask` returns these.

    `report` is the merged report, and `why` the reason for which /readyz fails. Raise TimeoutError
    if no worker responds.
    """
    results = await ask(request)
    if not results:
        raise TimeoutError
    if not isinstance(_REQUESTS.decode(request), OverviewRequest):
        return results[0]
    overviews = [_OVERVIEWS.decode(result) for result in results]
    return msgspec.json.encode(merge_overviews(overviews, report, why))


def merge_overviews(
    overviews: Sequence[Overview], report: PodReport, why: str | None = None
) -> Overview:
    """Return the overview of all workers; states are those of the merged report."""
    first = overviews[0]
    states = {status.name: status.to_manifest() for status in report.backends}
    views: dict[str, list[BackendView]] = {}
    for overview in overviews:
        for backend in overview.backends:
            views.setdefault(backend.name, []).append(backend)
    backends = [_merge_backend(same, states.get(name, {})) for name, same in views.items()]
    status, reason, message = judge(backends, why)
    return msgspec.structs.replace(
        first,
        catalog_hash=report.catalog_hash,
        ready=status,
        reason=reason,
        message=message,
        backends=backends,
        clashes=report.clashes,
        sessions=sum(overview.sessions for overview in overviews),
        streams=sum(overview.streams for overview in overviews),
        in_flight=sum(overview.in_flight for overview in overviews),
        parked=sum(overview.parked for overview in overviews),
        calls=_merge_calls([overview.calls or [] for overview in overviews]),
        workers=len(overviews),
    )


def _merge_backend(same: Sequence[BackendView], state: Mapping[str, str]) -> BackendView:
    first = same[0]
    return msgspec.structs.replace(
        first,
        state=state.get("state", first.state),
        reason=state.get("reason"),
        message=state.get("message"),
        sessions=sum(view.sessions for view in same),
        in_flight=sum(view.in_flight for view in same),
        checked_at=max((view.checked_at for view in same if view.checked_at), default=None),
        last_failure=next((view.last_failure for view in same if view.last_failure), None),
    )


def _merge_calls(calls: Sequence[list[RecentCall]]) -> list[RecentCall]:
    return nlargest(RECENT_CALLS.value, chain.from_iterable(calls), key=lambda call: call.time)
