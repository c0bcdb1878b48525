"""Delivery of audit records to an OpenTelemetry collector."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from mcpproxy.proxy.telemetry.collector_session import EXPORT_WITHIN, CollectorSession
from mcpproxy.proxy.telemetry.tracing import build_resource

_SCOPE: Final = "mcpproxy.audit"
_ATTRIBUTES: Final = {"method": "mcp.method.name", "outcome": "mcpproxy.outcome"}


class CollectorDelivery:
    """Exports each record as a log record whose body is the record's members."""

    def __init__(self, exporter: LogRecordExporter, name: str, version: str) -> None:
        """Create a delivery for the proxy `name`."""
        self._exporter = exporter
        self._resource = build_resource(name, version)
        self._scope = InstrumentationScope(_SCOPE, version)

    def __call__(self, records: Sequence[bytes]) -> None:
        """Export the records. Raise OSError if the collector did not accept them."""
        batch = [self._log_record(msgspec.json.decode(record)) for record in records]
        if self._exporter.export(batch) is not LogRecordExportResult.SUCCESS:
            raise ConnectionError("the OpenTelemetry collector did not accept them")

    def _log_record(self, members: dict[str, Any]) -> ReadableLogRecord:
        attributes = {
            name: members[member] for member, name in _ATTRIBUTES.items() if member in members
        }
        denied = members.get("decision") == "denied"
        record = LogRecord(
            timestamp=_nanoseconds(members["time"]),
            severity_number=SeverityNumber.WARN if denied else SeverityNumber.INFO,
            severity_text="WARN" if denied else "INFO",
            body=members,
            attributes=attributes,
            event_name=f"mcpproxy.audit.{members['event']}",
        )
        return ReadableLogRecord(record, self._resource, self._scope)


def build_delivery(
    endpoint: str, name: str, version: str, resolve: Mapping[str, str]
) -> CollectorDelivery:
    """Return the delivery to the collector at this URL. `resolve` maps hosts to `host:port`."""
    url, session = f"{endpoint.rstrip('/')}/v1/logs", CollectorSession(resolve)
    exporter = OTLPLogExporter(url, timeout=EXPORT_WITHIN, session=session)
    return CollectorDelivery(exporter, name, version)


def _nanoseconds(timestamp: str) -> int:
    moment = msgspec.convert(timestamp, type=datetime)
    return int(moment.timestamp() * 1000) * 1_000_000
