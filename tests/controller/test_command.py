"""The command line, logs and endpoints of the operator."""

import json
import logging
import sys
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

import pytest
from aiohttp import web

from mcpproxy import cli
from mcpproxy.cluster.cached_reads import ObjectCache
from mcpproxy.controller import command
from mcpproxy.controller.health_port.application import application
from mcpproxy.controller.metrics import OperatorMetrics
from mcpproxy.json_logs import JsonLogFormatter
from mcpproxy.limits.http import DESCRIPTORS
from tests.apiserver.operator_process import starting


def test_without_an_image_the_operator_names_the_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MCPPROXY_IMAGE", raising=False)
    assert cli.main(["operator"]) == 2
    assert "--image" in capsys.readouterr().err


def test_an_election_needs_a_namespace_for_its_lease(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    monkeypatch.setattr(command, "POD_NAMESPACE_FILE", tmp_path / "absent")
    assert cli.main(["operator", "--image", "x:1", "--leader-elect"]) == 2
    assert "--lease-namespace" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["10", "0.5s", "soon"])
def test_an_invalid_lease_duration_is_refused(
    wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["operator", "--image", "x:1", "--lease-duration", wrong])
    assert ended.value.code == 2
    assert "--lease-duration" in capsys.readouterr().err


def test_without_a_cluster_the_operator_fails_with_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert cli.main(["operator", "--image", "x:1", "--kubeconfig", "/nowhere"]) == 1
    assert "cannot connect to the API server" in capsys.readouterr().err


def test_the_operator_may_have_more_connections_than_it_was_started_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    soft, hard = getrlimit(RLIMIT_NOFILE)
    setrlimit(RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        assert cli.main(["operator", "--image", "x:1", "--kubeconfig", "/nowhere"]) == 1
        raised, _ = getrlimit(RLIMIT_NOFILE)
    finally:
        setrlimit(RLIMIT_NOFILE, (soft, hard))
    assert raised == (hard if 0 <= hard < DESCRIPTORS.value else DESCRIPTORS.value)


def test_an_unexpected_error_is_one_log_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(command, "load_config", fail)
    assert cli.main(["operator", "--image", "x:1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "RuntimeError: broken" in json.loads(line)["exception"]


@pytest.mark.slow
def test_without_proxies_the_operator_waits_and_stops_on_a_signal(
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
    record.created, record.msecs = 1767225600.007, 7.0
    text = JsonLogFormatter().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["message"]) == ("error", "went wrong")
    assert line["time"] == "2026-01-01T00:00:00.007Z"
    assert "ValueError" in line["exception"]


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


async def test_a_failing_probe_names_the_cause() -> None:
    wrong: dict[str, str | None] = {"livez": None, "readyz": "not yet"}
    app = application(
        OperatorMetrics(), lambda: wrong["livez"], lambda: wrong["readyz"], ObjectCache()
    )
    assert await answer(app, "/livez") == (200, "ok\n")
    assert await answer(app, "/readyz") == (503, "not yet\n")
    wrong.update(livez="the watch of pods is silent", readyz=None)
    assert await answer(app, "/livez") == (503, "the watch of pods is silent\n")
    assert await answer(app, "/readyz") == (200, "ok\n")
