"""Models of `spec.limits` and of `backends[].results`. Import them from `api.v1alpha1`."""

from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.durations import parse_duration
from mcpproxy.api.kubernetes.quantities import PositiveDuration
from mcpproxy.api.kubernetes.scalars import BY_NAME, check_names_are_unique
from mcpproxy.api.v1alpha1.access.authorization import Default, Patterns, RuleName
from mcpproxy.api.v1alpha1.access.urls import HOST, PORT, check_authority
from mcpproxy.api.v1alpha1.references import ValueFrom

Per = Literal["Principal", "Proxy", "Backend"]
SharedMode = Literal["Owner", "None"]
OnLarger = Literal["Error", "Truncate", "Link"]

MIN_WINDOW: Final = 1.0
"""Seconds of the shortest window."""
_NO_AMOUNT: Final = "limits nothing: add calls with window, or inFlight"
_NO_WINDOW: Final = "calls and window require each other: add the one that is missing"
_SHORT_WINDOW: Final = "window must be at least 1s"
_BURST_ALONE: Final = "burst applies to calls: add calls and window, or remove burst"
_BURST: Final = "burst must not exceed calls"
_ONE_STORE: Final = "shared requires exactly one of mode and valkey"

Amount = Annotated[int, Field(ge=1, le=1_000_000)]
StoreAddress = Annotated[
    str,
    Field(
        min_length=3,
        max_length=261,
        pattern=rf"^{HOST}:{PORT}$",
    ),
    AfterValidator(check_authority),
]


class LimitRule(ApiModel):
    """A limit on calls. A call is admitted only if all rules that cover it admit it."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation("has(self.calls) || has(self.inFlight)", _NO_AMOUNT),
            cel_validation("has(self.calls) == has(self.window)", _NO_WINDOW),
            cel_validation("!has(self.burst) || has(self.calls)", _BURST_ALONE, ".burst"),
            cel_validation(
                "!has(self.burst) || !has(self.calls) || self.burst <= self.calls",
                _BURST,
                ".burst",
            ),
            cel_validation(
                "!has(self.window) || duration(self.window) >= duration('1s')",
                _SHORT_WINDOW,
                ".window",
            ),
        )
    )
    name: RuleName
    """Name of the rule, in errors, metrics and audit records."""
    per: Per | None = None
    """Calls that are counted together. Principal: those of one caller, across its sessions and
    tokens; all anonymous callers together count as one. Proxy: those of all callers. Backend:
    those of all callers to one backend. Default: Principal."""
    tools: Patterns | None = None
    """Patterns of the names, as clients see them, of tools whose calls are counted; `*` matches
    any text.
    Default: none; every request that is forwarded to a backend is counted."""
    calls: Amount | None = None
    """Maximum number of calls in any period of the length of window. With burst, it is the average
    number per window. Requires window. Default: none; the number is not limited."""
    window: PositiveDuration | None = None
    """Length of the period of calls, such as 1m; at least 1s. Default: none."""
    burst: Amount | None = None
    """Number of calls that are admitted immediately after a pause. Further calls are admitted one
    by one, spread evenly over window. Default: none; calls are admitted immediately until window
    contains as many as calls permits."""
    in_flight: Amount | None = None
    """Maximum number of calls in flight in all pods. A call that waits for input from its client
    counts. Default: none; the number is not limited."""

    @model_validator(mode="after")
    def _check_amounts(self) -> Self:
        if self.calls is None and self.in_flight is None:
            raise ValueError(f"rule {self.name} {_NO_AMOUNT}")
        if (self.calls is None) != (self.window is None):
            # The rule about burst is checked as well, because a burst alone has neither.
            raise ValueError(f"rule {self.name}: {_NO_WINDOW}")
        if self.burst is not None and self.calls is None:
            raise ValueError(f"rule {self.name}: {_BURST_ALONE}")
        if self.burst is not None and self.calls is not None and self.burst > self.calls:
            raise ValueError(
                f"rule {self.name}: {_BURST}, but {self.burst} exceeds {self.calls}; lower burst"
            )
        if self.window is not None and parse_duration(self.window) < MIN_WINDOW:
            raise ValueError(f"rule {self.name}: {_SHORT_WINDOW}, but it is {self.window}")
        return self


class ValkeyServer(ApiModel):
    """A Valkey or Redis server that counts for all pods."""

    address: StoreAddress
    """Host and port of the server, such as valkey.limits.svc:6379."""
    tls_from: ValueFrom | None = None
    """CA certificates that are trusted for the server, in PEM; connections then use TLS. Default:
    none; connections are not encrypted."""
    password_from: ValueFrom | None = None
    """Password of the server. Default: none."""


class SharedLimits(ApiModel):
    """Store that counts the calls of all pods together."""

    model_config = ConfigDict(
        json_schema_extra=cel(cel_validation("has(self.mode) != has(self.valkey)", _ONE_STORE))
    )
    mode: SharedMode | None = None
    """Owner: one of the pods counts for each rule and caller, and the others ask it for a share.
    None: each pod counts only its own calls, so the effective limit grows with the number of pods.
    Exactly one of mode and valkey is required. Default: none."""
    valkey: ValkeyServer | None = None
    """Valkey or Redis server that counts the calls. Exactly one of mode and valkey is required.
    Default: none."""

    @model_validator(mode="after")
    def _check_one_store(self) -> Self:
        if (self.mode is None) == (self.valkey is None):
            raise ValueError(_ONE_STORE)
        return self


class Limits(ApiModel):
    """Limits on calls. A call beyond a limit gets HTTP 429 with Retry-After, or the JSON-RPC error
    -32000 with data.retryAfterMs."""

    rules: Annotated[
        list[LimitRule],
        Field(min_length=1, max_length=64, json_schema_extra=BY_NAME),
        AfterValidator(check_names_are_unique),
    ]
    """The rules."""
    shared: SharedLimits | None = None
    """Counting of the calls of all pods together. Default: mode Owner."""
    on_store_failure: Default | None = None
    """Handling of calls while the counting pod, or the Valkey server, cannot be reached. Allow:
    each pod counts for itself. Deny: calls beyond the share that the pod already has are refused.
    Default: Allow."""

    @property
    def references(self) -> Iterator[ValueFrom]:
        """The values of Secrets and ConfigMaps that are used."""
        valkey = self.shared.valkey if self.shared else None
        if valkey is not None:
            yield from filter(None, (valkey.tls_from, valkey.password_from))


class Results(ApiModel):
    """Limit on the size of results of tools and resources."""

    max_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)]
    """Maximum size of a result, in bytes of its JSON."""
    on_larger: OnLarger | None = None
    """Handling of larger results. Error: the call fails with an error that names both sizes.
    Truncate: text is cut, with a note at its end; a result with structured or other large content
    fails. Link: the proxy keeps the result of a tool for 10 minutes, and the client gets a link, to
    read it as a resource. Default: Error."""
