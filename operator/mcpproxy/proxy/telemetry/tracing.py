"""Traces of calls (OpenTelemetry): one span for each request to a backend.

The trace continues that of the client, from `_meta` (2026-07-28, basic: trace context) or from HTTP
headers. The backend gets it in both. Spans contain neither arguments nor results.
"""

from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Protocol

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import CallContext
from mcpproxy.proxy.core.translation.era_translation import parse_meta
from mcpproxy.proxy.core.translation.request_names import component_name
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message, RpcError
from mcpproxy.proxy.protocol.kinds import TOOLS
from mcpproxy.proxy.telemetry.operation_durations import CANCELLED, NAMED, TOOL_ERROR, error_type
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

Send = Callable[[UpstreamRequest, CallContext], Coroutine[Any, Any, Message]]
LONGEST: Final = 256
"""Maximum length of a method or name in a span, because clients choose both."""
_KEYS: Final = ("traceparent", "tracestate")
_received: ContextVar[Mapping[str, str] | None] = ContextVar("received", default=None)
_trace_id: ContextVar[str] = ContextVar("trace_id", default="")


def build_resource(name: str, version: str) -> Resource:
    """Return what spans and log records of the proxy `name` describe.

    `version` is that of the program.
    """
    return Resource.create(
        {"service.name": "mcpproxy", "service.version": version, "mcpproxy.name": name}
    )


class CallSpan(Protocol):
    """Span of one call."""

    request: UpstreamRequest
    """The request with the trace context."""

    def record_response(self, answer: Message) -> None:
        """Record the response of the backend."""


class _SpanContext:
    def __init__(self, span: Span, request: UpstreamRequest) -> None:
        self.request = request
        self._span = span

    def record_response(self, answer: Message) -> None:
        error = jsonrpc.error_of(answer)
        if error is not None:
            self._span.set_attribute("rpc.response.status_code", str(error.code))
            _fail(self._span, str(error.code))
        elif error_type(answer) == TOOL_ERROR:
            _fail(self._span, TOOL_ERROR)


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


class CallTracing:
    """Factory of spans, which are exported in the background."""

    def __init__(self, exporter: SpanExporter, name: str, version: str, percentage: int) -> None:
        """Create a tracer for the proxy `name`; `percentage` is the share of new traces to
        export."""
        sampler = ParentBased(TraceIdRatioBased(percentage / 100))
        resource = build_resource(name, version)
        self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("mcpproxy", version)
        self._propagator = TraceContextTextMapPropagator()

    def receive(self, headers: Mapping[bytes, bytes]) -> None:
        """Store the trace context in a request's HTTP headers for the current task."""
        fields = {key: headers[key.encode()] for key in _KEYS if key.encode() in headers}
        _received.set({key: value.decode("latin-1") for key, value in fields.items()})

    def trace_id(self) -> str:
        """Return the hexadecimal id of the last trace in the current task; empty without one."""
        return _trace_id.get()

    def traced(self, send: Send, backend: Backend, message: Message) -> Send:
        """Return a function that sends a request to a backend within a span.

        `message` is the client's request.
        """

        async def send_traced(request: UpstreamRequest, caller: CallContext) -> Message:
            with self.call(backend, component_name(message), request) as span:
                answer = await send(span.request, caller)
                span.record_response(answer)
                return answer

        return send_traced

    @contextmanager
    def call(
        self, backend: Backend, target: str | None, outgoing: UpstreamRequest
    ) -> Iterator[CallSpan]:
        """Open a span for a request to a backend; its request has the trace context.

        `target` is the downstream name of the tool or prompt. Errors inside propagate.
        """
        meta = parse_meta(outgoing.params or {})
        carrier = {key: text for key in _KEYS if (text := jsonrpc.decode_str(meta.get(key)))}
        parent = self._propagator.extract(carrier or _received.get() or {})
        method = clean_text(outgoing.method, LONGEST)
        target = None if target is None else clean_text(target, LONGEST)
        span: Any = self._tracer.start_span(
            f"{method} {target}" if target else method,
            parent,
            SpanKind.CLIENT,
            _attributes(backend, method, target, outgoing),
        )
        _trace_id.set(format(span.get_span_context().trace_id, "032x"))
        try:
            yield _SpanContext(span, self._inject(span, meta, outgoing))
        except BackendError as error:
            _fail(span, error.reason)
            raise
        except RpcError as error:
            _fail(span, str(error.code))
            raise
        except BaseException:
            _fail(span, CANCELLED)
            raise
        finally:
            span.end()

    def _inject(self, span: Any, meta: Message, outgoing: UpstreamRequest) -> UpstreamRequest:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        trace_fields = {key: jsonrpc.encode_raw(value) for key, value in carrier.items()}
        kept = {key: value for key, value in meta.items() if key not in _KEYS}
        params = {
            **(outgoing.params or {}),
            "_meta": jsonrpc.encode_raw({**kept, **trace_fields}),
        }
        trace = tuple((key.encode(), value.encode()) for key, value in carrier.items())
        return msgspec.structs.replace(outgoing, params=params, trace=trace)

    def close(self) -> None:
        """Export the remaining spans; takes as long as the collector does, up to a few seconds."""
        self._provider.shutdown()


def _attributes(
    backend: Backend, method: str, target: str | None, outgoing: UpstreamRequest
) -> dict[str, str]:
    """Return the attributes of a span that are known before the response."""
    server, kind = backend.watch.server, NAMED.get(outgoing.method)
    attributes = {
        "mcp.method.name": method,
        "jsonrpc.request.id": clean_text(_id_text(outgoing), LONGEST),
        "mcp.protocol.version": clean_text(server.revision, LONGEST) if server else "",
        "mcpproxy.backend": backend.name,
        "network.transport": "pipe" if backend.is_program else "tcp",
    }
    if kind is not None and target is not None:
        attributes["gen_ai.tool.name" if kind is TOOLS else "gen_ai.prompt.name"] = target
    if kind is TOOLS:
        attributes["gen_ai.operation.name"] = "execute_tool"
    return {name: text for name, text in attributes.items() if text}


def _id_text(request: UpstreamRequest) -> str:
    """Return the client's id of a request as text."""
    text = jsonrpc.decode_str(request.id)
    return bytes(request.id).decode("utf-8", "replace") if text is None else text
