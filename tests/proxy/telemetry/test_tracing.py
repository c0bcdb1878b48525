"""Values of clients in spans."""

from types import SimpleNamespace
from typing import Any

from msgspec import Raw
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mcpproxy.proxy.telemetry.tracing import LONGEST, CallTracing
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest


def test_methods_and_names_of_any_size_are_cut_and_cleaned() -> None:
    exporter = InMemorySpanExporter()
    tracing = CallTracing(exporter, "p", "1", 100)
    tracing._provider.add_span_processor(SimpleSpanProcessor(exporter))
    try:
        backend: Any = SimpleNamespace(
            name="b",
            is_program=True,
            watch=SimpleNamespace(server=SimpleNamespace(revision="r" * 60_000)),
        )
        with tracing.call(
            backend,
            "n" * 60_000,
            UpstreamRequest(Raw(b'"%b"' % (b"1" * 9000)), "m\x1b" + "m" * 1_000_000),
        ):
            pass
        span = exporter.get_finished_spans()[0]
        assert len(span.name) <= 2 * LONGEST + 1
        assert span.attributes is not None
        assert all(len(str(value)) <= LONGEST for value in span.attributes.values())
        assert "\x1b" not in span.name
    finally:
        tracing.close()
