"""`mcpproxy open`: the page of a proxy, of a cluster or of this machine, in a browser."""

import os
import threading
import webbrowser
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

from mcpproxy import command_line
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.terminal.open_command import page_url
from scripts.ports import ports_in_a_row

PAGE: Final = "text/html; charset=utf-8"


class Handler(BaseHTTPRequestHandler):
    """A page at `/`; another port of its server has none."""

    content_type = PAGE
    status = 200

    def do_GET(self) -> None:
        """Answer with the page."""
        self.send_response(self.status)
        self.send_header("Content-Type", self.content_type)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        """Nobody reads the log."""


class NoPage(Handler):
    """A server without a page."""

    content_type = "text/plain"
    status = 404


def _served(handler: type[Handler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def address() -> Iterator[str]:
    yield from _served(Handler)


@pytest.fixture
def pageless() -> Iterator[str]:
    yield from _served(NoPage)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    urls: list[str] = []
    monkeypatch.setattr(webbrowser, "open", urls.append)
    return urls


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> Path:
    """A kubectl that forwards the address, and ends."""
    program = tmp_path / "kubectl"
    program.write_text(
        f'#!/bin/sh\necho "$@" > "{tmp_path}/called"\necho "Forwarding from {address} -> 9090"\n'
        "sleep 0.2\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "called"


def _run(*words: str) -> int:
    args, command = command_line.parse_command_line(("open", *words))
    return command(args)


def test_the_page_of_an_admin_port_is_opened(
    address: str, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for target in (address, f"http://{address}", address.rpartition(":")[2]):
        assert _run(target) == 0
    assert opened == [f"http://{address}/"] * 3
    assert capsys.readouterr().out == f"http://{address}/\n" * 3


def test_the_browser_stays_closed_on_request(address: str, opened: list[str]) -> None:
    assert _run(address, "--no-browser") == 0
    assert opened == []


def test_a_port_of_a_pod_is_forwarded(
    kubectl: Path, address: str, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("mcpproxy/tools", "-n", "team") == 1
    assert kubectl.read_text() == "--namespace team port-forward deployment/tools :admin\n"
    assert opened == [f"http://{address}/"]
    assert "mcpproxy/tools: kubectl port-forward has ended" in capsys.readouterr().err


def test_the_port_of_the_operator_is_forwarded(
    kubectl: Path, address: str, opened: list[str]
) -> None:
    assert _run("operator") == 1
    assert kubectl.read_text() == (
        "--namespace mcpproxy-system port-forward deployment/mcpproxy-operator :health\n"
    )
    assert opened == [f"http://{address}/"]


def test_an_address_without_a_page_is_reported(
    pageless: str, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(pageless) == 1
    error = capsys.readouterr().err
    assert f"{pageless}: http://{pageless}/ has no page (HTTP 404: hello)" in error
    assert "use the address of --admin-port" in error
    assert _run(f"127.0.0.1:{ports_in_a_row(1)}") == 1
    assert opened == []


@pytest.mark.parametrize("target", ["nonsense", "mcp.json", "https://x:1", "http://x", "x:99999"])
def test_a_target_without_a_page_is_refused_with_the_forms_that_are_possible(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ManifestError, match="expected mcpproxy/NAME, operator, or the address"):
        page_url(target)
    assert _run(target) == 2
    assert f"found '{target}'" in capsys.readouterr().err


def test_a_path_of_a_target_is_ignored() -> None:
    assert page_url("http://localhost:9090/status?watch#x") == "http://localhost:9090/"
    assert page_url("[::1]:9090") == "http://[::1]:9090/"
