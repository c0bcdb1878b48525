"""Reports of pods are taken whatever they contain: what is too long or too much is cut."""

from typing import Any

from mcpproxy.api.v1alpha1.status import Condition, MCPProxyStatus, PodReport
from mcpproxy.limits import pods as limits

LONG = "\x1b[2J" + "x" * 2_000_000


def _report(**fields: Any) -> PodReport:
    content = {"configHash": LONG, "version": LONG, "backends": [], **fields}
    return PodReport.model_validate(content)


def _backend(**fields: Any) -> dict[str, Any]:
    return {"name": "weather", "state": "Healthy", **fields}


def test_an_oversized_report_is_truncated_and_never_refused() -> None:
    backend = _backend(
        reason=LONG,
        message=LONG,
        protocolVersion=LONG,
        server={"name": LONG, "version": LONG},
        components={"tools": 10**30, "prompts": -5},
        notOffered=[LONG] * 1000,
    )
    issuer = {"issuer": LONG, "keys": 10**30, "message": LONG, "keysFrom": LONG}
    report = _report(
        backends=[backend] * 200,
        clashes=[LONG] * 1000,
        catalogHash=LONG,
        authentication=[issuer] * 100,
    )
    assert len(report.authentication or []) == limits.REPORT_ISSUERS.value
    assert len((report.authentication or [])[0].issuer) == limits.REPORT_MESSAGE.value
    assert len(report.backends) == limits.REPORT_BACKENDS.value
    assert len(report.clashes) == limits.REPORT_NAMES.value
    assert len(report.clashes[0]) == limits.REPORT_NAME.value
    assert len(report.config_hash) == limits.REPORT_WORD.value
    result = report.backends[0]
    assert len(result.message or "") == limits.REPORT_MESSAGE.value
    assert len(result.reason or "") == limits.REPORT_WORD.value
    assert result.server is not None
    assert len(result.server.name) == limits.REPORT_NAME.value
    assert result.components is not None
    assert result.components.tools == limits.REPORT_COUNT.value
    assert result.components.prompts == 0
    assert "\x1b" not in report.model_dump_json()


def test_an_ordinary_report_is_accepted_unchanged() -> None:
    backend = _backend(components={"tools": 3}, server={"name": "Wetter ☀", "version": "1.0"})
    report = _report(configHash="ab" * 32, version="0.1.0", backends=[backend])
    assert report.to_manifest()["backends"] == [backend]
    assert report.config_hash == "ab" * 32


def test_the_message_of_a_condition_is_cut() -> None:
    condition = Condition(
        type="Ready",
        status="True",
        last_transition_time="2026-01-01T00:00:00Z",
        reason="Serving",
        message=LONG,
    )
    assert len(condition.message) == limits.CONDITION_MESSAGE.value
    assert condition.message.endswith("…")


def test_counts_of_a_report_are_recorded_where_they_are_cut() -> None:
    before = limits.REPORT_COUNT.reached
    _report(backends=[_backend(components={"tools": 10**12})])
    assert limits.REPORT_COUNT.reached == before + 1
    assert MCPProxyStatus().to_manifest() == {}
