"""Reports of instances, which the operator reads as `PodReport`."""

import json
from typing import Any

import pytest

from mcpproxy.api.base import ApiModel
from mcpproxy.api.v1alpha1 import status
from mcpproxy.limits.pods import REPORT_COUNT, REPORT_MESSAGE, REPORT_NAMES
from mcpproxy.proxy.core import reports

PAIRS: dict[type[reports.Report], type[ApiModel]] = {
    reports.CountsReport: status.ComponentCounts,
    reports.ServerReport: status.ServerInfo,
    reports.BackendReport: status.BackendStatus,
    reports.ChangesReport: status.DriftedComponents,
    reports.DriftReport: status.CatalogDrift,
    reports.KeysReport: status.IssuerStatus,
    reports.RulesReport: status.AuthorizationReport,
    reports.CallLimitsReport: status.LimitsReport,
    reports.InstanceReport: status.PodReport,
}


def _full() -> reports.InstanceReport:
    changes = reports.ChangesReport(1, ["tools: a"])
    return reports.InstanceReport(
        config_hash="0" * 64,
        version="1",
        backends=[
            reports.BackendReport(
                "b",
                "Healthy",
                reason="ListFailed",
                message="é" * 3,
                protocol_version="2025-11-25",
                transport="sse",
                server=reports.ServerReport("s", "2"),
                session="Stateful",
                session_mode="Isolated",
                session_mode_from="Transport",
                components=reports.CountsReport(tools=0, resource_templates=3),
                not_offered=["prompts"],
            )
        ],
        catalog_hash="1" * 64,
        drift=reports.DriftReport(new=changes, changed=changes, gone=changes),
        clashes=[],
        authentication=[reports.KeysReport("https://a", 2, "late", "2026-01-01T00:00:00Z")],
        authorization=reports.RulesReport(1, 2, ["r"]),
        limits=reports.CallLimitsReport(1, ["r"], "no store"),
    )


@pytest.mark.parametrize("written", PAIRS, ids=lambda written: written.__name__)
def test_the_writer_and_the_reader_have_the_same_fields(written: type[reports.Report]) -> None:
    assert written.__struct_fields__ == tuple(PAIRS[written].model_fields)


def test_the_operator_reads_what_an_instance_writes() -> None:
    report = _full()
    read = status.PodReport.model_validate_json(report.to_json())
    assert read.to_manifest() == report.to_manifest() == json.loads(report.to_json())
    unset = reports.BackendReport("b", "Unknown")
    assert unset.to_manifest() == {"name": "b", "state": "Unknown"}


@pytest.mark.parametrize("written", PAIRS, ids=lambda written: written.__name__)
def test_the_writer_cuts_as_the_reader_does(written: type[reports.Report]) -> None:
    def huge(kind: Any) -> Any:
        if "int" in str(kind):
            return 2 * REPORT_COUNT.value
        if "list[str]" in str(kind):
            return ["\x1b" + "x" * 10_000] * (REPORT_NAMES.value + 1)
        return "\x1b" + "x" * (REPORT_MESSAGE.value + 1)

    fields = {
        name: huge(kind)
        for name, kind in written.__annotations__.items()
        if kind in (str, str | None, int, int | None, list[str], list[str] | None)
    }
    missing: dict[str, Any] = {"state": "Unknown"} if written is reports.BackendReport else {}
    missing |= {"backends": []} if written is reports.InstanceReport else {}
    report = written(**fields, **missing)
    read = PAIRS[written].model_validate({**fields, **missing}, by_name=True)
    assert report.to_manifest() == read.to_manifest()
