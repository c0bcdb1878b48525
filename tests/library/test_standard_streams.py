"""`Server.run()` in a program of a user, with standard streams of every kind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mcpproxy import Server

pytestmark = pytest.mark.slow

PROGRAM = """
from mcpproxy import Server

server = Server("mine")

@server.tool()
def loud(text: str) -> str:
    print("a tool prints", flush=True)
    return text.upper()

print("before", flush=True)
try:
    server.run()
except OSError as error:
    print(f"{type(error).__name__}: {error}", flush=True)
print("behind", flush=True)
"""


def _ran(tmp_path: Path, shell: str, requests: bytes = b"") -> tuple[list[str], str]:
    """Run the program with streams as a shell says; the lines of its output, and its errors."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "requests").write_bytes(requests)
    result = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" program.py {shell}', sys.executable],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=50,
    )
    written = tmp_path / "out"
    out = written.read_text() if written.exists() else result.stdout
    return out.splitlines(), result.stderr


@pytest.mark.parametrize(
    ("shell", "cause"),
    [
        ("</dev/null", "standard input is empty"),
        ("</dev/null >out", "standard input is empty"),
        ("<&-", "standard input is closed"),
        ("<requests", "standard input is empty"),
    ],
)
def test_a_program_without_a_client_gets_an_exception_and_continues(
    tmp_path: Path, shell: str, cause: str
) -> None:
    lines, errors = _ran(tmp_path, shell)
    sentence = f'{cause}; nothing to serve. For HTTP: run(transport="http")'
    assert lines == ["before", f"NothingToServe: {sentence}", "behind"]
    assert "Traceback" not in errors


def test_a_program_whose_output_is_closed_gets_an_exception_and_continues(tmp_path: Path) -> None:
    lines, errors = _ran(tmp_path, "<requests >&-", b"{}\n")
    assert lines == []
    assert errors == ""


@pytest.mark.parametrize("shell", ["<requests", "<requests >out"])
def test_output_of_a_tool_does_not_mix_with_messages(tmp_path: Path, shell: str) -> None:
    info = {"name": "c", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
    call = {"name": "loud", "arguments": {"text": "hi"}}
    requests = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ]
    content = "\n".join(map(json.dumps, requests)).encode()
    (first, *messages, last), errors = _ran(tmp_path, shell, content)
    assert (first, last) == ("before", "behind")
    answers = {message["id"]: message for message in map(json.loads, messages)}
    assert answers[2]["result"]["content"][0]["text"] == "HI"
    assert "a tool prints" in errors


def test_a_transport_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="must be stdio or http"):
        Server("s").run("telepathy")  # type: ignore[arg-type]
