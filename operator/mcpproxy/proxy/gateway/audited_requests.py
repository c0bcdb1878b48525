"""Audit records of requests: who used or was denied which component."""

from functools import lru_cache
from typing import Final, Protocol

from msgspec import DecodeError, Raw

from mcpproxy.proxy.audit.audit_log import FIXED, AuditLog
from mcpproxy.proxy.audit.record import (
    RequestOutcome,
    Subject,
    encode_caller,
    encode_decision,
    encode_subject,
)
from mcpproxy.proxy.authorization.call_arguments import unreadable
from mcpproxy.proxy.core.access import Access, AccessDenied, CallLimitExceeded, InsufficientScope
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.digests import component_digest
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.identity import ANONYMOUS
from mcpproxy.proxy.core.translation.era_translation import trace_parent
from mcpproxy.proxy.core.translation.request_names import (
    COMPLETE,
    NAMED,
    ROUTED,
    component_ref,
)
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import (
    UNAVAILABLE,
    Message,
    RpcError,
    decode_any,
)
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

KEPT: Final = 1024
"""Maximum number of clients, of components and of pairs of them whose part of a record is kept."""
MAX_KEPT: Final = 4096
"""Maximum size in bytes of the part of a record that is kept for a component or a pair."""
_TRACE: Final = b"traceparent"


class EndedCall(Protocol):
    """A call with its response, as far as records need it."""

    @property
    def backend(self) -> Backend:
        """The backend that served the call."""

    @property
    def request(self) -> UpstreamRequest:
        """The request with the backend's names."""


class AuditedRequests:
    """Audit log of the requests to one gateway."""

    def __init__(self, log: AuditLog, catalog: Catalog) -> None:
        self.log = log
        self._catalog = catalog
        self._callers: dict[int, tuple[ClientIdentity, bytes]] = {}
        """Encoded callers by the identity of clients, which requests of one session share."""
        self._subjects: dict[tuple[str, str, str, str, Access | None], bytes] = {}
        """Encoded subjects by method, backend, downstream name, rule and access, for one
        catalog."""
        self._described: dict[tuple[str, str, str, str, int], tuple[ClientIdentity, bytes]] = {}
        """Descriptions of calls by method, backend, downstream name, rule and identity of the
        client, for one catalog."""
        self._version = -1

    def check_room(self) -> None:
        """Raise RpcError if the policy refuses requests whose records could not be written."""
        if self.log.is_refusing:
            why = "the audit log cannot be written as fast as requests arrive; try again later"
            raise RpcError(UNAVAILABLE, why)

    def check_arguments(self, arguments: Raw, client: ClientIdentity | None) -> None:
        """Raise AccessDenied for arguments that no record could show."""
        try:
            # As `check_readable`, but without another call for each request.
            decode_any(arguments)
        except (DecodeError, RecursionError):
            raise AccessDenied.like(unreadable(), client) from None

    def record_call(
        self,
        call: EndedCall,
        client: ClientIdentity,
        error: str,
        seconds: float,
        size: int | None,
    ) -> None:
        """Record a call that has its response; `size` is that of the response in bytes.

        `error` is the `error.type` of metrics; empty for a success.
        """
        request, backend = call.request, call.backend.name
        if self._version != self._catalog.version:
            self._forget_components()
        key = request.method, backend, request.target, request.rule, id(client)
        known = self._described.get(key)
        if known is None or known[0] is not client:
            known = self._describe(request, backend, client)
        log, params, description = self.log, request.params or {}, known[1]
        decision = _decision(error) if error else _OK
        parent = _trace_parent(params) if "_meta" in params else ""
        arguments, length = None, FIXED + len(description)
        # As `AuditLog.record`, but without another call for each request.
        if log.records_arguments and "arguments" in params:
            arguments = params["arguments"].copy()
            length += len(arguments)
        entry = log.now(), description, decision, seconds, size, arguments, parent
        log.put(entry, length, log.refuses)

    def record_refusal(self, error: RpcError, request: Message) -> None:
        """Record the response to a request if it is that `spec.authorization` denies it, or that
        `spec.limits` does not admit it."""
        rule = ""
        if isinstance(error, CallLimitExceeded):
            rule, outcome = error.rule, RequestOutcome("denied", "limited")
        elif isinstance(error, AccessDenied):
            lacks_scope = isinstance(error, InsufficientScope)
            outcome = RequestOutcome("denied", "scope" if lacks_scope else "rule")
        else:
            return
        method = jsonrpc.decode_str(request.get("method")) or ""
        try:
            params = jsonrpc.decode_object(request.get("params", jsonrpc.EMPTY))
        except RpcError:
            params = {}
        subject = Subject(method, _name_in(method, params), error.backend, rule=rule)
        self.log.record(
            "call",
            _NOBODY if error.client is None else self._caller(error.client),
            encode_subject(subject),
            outcome,
            arguments=params.get("arguments"),
            trace_parent=_trace_parent(params),
        )

    def record_notification(
        self, request: UpstreamRequest, backend: str, client: ClientIdentity
    ) -> None:
        """Record a notification or subscription that a backend got; it has no response."""
        self.log.record(
            "call",
            self._caller(client),
            self._subject(request, backend, client.access),
            RequestOutcome("allowed", "ok"),
            arguments=(request.params or {}).get("arguments"),
        )

    def record_list(self, method: str, client: ClientIdentity, size: int) -> None:
        """Record a list that a client received, if the policy records lists."""
        if self.log.records_lists:
            outcome = RequestOutcome("allowed", "ok", response_bytes=size)
            subject = encode_subject(Subject(method))
            self.log.record("list", self._caller(client), subject, outcome)

    def record_failed_authentication(self, result: str, network: str) -> None:
        """Record credentials that were not accepted, with the reason and the sender's network."""
        outcome = RequestOutcome("denied", result, network=network)
        self.log.record("authentication", _NOBODY, b"", outcome)

    def _caller(self, client: ClientIdentity) -> bytes:
        known = self._callers.get(id(client))
        if known is not None and known[0] is client:
            return known[1]
        if len(self._callers) >= KEPT:
            self._callers.clear()
        caller = encode_caller(client.identity, client.info, client.revision)
        self._callers[id(client)] = client, caller
        return caller

    def _forget_components(self) -> None:
        self._version = self._catalog.version
        self._subjects.clear()
        self._described.clear()

    def _describe(
        self, request: UpstreamRequest, backend: str, client: ClientIdentity
    ) -> tuple[ClientIdentity, bytes]:
        """Return the client, and the description of its calls of a component."""
        subject = self._subject(request, backend, client.access)
        described = client, self.log.describe("call", self._caller(client), subject)
        if len(described[1]) <= MAX_KEPT:
            if len(self._described) >= KEPT:
                self._described.clear()
            key = request.method, backend, request.target, request.rule, id(client)
            self._described[key] = described
        return described

    def _subject(self, request: UpstreamRequest, backend: str, access: Access | None) -> bytes:
        """Return the encoded subject of a call, with the rule that allowed it."""
        if len(self._subjects) >= KEPT:
            self._subjects.clear()
        key = request.method, backend, request.target, request.rule, access
        known = self._subjects.get(key)
        if known is not None:
            return known
        kind, rule, digest = _kind_of(request.method), "", ""
        if kind is not None:
            if access is not None:
                rule = request.rule or access.judge(kind, backend, request.target).rule
            # The component as clients see it.
            item = self._catalog.find(backend, kind, request.target)
            digest = "" if item is None else component_digest(item)
        name = _name_in(request.method, request.params or {})
        subject = encode_subject(
            Subject(request.method, request.target, backend, name, digest, rule)
        )
        if len(subject) <= MAX_KEPT:
            self._subjects[key] = subject
        return subject


_NOBODY: Final = encode_caller(ANONYMOUS, None, "")


_OK: Final = encode_decision("allowed", "ok")


@lru_cache(maxsize=64)
def _decision(error: str) -> bytes:
    """Return the encoded decision of a call with this `error.type`; codes of JSON-RPC are one."""
    return encode_decision("allowed", "error" if error.startswith(("-", "_")) else error)


def _kind_of(method: str) -> ComponentKind | None:
    """Return the kind of the listed components that requests of a method use."""
    kind = ROUTED[method][1] if method in ROUTED else None
    return kind if kind in KINDS else None


def _name_in(method: str, params: Message) -> str:
    """Return the name or URI in a request; empty without one."""
    if method not in ROUTED and method != COMPLETE:
        names = (jsonrpc.decode_str(params.get(field)) for field, _ in NAMED)
        return next((name for name in names if name is not None), "")
    try:
        return component_ref(method, params)[0]
    except RpcError:
        return ""


def _trace_parent(params: Message) -> str:
    meta: Raw | bytes | None = params.get("_meta")
    # `in` takes longer than `find`.
    if meta is None or bytes(meta).find(_TRACE) < 0:
        return ""
    return trace_parent(meta)
