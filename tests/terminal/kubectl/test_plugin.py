"""`kubectl mcpproxy` with a kubectl that knows one proxy and one operator."""

import json
import os
import shlex
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mcpproxy import cli
from mcpproxy.terminal.kubectl import cluster
from mcpproxy.terminal.kubectl.cluster import Kubectl, KubectlFailed

SECRET = "hunter2-hunter2"
PROXY: dict[str, Any] = {
    "apiVersion": "mcpproxy.dev/v1alpha1",
    "kind": "MCPProxy",
    "metadata": {"name": "tools", "namespace": "shop"},
    "spec": {
        "backends": [
            {"name": "a", "url": "http://a/mcp", "headers": [{"name": "K", "value": SECRET}]}
        ]
    },
    "status": {
        "url": "http://tools.shop.svc/mcp",
        "pods": "1/2",
        "backendsHealthy": "0/1",
        "components": {"tools": 3},
        "conditions": [
            {
                "type": "Ready",
                "status": "False",
                "reason": "BackendsDown",
                "message": "a is \x1b[31mUnhealthy",
            }
        ],
        "backends": [{"name": "a", "state": "Unhealthy", "reason": "Unreachable"}],
    },
}
POD = {
    "metadata": {"name": "tools-1"},
    "status": {
        "phase": "Running",
        "containerStatuses": [
            {
                "ready": False,
                "restartCount": 2,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            }
        ],
    },
}
EVENT = {"type": "Warning", "reason": "Down", "message": "a\x07", "lastTimestamp": "2026-01-01"}
OPERATOR = {
    "metadata": {"name": "mcpproxy-operator", "namespace": "mcpproxy-system"},
    "spec": {"template": {"spec": {"containers": [{"image": "mcpproxy/operator:0.1.0"}]}}},
    "status": {"readyReplicas": 1},
}
KUBECTL = """#!/bin/sh
printf '%s\\n' "$*" >> {log}
case "$*" in
{answers}
esac
echo 'Error from server (NotFound): nothing' >&2
exit 1
"""
"""The first answer whose key is in the command. Starting a shell takes little of a test's time."""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the commands that kubectl was given."""

    def items(*result: Any) -> str:
        return json.dumps({"items": result})

    answers = {
        "get mcpproxies.mcpproxy.dev tools": json.dumps(PROXY),
        "get mcpproxies.mcpproxy.dev -": items(PROXY),
        "get deployments -A": items(OPERATOR),
        "get pods -l": items(POD),
        "get events": items(EVENT),
        "logs tools-1": f"sent K={SECRET} and Bearer abcdef\n",
        "version": "{}",
    }
    log = tmp_path / "asked"
    cases = []
    for number, (key, answer) in enumerate(answers.items()):
        file = tmp_path / f"answer-{number}"
        file.write_text(answer)
        cases.append(f"*{shlex.quote(key)}*) exec cat {shlex.quote(str(file))} ;;")
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL.format(answers="\n".join(cases), log=shlex.quote(str(log))))
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return log


def test_status_shows_all_proxies_and_the_operator(
    asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.plugin(["status", "-A", "--context", "kind"]) == 0
    out = capsys.readouterr().out
    assert "Operator mcpproxy-system/mcpproxy-operator: 1 ready, mcpproxy/operator:0.1.0" in out
    assert "shop       tools  False: BackendsDown  0/1       3      1/2   http://tools" in out
    assert "--context kind get mcpproxies.mcpproxy.dev -A -o json" in asked.read_text()


def test_status_shows_conditions_backends_pods_and_events_of_one_proxy(
    asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.plugin(["status", "tools", "-n", "shop"]) == 0
    out = capsys.readouterr().out
    assert "Ready  False   BackendsDown  a is \\x1b[31mUnhealthy" in out
    assert "a     Unhealthy  -      Unreachable" in out
    assert "tools-1  Running  0/1    2         CrashLoopBackOff" in out
    assert "Warning  Down    a\\x07" in out
    assert "\x1b" not in out


def test_a_report_has_objects_and_logs_and_no_secret(
    asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.plugin(["report", "tools", "-n", "shop", "-o", "bundle.tar.gz"]) == 0
    assert "bundle.tar.gz: " in capsys.readouterr().out
    bundle = asked.parent / "bundle.tar.gz"
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    with tarfile.open(bundle) as archive:
        members = {m.name: archive.extractfile(m) for m in archive.getmembers()}
        texts = {name: file.read().decode() for name, file in members.items() if file}
    assert {
        "bundle/README.txt",
        "bundle/mcpproxies.json",
        "bundle/pods/tools-1.log",
        "bundle/operator/deployments.json",
        "bundle/versions.json",
        "bundle/failures.txt",
    } <= texts.keys()
    whole = "\n".join(texts.values())
    assert SECRET not in whole
    assert "Bearer abcdef" not in whole
    assert "http://a/mcp" in texts["bundle/mcpproxies.json"]
    assert "sent K=[redacted]" in texts["bundle/pods/tools-1.log"]
    assert "secret" not in asked.read_text().lower()


def test_a_report_replaces_no_file_and_follows_no_link(
    asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = asked.parent / "precious"
    (asked.parent / "bundle.tar.gz").symlink_to(target)
    assert cli.plugin(["report", "tools", "-o", "bundle.tar.gz"]) == 1
    assert "-o: bundle.tar.gz: File exists; choose another file" in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["status", "absent"], 1, "kubectl get: Error from server (NotFound): nothing"),
        (["status", "../x"], 2, "'../x' is not the name of an MCPProxy"),
        (["statsu"], 2, "did you mean status?"),
        (["list", "../x"], 1, "is not the name of an MCPProxy"),
        (["list", "absent"], 2, "mcpproxy/absent: kubectl port-forward: Error from server"),
    ],
)
def test_an_error_of_the_plugin_is_one_line(
    asked: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    try:
        result = cli.plugin(words)
    except SystemExit as end:
        result = int(end.code or 0)
    lines = [line for line in capsys.readouterr().err.splitlines() if "usage:" not in line]
    assert result == code
    assert len(lines) == 1
    assert message in lines[0]


def _program(directory: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = directory / "kubectl"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def test_a_kubectl_without_an_end_or_with_endless_output_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path, monkeypatch, "exec sleep 60")
    with pytest.raises(KubectlFailed, match=r"no answer within 0\.1 s"):
        Kubectl(timeout=0.1).run("get")
    monkeypatch.setattr(cluster, "MAX_BYTES", 1000)
    _program(tmp_path, monkeypatch, "exec yes")
    with pytest.raises(KubectlFailed, match="more than"):
        Kubectl().run("get")
    assert len(Kubectl().run("logs", whole=False)) == 1000


def test_a_missing_kubectl_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KubectlFailed, match="cannot run kubectl: No such file or directory"):
        Kubectl().run("get")
