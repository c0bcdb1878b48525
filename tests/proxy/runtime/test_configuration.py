"""Messages of `mcpproxy run` about unusable configurations."""

from pathlib import Path

import pytest

from mcpproxy.cli import main
from mcpproxy.proxy import process
from tests.proxy.runtime.serving import bound


@pytest.fixture(autouse=True)
def _no_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's own logging stays as pytest set it up."""
    monkeypatch.setattr(process, "log_to_stderr", lambda *args, **options: None)


MANIFEST = "apiVersion: mcpproxy.dev/v1alpha1\nkind: MCPProxy\nmetadata: {name: tools}\n"
WRONG = {
    "both": (["URL", "-f", "x.yaml"], "exactly one of TARGET and -f"),
    "neither": ([], "exactly one of TARGET and -f"),
    "no such file": (["missing.py"], "missing.py"),
    "no such manifest": (["-f", "missing.yaml"], "missing.yaml"),
    "another kind of file": (["README.md"], "README.md"),
    "no JSON": (["broken.json"], "broken.json"),
    "no servers": (["empty.json"], "mcpServers"),
    "url and command": (["both.json"], "mcpServers.a"),
    "no object": (["text.json"], "mcpServers.a"),
    "command is no text": (["number.json"], "mcpServers.a.command"),
    "args are no list": (["args.json"], "mcpServers.a.args"),
    "timeout is no number": (["timeout.json"], "mcpServers.a.timeout"),
    "unset variable": (["variable.json"], "NOT_SET_ANYWHERE"),
    "a wrong field": (["-f", "wrong.yaml"], "spec.backends[0].url"),
    "an unknown field": (["-f", "unknown.yaml"], "spec.colour"),
    "no sealing key": (["http://127.0.0.1:1/mcp", "--sealing-keys", "."], "sealing key"),
    "a foreign host": (
        ["http://127.0.0.1:1/mcp", "--transport", "http", "--host", "0.0.0.0"],
        "--allowed-host",
    ),
}
_SERVED = ["http://127.0.0.1:1/mcp", "--transport", "http"]
WRONG |= {
    "a malformed host": ([*_SERVED, "--allowed-host", "http://a"], "allowed host 'http://a'"),
    "a malformed origin": ([*_SERVED, "--allowed-origin", "a.com"], "allowed origin 'a.com'"),
    "no page's origin": ([*_SERVED, "--allowed-origin", "null"], "allowed origin 'null'"),
}
FILES = {
    "broken.json": "{",
    "empty.json": "{}",
    "both.json": '{"mcpServers":{"a":{"url":"http://x","command":"y"}}}',
    "text.json": '{"mcpServers":{"a":"b"}}',
    "number.json": '{"mcpServers":{"a":{"command":5}}}',
    "args.json": '{"mcpServers":{"a":{"command":"x","args":"y"}}}',
    "timeout.json": '{"mcpServers":{"a":{"command":"x","timeout":"soon"}}}',
    "variable.json": '{"mcpServers":{"a":{"url":"http://${NOT_SET_ANYWHERE}/"}}}',
    "wrong.yaml": MANIFEST + "spec: {backends: [{name: a, url: nonsense}]}\n",
    "unknown.yaml": MANIFEST + "spec: {backends: [{name: a, url: 'http://x/'}], colour: red}\n",
    "README.md": "",
}


@pytest.mark.parametrize("case", WRONG)
def test_an_invalid_configuration_exits_with_2_and_names_the_error(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    args, expected = WRONG[case]
    assert main(["run", *args]) == 2
    assert expected in capsys.readouterr().err


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:

    from mcpproxy.cli import main

    with bound() as taken:
        port = str(taken.getsockname()[1])
        args = ["run", "http://127.0.0.1:1/mcp", "--transport", "http", "--port", port]
        assert main(args) == 2
    assert "in use" in capsys.readouterr().err.lower()


@pytest.mark.parametrize("header", ["Authorization", "mcp-session-id", "Host", "a b", ""])
def test_a_user_cannot_be_named_by_any_header(
    header: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["run", *_SERVED, "--principal-from", header])
    assert "--principal-from" in capsys.readouterr().err
