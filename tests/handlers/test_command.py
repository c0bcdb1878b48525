"""The command line, logs and endpoints of the operator."""

import json
import logging
import sys
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from mcpproxy import cli
from mcpproxy.handlers.health import Metrics, application
from mcpproxy.handlers.logs import JsonLines
from tests.apiserver.operator_process import starting


def test_without_an_image_the_operator_says_how_to_give_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MCPPROXY_IMAGE", raising=False)
    assert cli.main(["operator"]) == 2
    assert "--image" in capsys.readouterr().err


def test_without_a_cluster_the_operator_fails_with_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert cli.main(["operator", "--image", "x:1", "--kubeconfig", "/nowhere"]) == 1
    assert "no way to the API server" in capsys.readouterr().err


def test_while_there_is_nothing_to_serve_the_operator_waits_and_stops_when_told(
    tmp_path: Path,
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "{apiVersion: v1, kind: Config, current-context: x,"
        " contexts: [{name: x, context: {cluster: x, user: x}}],"
        " clusters: [{name: x, cluster: {server: 'http://127.0.0.1:1'}}],"
        " users: [{name: x, user: {}}]}"
    )
    log = tmp_path / "log"
    with starting(kubeconfig, log=log) as operator:
        operator.until(lambda: "CRD" in log.read_text(), "it says what it waits for")
        assert operator.get("/livez")[0] == 200
        assert operator.get("/readyz")[0] == 503
        operator.process.terminate()
        assert operator.process.wait(5) == 0


def test_a_record_is_one_line_of_json_with_its_traceback() -> None:
    try:
        raise ValueError("bad\nnews")
    except ValueError:
        record = logging.LogRecord(
            "mcpproxy.x", logging.ERROR, __file__, 1, "went %s", ("wrong",), sys.exc_info()
        )
    text = JsonLines().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["message"]) == ("error", "went wrong")
    assert "ValueError" in line["error"]


async def answer(app: web.Application, path: str) -> tuple[int, str]:
    """Status and text of one endpoint."""
    request = web.Request.__new__(web.Request)
    for resource in app.router.resources():
        if resource.canonical == path:
            (route, *_) = list(resource)
            response = await route.handler(request)
            assert isinstance(response, web.Response)
            return response.status, str(response.text)
    raise AssertionError(path)


async def test_probes_follow_what_they_are_told() -> None:
    alive = {"livez": True, "readyz": False}
    app = application(
        Metrics(lambda: 0, lambda: 0), lambda: alive["livez"], lambda: alive["readyz"]
    )
    assert (await answer(app, "/livez"))[0] == 200
    assert (await answer(app, "/readyz"))[0] == 503
    alive.update(livez=False, readyz=True)
    assert (await answer(app, "/livez"))[0] == 503
    assert (await answer(app, "/readyz"))[0] == 200


async def test_passes_are_counted_by_result() -> None:
    metrics = Metrics(lambda: 4, lambda: 2)
    metrics.passed("ok", 0.1)
    metrics.passed("error", 0.2)
    metrics.passed("conflict", 0.2)
    app = application(metrics, lambda: True, lambda: True)
    _, text = await answer(app, "/metrics")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["mcpproxy_operator_reconciles_total", "ok"] == 1
    assert found["mcpproxy_operator_reconciles_total", "conflict"] == 1
    assert found["mcpproxy_operator_reconcile_errors_total",] == 1
    assert found["mcpproxy_operator_reconcile_seconds_count",] == 3
    assert found["mcpproxy_operator_queue_length",] == 4
    assert found["mcpproxy_operator_followed_pods",] == 2
