"""Audit records of requests: who used or was denied which component."""

from typing import Final, Protocol

from msgspec import Raw

from mcpproxy.proxy.audit.audit_log import AuditLog, Caller
from mcpproxy.proxy.audit.record import RequestOutcome, Subject
from mcpproxy.proxy.call_limits.rules import CallLimitExceeded
from mcpproxy.proxy.core.access import AccessDenied
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.digests import component_digest
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.identity import ANONYMOUS
from mcpproxy.proxy.core.translation.request_names import ROUTED
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import UNAVAILABLE, Message, RpcError
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

KEPT: Final = 1024
"""Maximum number of clients and of components whose part of a record is kept."""
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
        self._callers: dict[int, tuple[ClientIdentity, Caller]] = {}
        """Callers by the identity of their objects, which records of one session share."""
        self._digests: dict[tuple[ComponentKind, str, str], str] = {}
        self._version = -1

    def check_room(self) -> None:
        """Raise RpcError if the policy refuses requests whose records could not be written."""
        if self.log.is_refusing:
            why = "the audit log cannot be written as fast as requests arrive; try again later"
            raise RpcError(UNAVAILABLE, why)

    def record_call(
        self,
        call: EndedCall,
        client: ClientIdentity,
        outcome: str,
        seconds: float,
        size: int | None,
    ) -> None:
        """Record a call that has its response; `size` is that of the response in bytes."""
        request, backend = call.request, call.backend
        params = request.params or {}
        kind = _kind_of(request.method)
        subject = Subject(
            request.method,
            request.target,
            backend.name,
            _name_in(request.method, params),
            "" if kind is None else self._digest(kind, backend.name, request.target),
        )
        rule = ""
        if client.access is not None and kind is not None:
            rule = client.access.judge(kind, backend.name, request.target).rule
        self.log.record(
            "call",
            self._caller(client),
            subject,
            RequestOutcome("allowed", outcome, rule, seconds, response_bytes=size),
            arguments=params.get("arguments"),
            trace_parent=_trace_parent(params),
        )

    def record_refusal(self, error: RpcError, request: Message) -> None:
        """Record the response to a request if it is that `spec.authorization` denies it, or that
        `spec.limits` does not admit it."""
        if isinstance(error, CallLimitExceeded):
            outcome = RequestOutcome("denied", "limited", error.rule)
        elif isinstance(error, AccessDenied):
            outcome = RequestOutcome("denied", "scope" if error.data else "rule")
        else:
            return
        method = jsonrpc.decode_str(request.get("method")) or ""
        params = jsonrpc.decode_object(request.get("params", jsonrpc.EMPTY))
        subject = Subject(method, _name_in(method, params))
        self.log.record(
            "call",
            _NOBODY if error.client is None else self._caller(error.client),
            subject,
            outcome,
            arguments=params.get("arguments"),
            trace_parent=_trace_parent(params),
        )

    def record_list(self, method: str, client: ClientIdentity, size: int) -> None:
        """Record a list that a client received, if the policy records lists."""
        if self.log.records_lists:
            outcome = RequestOutcome("allowed", "ok", response_bytes=size)
            self.log.record("list", self._caller(client), Subject(method), outcome)

    def record_failed_authentication(self, result: str, network: str) -> None:
        """Record credentials that were not accepted, with the reason and the sender's network."""
        outcome = RequestOutcome("denied", result, network=network)
        self.log.record("authentication", _NOBODY, Subject(""), outcome)

    def _caller(self, client: ClientIdentity) -> Caller:
        known = self._callers.get(id(client))
        if known is not None and known[0] is client:
            return known[1]
        if len(self._callers) >= KEPT:
            self._callers.clear()
        caller = Caller(client.identity, client.info, client.revision)
        self._callers[id(client)] = client, caller
        return caller

    def _digest(self, kind: ComponentKind, backend: str, name: str) -> str:
        """Return the digest of a component as clients see it; empty for one that is not listed."""
        if self._version != self._catalog.version or len(self._digests) >= KEPT:
            self._version = self._catalog.version
            self._digests.clear()
        key = kind, backend, name
        digest = self._digests.get(key)
        if digest is None:
            items = (
                item
                for components in self._catalog.known(backend, kind)
                for own, item in zip(components.names, components.items, strict=True)
                if own == name
            )
            item = next(items, None)
            digest = self._digests[key] = "" if item is None else component_digest(item)
        return digest


_NOBODY: Final = Caller(ANONYMOUS)


def _kind_of(method: str) -> ComponentKind | None:
    """Return the kind of the listed components that requests of a method use."""
    kind = ROUTED[method][1] if method in ROUTED else None
    return kind if kind in KINDS else None


def _name_in(method: str, params: Message) -> str:
    """Return the name or URI in a request; empty without one."""
    member = ROUTED[method][0] if method in ROUTED else None
    return "" if member is None else jsonrpc.decode_str(params.get(member)) or ""


def _trace_parent(params: Message) -> str:
    meta: Raw | bytes | None = params.get("_meta")
    if meta is None or _TRACE not in bytes(meta):
        return ""
    return jsonrpc.decode_str(jsonrpc.decode_object(meta).get("traceparent")) or ""
