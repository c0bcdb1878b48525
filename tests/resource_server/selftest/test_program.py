"""The command line of the kit, against the reference server."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.resource_server.__main__ import EXIT_FAILED, EXIT_OK, EXIT_USAGE, main
from tests.resource_server.check import CHECKS
from tests.resource_server.reference.rules import Rules
from tests.resource_server.reference.server import Configuration, running
from tests.resource_server.selftest.world import PUBLIC_URL

NAMES = ("main", "other")
FEW = ("--only", "aud-*,bearer-no-token", "--wait", "5")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _server(port: int, *broken: str) -> Iterator[list[str]]:
    issuers = tuple(f"http://127.0.0.1:{port}/{name}" for name in NAMES)
    with running(Configuration(PUBLIC_URL, issuers, Rules.without(broken))) as url:
        yield ["--url", url, "--public-url", PUBLIC_URL, "--issuer-port", str(port)]


def _report(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def test_a_compliant_server_is_exit_code_0_with_a_report(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with _server(_free_port()) as arguments:
        assert main([*arguments, *FEW, "--json"]) == EXIT_OK
    content = _report(capsys)
    assert content["counts"] == {"pass": len(content["checks"]), "fail": 0, "skip": 0}
    assert {item["id"] for item in content["checks"]} > {"aud-wrong", "bearer-no-token"}
    assert all(item["source"] and item["severity"] for item in content["checks"])


def test_a_violated_must_is_exit_code_1_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    with _server(_free_port(), "aud") as arguments:
        assert main([*arguments, *FEW, "--json"]) == EXIT_FAILED
    wrong = next(item for item in _report(capsys)["checks"] if item["id"] == "aud-wrong")
    assert wrong["outcome"] == "fail"
    assert "other.example" in wrong["reason"]


def test_a_violated_should_is_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    with _server(_free_port(), "aud-case") as arguments:
        assert main([*arguments, *FEW]) == EXIT_OK
    assert "FAIL SHOULD aud-host-case" in capsys.readouterr().out


def test_a_server_that_trusts_one_issuer_skips_the_faults_of_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = ("--only", "issuer-*,aud-list", "--main-issuer-only", "--json")
    with _server(_free_port()) as arguments:
        assert main([*arguments, *few]) == EXIT_OK
    outcomes = {item["id"]: item["outcome"] for item in _report(capsys)["checks"]}
    assert outcomes.pop("aud-list") == "pass"
    assert set(outcomes.values()) == {"skip"}


def test_a_server_that_refuses_all_tokens_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with _server(_free_port(), "accepts") as arguments:
        assert main([*arguments, "--wait", "0"]) == EXIT_USAGE
    assert "a good token is not served" in capsys.readouterr().err


def test_without_a_url_it_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == EXIT_USAGE
    assert "--url is missing" in capsys.readouterr().err


def test_the_program_lists_its_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == EXIT_OK
    assert len(capsys.readouterr().out.splitlines()) == len(CHECKS)
