"""Traces of calls (OpenTelemetry): one span for each request to a backend.

The trace is the one that the client has begun: in `_meta` (2026-07-28, basic: trace context), or
in HTTP headers. The backend is told of it in both ways. Spans hold no arguments and no results.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Protocol

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.translation.era_translation import parse_meta
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

LONGEST: Final = 256
"""Characters of a method or name in a span: clients choose them, and spans wait to be sent."""
_KEYS: Final = ("traceparent", "tracestate")
_received: ContextVar[Mapping[str, str] | None] = ContextVar("received", default=None)


class CallSpan(Protocol):
    """What a span tells."""

    def answered(self, answer: Message) -> None:
        """The backend has answered."""


class _SpanContext:
    def __init__(self, span: Span) -> None:
        self._span = span

    def answered(self, answer: Message) -> None:
        error = jsonrpc.error_of(answer)
        if error is not None:
            self._span.set_attribute("rpc.response.status_code", str(error.code))
            self._span.set_attribute("error.type", str(error.code))
            self._span.set_status(Status(StatusCode.ERROR))


class CallTracing:
    """Makes spans and sends them in the background."""

    def __init__(self, exporter: SpanExporter, name: str, version: str, percentage: int) -> None:
        """`name` is the proxy's; `percentage` that of the traces begun here that are sent."""
        resource = Resource.create(
            {"service.name": "mcpproxy", "service.version": version, "mcpproxy.name": name}
        )
        sampler = ParentBased(TraceIdRatioBased(percentage / 100))
        self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("mcpproxy", version)
        self._propagator = TraceContextTextMapPropagator()

    def receive(self, headers: Mapping[bytes, bytes]) -> None:
        """What the request that is served in this context says of its trace in HTTP headers."""
        found = {key: headers[key.encode()] for key in _KEYS if key.encode() in headers}
        _received.set({key: value.decode("latin-1") for key, value in found.items()})

    @contextmanager
    def call(
        self, backend: str, target: str | None, outgoing: UpstreamRequest
    ) -> Iterator[CallSpan]:
        """A span around a request to a backend, which is told of it.

        `target` is the outward name of the tool or prompt. Raises what happens inside.
        """
        given = parse_meta(outgoing.params or {})
        carrier = {key: text for key in _KEYS if (text := jsonrpc.decode_str(given.get(key)))}
        parent = self._propagator.extract(carrier or _received.get() or {})
        method = clean_text(outgoing.method, LONGEST)
        target = None if target is None else clean_text(target, LONGEST)
        attributes: dict[str, str] = {"mcp.method.name": method, "mcpproxy.backend": backend}
        if target is not None:
            attributes["mcpproxy.target"] = target
        span: Any = self._tracer.start_span(
            f"{method} {target}" if target else method, parent, SpanKind.CLIENT, attributes
        )
        self._tell(span, given, outgoing)
        try:
            yield _SpanContext(span)
        except BackendError as error:
            span.set_attribute("error.type", error.reason)
            span.set_status(Status(StatusCode.ERROR))
            raise
        except RpcError as error:
            span.set_attribute("error.type", str(error.code))
            span.set_status(Status(StatusCode.ERROR))
            raise
        except BaseException:
            span.set_attribute("error.type", "cancelled")
            raise
        finally:
            span.end()

    def _tell(self, span: Any, given: Message, outgoing: UpstreamRequest) -> None:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        told = {key: jsonrpc.encode_raw(value) for key, value in carrier.items()}
        kept = {key: value for key, value in given.items() if key not in _KEYS}
        outgoing.params = {**(outgoing.params or {}), "_meta": jsonrpc.encode_raw({**kept, **told})}
        outgoing.trace = tuple((key.encode(), value.encode()) for key, value in carrier.items())

    def close(self) -> None:
        """Send what was not sent yet; takes as long as the collector does, at most some seconds."""
        self._provider.shutdown()
