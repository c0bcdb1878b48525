"""Another process reads the configuration, with the same result and the same errors."""

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mcpproxy import command_line
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.config import from_arguments
from mcpproxy.proxy.config.from_arguments import start_reading

SERVERS = '{"mcpServers": {"a": {"url": "http://localhost/mcp", "colour": "red"}}}'


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork in spite of the threads of the test runner."""
    monkeypatch.setattr(threading, "active_count", lambda: 1)


def _read(*words: str) -> object:
    args, _ = command_line.parse_command_line(("run", *words))
    return start_reading(args, None)()


@pytest.mark.usefixtures("_alone")
def test_another_process_reads_the_configuration(tmp_path: Path) -> None:
    readers = []

    def read(*arguments: object) -> object:
        readers.append(os.getpid())
        return original(*arguments)  # type: ignore[arg-type]

    original = from_arguments._configuration
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(from_arguments, "_configuration", read)
        config = _read("http://localhost/mcp", "--name", "mine")
    assert not readers, "this process has read it"
    assert config.proxy.metadata.name == "mine"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_alone")
def test_errors_and_warnings_of_the_reader_arrive(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(SERVERS)
    with caplog.at_level(logging.WARNING):
        _read(str(file))
    assert "colour" in caplog.text
    file.write_text(SERVERS.replace("http:", "ftp:"))
    with pytest.raises(ManifestError, match=r"mcp\.json.*http") as caught:
        _read(str(file))
    assert caught.value.problems


@pytest.mark.usefixtures("_alone")
def test_a_reader_that_is_killed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(from_arguments, "_configuration", die)
    with pytest.raises(OSError, match="ended with -9"):
        _read("http://localhost/mcp")


def test_the_command_line_and_the_runtime_need_no_validators() -> None:
    imports = (
        "import sys; from mcpproxy import command_line;"
        "command_line.parse_command_line(['run', '--port', '0', 'http://localhost/mcp']);"
        "import mcpproxy.proxy.runtime, mcpproxy.proxy.workers.worker;"
        "print([name for name in sys.modules if name.partition('.')[0] in"
        " ('pydantic', 'pydantic_core', 'yaml', 'mcp', 'opentelemetry', 'rich')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", imports], capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == "[]"
