"""Durations of MCP operations, by OpenTelemetry's semantic conventions for MCP.

An operation of the server is a request of a client; an operation of the client is a request that
the proxy sends to a backend. One thread counts, so there are no locks.

Clients choose methods and names, and backends choose error codes. All three become labels only if
the proxy knows them; `_OTHER` replaces the others.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate
from types import TracebackType
from typing import Final, Protocol, Self

from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.audit import METERED_NAMES
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.translation.plain_results import is_tool_error
from mcpproxy.proxy.core.translation.request_names import COMPLETE, ROUTED
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.protocol.kinds import BY_METHOD, PROMPTS, TOOLS, ComponentKind
from mcpproxy.proxy.protocol.revisions import ALL
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

OTHER: Final = "_OTHER"
"""OpenTelemetry's value for a label whose value is not known."""
TOOL_ERROR: Final = "tool_error"
"""Type of the error in a result with `isError`."""
CANCELLED: Final = "cancelled"
"""Type of the error of a request that its client does not wait for."""
KEPT_UNLISTED: Final = 256
"""Maximum number of names that no list shows whose histograms are remembered."""
LONGEST_NAME: Final = 128
"""Maximum number of characters of a label; longer names are `_OTHER`."""
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)
"""Upper bounds of buckets in seconds: those of the convention, with further ones below 10 ms."""
Ending = str | Message
"""End of a call: the `error.type`, which is empty for a success, or a decoded response."""
NAMED: Final[Mapping[str, ComponentKind]] = {"tools/call": TOOLS, "prompts/get": PROMPTS}
"""Methods of which the name of the component is a label."""
METHODS: Final = frozenset(
    {
        *ROUTED,
        *BY_METHOD,
        COMPLETE,
        "initialize",
        "ping",
        "logging/setLevel",
        "server/discover",
        "subscriptions/listen",
    }
)
_CODES: Final = frozenset(
    {
        jsonrpc.PARSE_ERROR,
        jsonrpc.INVALID_REQUEST,
        jsonrpc.METHOD_NOT_FOUND,
        jsonrpc.INVALID_PARAMS,
        jsonrpc.INTERNAL_ERROR,
        jsonrpc.UNAVAILABLE,
        jsonrpc.TIMED_OUT,
        jsonrpc.LEGACY_NOT_FOUND,
        jsonrpc.HEADER_MISMATCH,
        jsonrpc.MISSING_CAPABILITY,
        jsonrpc.UNSUPPORTED_VERSION,
        jsonrpc.REQUEST_CANCELLED,
    }
)
_COMMON: Final = (
    "mcp_method_name",
    "gen_ai_tool_name",
    "gen_ai_prompt_name",
    "error_type",
    "mcp_protocol_version",
    "network_transport",
)


def error_type_of_code(code: int) -> str:
    """Return the `error.type` of a JSON-RPC error."""
    return str(code) if code in _CODES else OTHER


def error_type(answer: Message) -> str:
    """Return the `error.type` of a response; empty for a success."""
    error = jsonrpc.error_of(answer)
    if error is not None:
        return error_type_of_code(error.code)
    result = answer.get("result")
    return TOOL_ERROR if result is not None and is_tool_error(result) else ""


class Histogram:
    """Histogram of the durations of operations."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        """Number of operations by bucket; the last bucket is unbounded."""
        self.seconds = 0.0


class MeteredCall(Protocol):
    """A call with its response, as far as labels need it."""

    began_at: float
    """Time of its arrival, by `time.perf_counter`."""

    @property
    def backend(self) -> Backend:
        """The backend that served the call."""

    @property
    def request(self) -> UpstreamRequest:
        """The request with the backend's names."""


class ListedNames(Protocol):
    """The downstream names that backends list."""

    version: int
    """Number that changes whenever the names or their owners change."""

    def owner(self, kind: ComponentKind, name: str) -> str | None:
        """Return the backend that serves a name, or None if none lists it."""


_Key = tuple[str, ...]


class OperationDurations(Collector):
    """Histograms of the durations of operations."""

    def __init__(self, listed: ListedNames) -> None:
        self._listed = listed
        self._calls: dict[_Key, tuple[Histogram, Histogram]] = {}
        """Histograms of the client and of the server by the values that calls differ in."""
        self._unlisted: dict[_Key, tuple[Histogram, Histogram]] = {}
        """The same of names that no list of the version `_unlisted_in` shows."""
        self._unlisted_in = listed.version
        self._client: dict[_Key, Histogram] = {}
        self._server: dict[_Key, Histogram] = {}
        self._names: dict[str, set[tuple[ComponentKind, str]]] = {}
        """Names that are labels, by backend."""
        self.transport = "tcp"
        """The `network.transport` of clients."""

    def end_call(
        self, call: MeteredCall, client: ClientIdentity, ending: Ending, served: bool
    ) -> tuple[str, float]:
        """Record a request to a backend; return its `error.type` and its duration in seconds.

        `served` means that the client has its response as well.
        """
        seconds = time.perf_counter() - call.began_at
        error = ending if isinstance(ending, str) else error_type(ending)
        backend, request = call.backend, call.request
        method, server = request.method, backend.watch.server
        name = request.target if method in NAMED else ""
        upstream = "" if server is None else server.revision
        key = (backend.name, method, name, client.revision, upstream, error)
        pair = self._calls.get(key)
        if pair is None:
            if self._unlisted_in != self._listed.version:
                self._unlisted.clear()
                self._unlisted_in = self._listed.version
            pair = self._unlisted.get(key)
            if pair is None:
                pair = self._add_call(key, "pipe" if backend.is_program else "tcp")
        bucket = bisect_left(BOUNDS, seconds)
        pair[0].counts[bucket] += 1
        pair[0].seconds += seconds
        if served:
            pair[1].counts[bucket] += 1
            pair[1].seconds += seconds
        return error, seconds

    def _add_call(self, key: _Key, transport: str) -> tuple[Histogram, Histogram]:
        backend, method, name, downstream, upstream, error = key
        bounded = self._labels(method, name, error)
        ours = (backend, *bounded, _revision(upstream), transport)
        theirs = (*bounded, _revision(downstream), self.transport)
        pair = _series(self._client, ours), _series(self._server, theirs)
        # Values that became `_OTHER` are unlimited.
        if OTHER not in ours and OTHER not in theirs:
            self._calls[key] = pair
        elif method in NAMED and len(name) <= LONGEST_NAME:
            if len(self._unlisted) >= KEPT_UNLISTED:
                self._unlisted.clear()
            self._unlisted[key] = pair
        return pair

    def add_served(self, method: str, name: str, revision: str, error: str, seconds: float) -> None:
        """Record a request of a client; `name` is empty if it names no tool or prompt."""
        key = (*self._labels(method, name, error), _revision(revision), self.transport)
        series = _series(self._server, key)
        series.counts[bisect_left(BOUNDS, seconds)] += 1
        series.seconds += seconds

    def serve(
        self, request: Message, revision: str, began: float | None = None
    ) -> "ServedOperation":
        """Return a context in which a client's request is served and then recorded.

        `began` is the time of its arrival by `time.perf_counter`; None for now.
        """
        return ServedOperation(self, request, revision, began)

    def serve_on(self, transport: str) -> None:
        """Set the transport of clients: `tcp` or `pipe`."""
        self.transport = transport

    def _labels(self, method: str, name: str, error: str) -> _Key:
        kind = NAMED.get(method)
        shown = "" if kind is None or not name else self._bounded_name(kind, name)
        tool, prompt = (shown, "") if kind is TOOLS else ("", shown)
        return (method if method in METHODS else OTHER, tool, prompt, error)

    def _bounded_name(self, kind: ComponentKind, name: str) -> str:
        owner = self._listed.owner(kind, name)
        # Control and bidirectional characters would reach terminals and pages that show metrics.
        if owner is None or clean_text(name, LONGEST_NAME) != name:
            return OTHER
        names = self._names.setdefault(owner, set())
        if (kind, name) not in names:
            if len(names) >= METERED_NAMES.value:
                METERED_NAMES.record()
                return OTHER
            names.add((kind, name))
        return name

    def collect(self) -> Iterator[Metric]:
        yield _family(
            "mcp_client_operation_duration_seconds",
            "Duration of the requests to backends",
            ("mcpproxy_backend", *_COMMON),
            self._client,
        )
        yield _family(
            "mcp_server_operation_duration_seconds",
            "Duration of the requests of clients",
            _COMMON,
            self._server,
        )


class ServedOperation:
    """One request of a client, from its arrival to its response."""

    def __init__(
        self,
        durations: OperationDurations,
        request: Message,
        revision: str,
        began: float | None = None,
    ) -> None:
        """`began` is the time of the arrival by `time.perf_counter`; None for now."""
        self._durations = durations
        self._request = request
        self._revision = revision
        self._began = time.perf_counter() if began is None else began
        self._error = ""

    def end(self, answer: Message | bytes | None) -> None:
        """Set the response; None if the client does not wait for it any longer.

        Encoded responses are those of the proxy, which are successes.
        """
        if answer is None:
            self._error = CANCELLED
        else:
            self._error = "" if isinstance(answer, bytes) else error_type(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, RpcError):
            self._error = error_type_of_code(error.code)
        elif error is not None:
            self._error = CANCELLED if isinstance(error, asyncio.CancelledError) else OTHER
        method, name = _subject(self._request)
        seconds = time.perf_counter() - self._began
        self._durations.add_served(method, name, self._revision, self._error, seconds)


def _subject(request: Message) -> tuple[str, str]:
    """Return the method of a request, and the tool or prompt that it names; empty if invalid."""
    try:
        method = jsonrpc.decode_str(request.get("method")) or ""
        if method not in NAMED:
            return method, ""
        params = jsonrpc.decode_object(request.get("params", jsonrpc.EMPTY))
        return method, jsonrpc.decode_str(params.get("name")) or ""
    except RpcError:
        return OTHER, ""


def _series(histograms: dict[_Key, Histogram], key: _Key) -> Histogram:
    """Return the histogram with these labels, which is new if there is none."""
    histogram = histograms.get(key)
    if histogram is None:
        histogram = histograms[key] = Histogram()
    return histogram


def _revision(text: str) -> str:
    return text if not text or text in ALL else OTHER


def _family(
    name: str, documentation: str, labels: tuple[str, ...], series: Mapping[_Key, Histogram]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, documentation, labels=labels)
    ends = [*map(floatToGoString, BOUNDS), "+Inf"]
    for values, durations in series.items():
        buckets = list(zip(ends, accumulate(durations.counts), strict=True))
        family.add_metric(values, buckets, durations.seconds)
    return family
