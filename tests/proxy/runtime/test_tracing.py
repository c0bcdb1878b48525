"""Traces of calls, as a collector and a backend get them."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mcpproxy.proxy.telemetry import collector_session
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.raw import Raw, rpc
from tests.proxy.runtime.serving import LIVE, proxied, serving
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PROPAGATOR = TraceContextTextMapPropagator()
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Collector:
    """Takes spans with OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.app = Starlette(routes=[Route("/v1/traces", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return Response(b"", media_type="application/x-protobuf")


class Instrumented:
    """A server that makes spans of calls itself, and sends them to the same collector."""

    def __init__(self, app: ASGIApp, endpoint: str) -> None:
        self._app, self.provider = app, provider("backend", endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope.get("headers", [])}
        if "traceparent" not in headers:
            await self._app(scope, receive, send)
            return
        tracer, parent = self.provider.get_tracer("backend"), PROPAGATOR.extract(headers)
        with tracer.start_as_current_span("backend", parent, SpanKind.SERVER):
            await self._app(scope, receive, send)


def provider(name: str, endpoint: str) -> TracerProvider:
    """The OpenTelemetry SDK as a program uses it."""
    result = TracerProvider(resource=Resource({"service.name": name}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{endpoint}/v1/traces")
    result.add_span_processor(BatchSpanProcessor(exporter))
    return result


def attributes(span: Span) -> dict[str, str]:
    """Its attributes as text."""
    return {attribute.key: attribute.value.string_value for attribute in span.attributes}


@pytest_asyncio.fixture(loop_scope="session")
async def collector(stack: AsyncExitStack) -> AsyncIterator[tuple[Collector, str]]:
    """A collector and its address."""
    result = Collector()
    yield result, await stack.enter_async_context(serving(result.app))


async def _proxy(
    stack: AsyncExitStack, era: str, endpoint: str, **tracing: Any
) -> tuple[Peer, Raw, Any]:
    peer = Peer("p", era)
    base = await stack.enter_async_context(serving(peer.gate))
    value = {"tracing": {"endpoint": endpoint, **tracing}}
    own = AsyncExitStack()
    running = await own.enter_async_context(
        proxied({"name": "p", "url": f"{base}/mcp"}, monitoring=value)
    )
    stack.push_async_exit(own)
    http = await stack.enter_async_context(httpx2.AsyncClient(timeout=20))
    return peer, Raw(running.url, http), own


def _calls(peer: Peer) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Headers and `_meta` of the calls that a backend got."""
    results = [item for item in peer.gate.seen if item.rpc == "tools/call"]
    return [(entry.headers, json.loads(entry.body)["params"].get("_meta", {})) for entry in results]


ECHO = {"name": "p_echo", "arguments": {"text": "secret"}}


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_call_is_one_trace_through_client_proxy_and_backend(
    collector: tuple[Collector, str], stack: AsyncExitStack, era: str
) -> None:
    result, endpoint = collector
    peer, raw, own = await _proxy(stack, era, endpoint)
    await raw.initialize()
    params = {**ECHO, "_meta": {"traceparent": TRACEPARENT, "tracestate": "a=b", "own": 1}}
    assert (await raw.post(rpc("tools/call", params))).status_code == 200
    headers, meta = _calls(peer)[0]
    await own.aclose()
    await soon(lambda: result.spans, "a span")
    (span,) = result.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    told = f"00-{TRACE}-{span.span_id.hex()}-01"
    assert meta["traceparent"] == headers["traceparent"] == told
    assert (meta["tracestate"], meta["own"]) == ("a=b", 1)
    assert span.name == "tools/call p_echo"
    assert attributes(span) == {
        "mcp.method.name": "tools/call",
        "mcpproxy.backend": "p",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "p_echo",
        "jsonrpc.request.id": "1",
        "mcp.protocol.version": "2025-11-25" if era == "legacy" else "2026-07-28",
        "network.transport": "tcp",
    }
    assert "secret" not in str(span)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_spans_of_client_proxy_and_backend_are_one_trace_with_the_right_parents(
    collector: tuple[Collector, str], stack: AsyncExitStack, era: str
) -> None:
    result, endpoint = collector
    server = Instrumented(Peer("p", era).gate, endpoint)
    base = await stack.enter_async_context(serving(server))
    client = provider("client", endpoint)
    backend = {"name": "p", "url": f"{base}/mcp"}
    async with proxied(backend, monitoring={"tracing": {"endpoint": endpoint}}) as running:
        raw = Raw(running.url, await stack.enter_async_context(httpx2.AsyncClient(timeout=20)))
        await raw.initialize()
        with client.get_tracer("client").start_as_current_span("client"):
            carrier: dict[str, str] = {}
            PROPAGATOR.inject(carrier)
            params = {**ECHO, "_meta": carrier}
            assert (await raw.post(rpc("tools/call", params))).status_code == 200
    for item in (client, server.provider):
        await asyncio.to_thread(item.shutdown)
    await soon(lambda: len(result.spans) == 3, "three spans")
    spans = {span.name: span for span in result.spans}
    assert spans.keys() == {"client", "tools/call p_echo", "backend"}
    assert len({span.trace_id for span in result.spans}) == 1
    above = {name: span.parent_span_id for name, span in spans.items()}
    assert above == {
        "client": b"",
        "tools/call p_echo": spans["client"].span_id,
        "backend": spans["tools/call p_echo"].span_id,
    }


async def test_a_trace_may_come_in_http_headers_or_begin_here(
    collector: tuple[Collector, str], stack: AsyncExitStack
) -> None:
    result, endpoint = collector
    peer, raw, own = await _proxy(stack, "dual", endpoint)
    await raw.initialize()
    await raw.post(rpc("tools/call", ECHO, 1), traceparent=TRACEPARENT)
    await raw.post(rpc("tools/call", ECHO, 2))
    await own.aclose()
    await soon(lambda: len(result.spans) == 2, "two spans")
    first, second = result.spans
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, PARENT)
    assert second.trace_id != first.trace_id
    assert second.parent_span_id == b""
    traces = [meta["traceparent"].split("-")[1] for _, meta in _calls(peer)]
    assert traces == [first.trace_id.hex(), second.trace_id.hex()]


async def test_calls_of_the_fast_path_are_traced(
    collector: tuple[Collector, str], stack: AsyncExitStack
) -> None:
    result, endpoint = collector
    peer, raw, own = await _proxy(stack, "dual", endpoint)
    for _ in range(2):
        await raw.call("tools/call", "p_echo", **ECHO)
    await own.aclose()
    await soon(lambda: len(result.spans) == 2, "two spans")
    traces = [meta["traceparent"].split("-")[1] for _, meta in _calls(peer)]
    assert traces == [span.trace_id.hex() for span in result.spans]


async def test_an_error_is_identified_by_its_code_or_reason(
    collector: tuple[Collector, str], stack: AsyncExitStack
) -> None:
    result, endpoint = collector
    peer, raw, own = await _proxy(stack, "legacy", endpoint)
    await raw.initialize()
    await raw.post(rpc("tools/call", {"name": "p_nothing"}))
    peer.gate.status = 503
    await raw.post(rpc("tools/call", ECHO))
    await own.aclose()
    await soon(lambda: len(result.spans) == 2, "two spans")
    assert [span.status.code for span in result.spans] == [2, 2]
    assert attributes(result.spans[1])["error.type"] == "Unreachable"


async def test_the_process_that_starts_a_trace_decides_whether_it_is_exported(
    collector: tuple[Collector, str], stack: AsyncExitStack
) -> None:
    result, endpoint = collector
    _, raw, own = await _proxy(stack, "dual", endpoint, samplingPercentage=0)
    await raw.initialize()
    await raw.post(rpc("tools/call", ECHO, 1))
    await raw.post(rpc("tools/call", ECHO, 2), traceparent=TRACEPARENT)
    await own.aclose()
    await soon(lambda: result.spans, "a span")
    assert [span.trace_id.hex() for span in result.spans] == [TRACE]


async def test_calls_do_not_need_the_collector(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector_session, "EXPORT_WITHIN", 0.2)
    _, raw, own = await _proxy(stack, "dual", "http://127.0.0.1:9")
    await raw.initialize()
    assert (await raw.post(rpc("tools/call", ECHO))).status_code == 200
    await own.aclose()


async def test_the_page_shows_the_trace_of_each_call(
    collector: tuple[Collector, str], stack: AsyncExitStack
) -> None:
    result, endpoint = collector
    base = await stack.enter_async_context(serving(Peer("p").gate))
    async with proxied(
        {"name": "p", "url": f"{base}/mcp"}, monitoring={"tracing": {"endpoint": endpoint}}
    ) as running:
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=20))
        raw = Raw(running.url, http)
        await raw.initialize()
        for _ in range(2):
            await raw.post(rpc("tools/call", ECHO))
        page = (await http.get(f"{running.admin}/page/overview")).text
    await soon(lambda: len(result.spans) == 2, "two spans")
    traces = {span.trace_id.hex() for span in result.spans}
    assert len(traces) == 2
    assert all(page.count(trace) == 1 for trace in traces)
    assert "secret" not in page
