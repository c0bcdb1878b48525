"""Measurements: cases, each with the targets that take turns in it."""

from dataclasses import dataclass, replace
from typing import Final, Literal

from bench.messages import Era, Operation
from bench.stub import Behaviour

Kind = Literal["direct", "nginx", "ours", "fastmcp", "fastmcp-held", "fastmcp-modern", "mcp-proxy"]
Shared = Literal["Owner", "None"]
Grant = Literal["clientCredentials", "tokenExchange"]
SLOW: Final = frozenset({"fastmcp", "fastmcp-held", "fastmcp-modern", "mcp-proxy"})

_LEGACY: Final = Behaviour()
_MODERN: Final = Behaviour(eras="modern")
_EVENTS: Final = Behaviour(events=True)
_SESSIONS: Final = Behaviour(sessions=True)
_PROTECTED: Final = Behaviour(protected=True)


@dataclass(frozen=True, slots=True)
class Row:
    """A target before its backends, and the clients that call it."""

    label: str
    target: Kind
    backend: Behaviour = _LEGACY
    era: Era = "legacy"
    backends: int = 1
    session: str | None = None
    """spec.session.mode; None leaves it out."""
    workers: int | None = None
    """Worker processes, on any core; None leaves the option out and pins to one core."""
    share: float | None = None
    """Of a core, for each process that serves; None sets no limit."""
    upto: int = 64
    """The highest number of connections that it is measured with."""
    access: bool = False
    """With authentication by tokens, rules for 50 groups, and an audit log."""
    signed_in: bool = False
    """With authentication by tokens alone."""
    limits: Shared | None = None
    """spec.limits.shared.mode of limits that no load reaches; None leaves them out."""
    identity: Grant | None = None
    """The member of `auth` by which the proxy obtains a token for its backend; None: no token."""
    program: str = ""
    """Path of another mcpproxy executable; empty: the one of this environment."""


@dataclass(frozen=True, slots=True)
class Case:
    """Rows that take turns. With a rate, latency is measured; without, calls a second."""

    name: str
    title: str
    about: str
    rows: tuple[Row, ...]
    operation: Operation = "echo"
    levels: tuple[int, ...] = (1, 16)
    """Numbers of connections."""
    rate: float | None = None
    compare: tuple[str, ...] = ("nginx", "FastMCP held")
    """Labels of the rows that the others are compared with."""
    cpu: bool = False
    """Calls per second of the target's processes, too."""
    tokens: bool = False
    """Calls of many callers with a token each, instead of calls of few."""
    life: bool = False
    """Start, memory when idle, memory of sessions and streams, instead of calls."""


def _basic(backend: Behaviour = _LEGACY, upto: int = 64) -> tuple[Row, ...]:
    return (
        Row("direct", "direct", backend),
        Row("nginx", "nginx", backend),
        Row("mcpproxy", "ours", backend),
        Row("FastMCP held", "fastmcp-held", backend, upto=upto),
    )


CALL: Final = Case(
    "call",
    "tools/call, small answers",
    "Legacy clients and one legacy backend without sessions that sends JSON responses.",
    (*_basic(), Row("FastMCP", "fastmcp"), Row("mcp-proxy", "mcp-proxy")),
    levels=(1, 16, 64),
    compare=("nginx", "FastMCP", "FastMCP held"),
)
LARGE: Final = Case(
    "call-100k",
    "tools/call, answers of 100 KiB",
    "As above, with 100 KiB of text in each response.",
    _basic(),
    operation="large",
)
EVENTS: Final = Case(
    "call-events",
    "tools/call, answers as event streams",
    "As above, but the backend sends event streams instead of JSON.",
    _basic(_EVENTS),
    levels=(16,),
)
ERAS: Final = Case(
    "eras",
    "tools/call, both eras on both sides",
    "Clients and backends of one era each. The rows nginx and direct are modern on both sides.",
    (
        Row("direct", "direct", _MODERN, "modern"),
        Row("nginx", "nginx", _MODERN, "modern"),
        Row("legacy to legacy", "ours", _LEGACY),
        Row("modern to modern", "ours", _MODERN, "modern"),
        Row("legacy to modern", "ours", _MODERN),
        Row("modern to legacy", "ours", _LEGACY, "modern"),
        Row("FastMCP held", "fastmcp-modern", _MODERN, "modern"),
    ),
    compare=("nginx", "legacy to legacy", "FastMCP held"),
)
MODES: Final = Case(
    "sessions",
    "tools/call, session modes",
    "A legacy backend that requires sessions. Through nginx, each client keeps one session."
    " Isolated uses a new session for each call.",
    (
        Row("nginx", "nginx", _SESSIONS),
        Row("Isolated", "ours", _SESSIONS, session="Isolated"),
        Row("PerClient", "ours", _SESSIONS, session="PerClient"),
        Row("Reused", "ours", _SESSIONS, session="Reused"),
        Row("FastMCP", "fastmcp", _SESSIONS, upto=1),
    ),
    compare=("nginx", "Reused", "FastMCP"),
)
BACKENDS: Final = Case(
    "backends",
    "tools/call, many backends",
    "The calls are distributed evenly over the backends, all of which have a prefix.",
    tuple(Row(f"{n} backend{'s' * (n > 1)}", "ours", _LEGACY, backends=n) for n in (1, 3, 8, 64)),
    levels=(16,),
    compare=("1 backend",),
)
LIST: Final = Case("list-10", "tools/list, 10 tools", "Legacy clients.", _basic(), operation="list")
LONG_LIST: Final = Case(
    "list-1000",
    "tools/list, 1,000 tools",
    "Legacy clients. FastMCP is measured with one connection only.",
    _basic(Behaviour(tools=1000), upto=1),
    operation="list",
)
INITIALIZE: Final = Case(
    "initialize",
    "initialize",
    "Legacy clients. Each request starts a session.",
    _basic(),
    operation="initialize",
    levels=(16,),
)
PROGRESS: Final = Case(
    "progress",
    "Progress streaming",
    "In each call, the backend sends 100 notifications before the result, in one write each."
    " FastMCP is measured with one connection only, because it loses notifications with several.",
    _basic(upto=1),
    operation="progress",
)
LATENCY: Final = Case(
    "latency",
    "Added latency at 100 calls/s",
    "Calls at a fixed rate over 4 connections, in milliseconds.",
    _basic(),
    levels=(4,),
    rate=100.0,
    compare=("direct",),
)
WORKERS: Final = Case(
    "workers",
    "tools/call, worker processes",
    "The workers are not pinned. They use both cores of the machine, but the load generator and"
    " the backend also run on one of them, so the ratio of calls/s shows only what is left for the"
    " second worker. Calls per second of the proxy's CPU time show the cost of sharing: if they"
    " are equal, two workers on idle cores serve twice as many calls.",
    (Row("1 worker", "ours", workers=1), Row("2 workers", "ours", workers=2)),
    levels=(64,),
    compare=("1 worker",),
    cpu=True,
)
SHARED: Final = Case(
    "workers-shared",
    "tools/call, worker processes with a share of a core each",
    "As above, but a CPU quota limits each worker to 30 % of a core. The second worker therefore"
    " does not compete with the load generator and the backend, which use the rest of the machine.",
    tuple(Row(row.label, "ours", workers=row.workers, share=0.3) for row in WORKERS.rows),
    levels=(64,),
    compare=("1 worker",),
    cpu=True,
)
_WITH_TOOLS: Final = Behaviour(tools=1000)
ACCESS: Final = Case(
    "access",
    "tools/call, with authentication, rules and audit",
    "Each request has a token (JWT, RS256), 50 groups have rules, and each call has an audit record"
    " in a file.",
    (Row("without", "ours"), Row("with", "ours", access=True)),
    levels=(1, 16),
    compare=("without",),
    cpu=True,
)
ACCESS_LIST: Final = Case(
    "access-list-1000",
    "tools/list, 1,000 tools, for one of 50 classes of callers",
    "As above; the list is the one of the caller's group.",
    (Row("without", "ours", _WITH_TOOLS), Row("with", "ours", _WITH_TOOLS, access=True)),
    operation="list",
    levels=(1, 16),
    compare=("without",),
    cpu=True,
)
ACCESS_TOKENS: Final = Case(
    "access-tokens",
    "New tokens",
    "Callers with a token each call twice, one after the other: milliseconds of the first and of"
    " the second call at the median, and the resident memory that the tokens occupy: all of them,"
    " and each of the second half, when the caches of recent clients are full.",
    (Row("mcpproxy", "ours", _MODERN, "modern", access=True),),
    levels=(1,),
    compare=(),
    tokens=True,
)
LIMITS: Final = Case(
    "limits",
    "tools/call, with limits and tokens for the backend",
    "Two rules limit the calls, and those in flight, of each principal, and the backend requires a"
    " token. Own: a token of the proxy (clientCredentials), with limits that pods share (Owner)."
    " Exchanged: the proxy exchanges the token of the caller (tokenExchange), and each pod limits"
    " by itself (None).",
    (
        Row("without", "ours"),
        Row("own", "ours", _PROTECTED, limits="Owner", identity="clientCredentials"),
        Row("signed in", "ours", signed_in=True),
        Row(
            *("exchanged", "ours", _PROTECTED),
            signed_in=True,
            limits="None",
            identity="tokenExchange",
        ),
    ),
    levels=(1, 16),
    compare=("without", "signed in"),
    cpu=True,
)
LIFE: Final = Case(
    "life",
    "Start and memory",
    "Seconds from the start of the process to the first response, and resident memory: idle, for"
    " each idle session, for each open GET stream, and in total.",
    (
        Row("mcpproxy", "ours"),
        Row("FastMCP held", "fastmcp-held"),
        Row("mcp-proxy", "mcp-proxy"),
    ),
    levels=(1,),
    compare=(),
    life=True,
)
CASES: Final = (
    CALL,
    LARGE,
    EVENTS,
    ERAS,
    MODES,
    BACKENDS,
    LIST,
    LONG_LIST,
    INITIALIZE,
    PROGRESS,
    LATENCY,
    WORKERS,
    SHARED,
    ACCESS,
    ACCESS_LIST,
    ACCESS_TOKENS,
    LIMITS,
    LIFE,
)


@dataclass(frozen=True, slots=True)
class Effort:
    """Extent of the measurements."""

    rounds: int
    seconds: float
    slow_seconds: float
    """The window of targets that answer a few calls a second."""
    sessions: int
    streams: int
    peer_sessions: int = 100
    peer_streams: int = 25
    tokens: int = 10_000


FULL: Final = Effort(5, 0.7, 1.2, 10_000, 1_000)
QUICK: Final = Effort(1, 0.3, 1.0, 1_000, 100)


def quick(case: Case) -> Case:
    """The case with 16 connections alone; peers only where calls are compared with them."""
    levels = tuple(level for level in case.levels if level in (4, 16, 64)) or case.levels
    rows = case.rows
    if case is not CALL:
        rows = tuple(row for row in rows if row.target not in SLOW)
    labels = {row.label for row in rows}
    compare = tuple(label for label in case.compare if label in labels)
    return replace(case, levels=levels[:1], rows=rows, compare=compare)
