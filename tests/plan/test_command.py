"""`mcpproxy plan` in front of real servers: what it prints, and its exit codes."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.plan.planning import NOTES, names, plan, proxy, written
from tests.proxy.runtime.serving import LIVE, bound, free_port
from tests.support.builders import a_backend, a_manifest
from tests.support.commands import COMMAND, run_command, run_process

pytestmark = LIVE
LONG = "x" * 63


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path at which a test writes its manifest."""
    return tmp_path / "mcpproxy.yaml"


async def test_servers_over_http_and_stdio_are_planned_with_all_that_they_have(
    file: Path, peer: Any
) -> None:
    _, url = await peer("p")
    proxy(file, {"name": "p", "url": url}, {"name": "notes", "stdio": NOTES})
    result = await plan("-f", file, "-o", "json")
    assert (result.code, result.err) == (0, "")
    assert {"p_echo", "notes_add_note"} <= set(names(result.plan))
    notes, web = result.plan["backends"]
    assert (notes["transport"], notes["session"], notes["state"]) == (
        "stdio",
        "Stateless",
        "Healthy",
    )
    assert (web["transport"], web["protocolVersion"]) == ("streamable-http", "2026-07-28")
    counts = {"tools": 9, "prompts": 1, "resources": 2, "resourceTemplates": 1}
    assert web["components"] == counts
    assert "file://p//etc/motd" in names(result.plan, "resources")
    assert names(result.plan, "prompts").count("p_greet") == 1
    assert result.plan["toolTokens"] == sum(tool["tokens"] for tool in result.plan["tools"])
    shown = await plan("-f", file)
    assert shown.code == 0
    assert f"about {result.plan['toolTokens']} tokens" in shown.out
    assert f"catalogHash: {result.plan['catalogHash']}" in shown.out


async def test_an_override_shows_the_original_name_and_excluded_components_are_hidden(
    file: Path, peer: Any
) -> None:
    _, url = await peer("p")
    tools = {"exclude": ["fail"], "overrides": [{"name": "echo", "rename": "say"}]}
    proxy(file, {"name": "p", "url": url, "tools": tools})
    result = await plan("-f", file, "-o", "json")
    (renamed,) = [tool for tool in result.plan["tools"] if tool["renamed"]]
    assert (renamed["name"], renamed["ownName"]) == ("p_say", "echo")
    assert not {"p_echo", "p_fail"} & set(names(result.plan))
    assert result.code == 0


async def test_a_clash_is_exit_code_3_and_names_the_serving_backend(file: Path, peer: Any) -> None:
    _, url = await peer("p")
    rename = {"include": ["echo"], "overrides": [{"name": "echo", "rename": "b_echo"}]}
    kinds = ("prompts", "resources", "resourceTemplates")
    hidden: dict[str, Any] = {kind: {"include": []} for kind in kinds}
    first = {"name": "a", "url": url, "tools": rename, **hidden}
    second = {"name": "c", "prefix": "a_b", "url": url, "tools": {"include": ["echo"]}, **hidden}
    proxy(file, first, second)
    result = await plan("-f", file)
    assert result.code == 3
    assert "tools: a_b_echo of a, c: served by a" in result.out


async def test_a_name_over_64_characters_is_exit_code_3(file: Path, peer: Any) -> None:
    server, url = await peer("p")
    server.tools[LONG] = server.echo
    proxy(file, {"name": "p", "url": url})
    result = await plan("-f", file)
    assert result.code == 3
    assert f"tools: p_{LONG} of p has 65" in result.out


async def test_an_unreachable_backend_is_exit_code_1_regardless_of_other_findings(
    file: Path, peer: Any
) -> None:
    server, url = await peer("p")
    server.tools[LONG] = server.echo
    gone = f"http://127.0.0.1:{free_port()}/mcp"
    proxy(file, {"name": "p", "url": url}, {"name": "gone", "url": gone})
    result = await plan("-f", file, "-o", "json")
    assert (result.code, result.plan["failed"], result.plan["catalogHash"]) == (1, ["gone"], None)
    assert len(result.plan["tooLong"]) == 1
    shown = await plan("-f", file)
    assert "gone: Unreachable: " in shown.out


async def test_lists_that_are_empty_because_backends_failed_are_reported_as_unknown(
    file: Path,
) -> None:
    proxy(file, {"name": "gone", "url": f"http://127.0.0.1:{free_port()}/mcp"})
    result = await plan("-f", file, "-o", "json")
    assert {*result.plan["notKnown"]} == {"tools", "prompts", "resources", "resourceTemplates"}
    assert "gone" in result.plan["notKnown"]["tools"]
    shown = await plan("-f", file)
    assert "tools: unknown, because backends failed: gone" in shown.out


async def test_a_silent_backend_is_awaited_for_the_timeout(file: Path) -> None:
    with bound() as silent:
        # The kernel takes the connection; nobody ever reads from it.
        proxy(file, {"name": "silent", "url": f"http://127.0.0.1:{silent.getsockname()[1]}/mcp"})
        result = await plan("-f", file, "--timeout", "1")
    assert result.code == 1
    assert "silent: TimedOut: no response within the 1 s of --timeout" in result.out


async def test_reused_sessions_of_a_server_that_keeps_state_are_refused(
    file: Path, peer: Any
) -> None:
    _, url = await peer("p", "legacy")
    proxy(file, {"name": "p", "url": url, "session": {"mode": "Reused"}})
    result = await plan("-f", file, "-o", "json")
    (backend,) = result.plan["backends"]
    assert (backend["session"], backend["reason"]) == ("Stateful", "StatefulBackend")
    assert result.code == 1


async def test_every_proxy_of_a_file_is_planned_and_other_kinds_are_passed_over(
    file: Path, peer: Any
) -> None:
    _, url = await peer("p")
    backend = {"name": "p", "url": url}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    manifest = a_manifest("one", "team", backends=[backend])
    other = a_manifest("other", None, backends=[{**backend, "name": "q"}])
    written(file, manifest, service, other)
    result = await plan("-f", file, "-o", "json", "--namespace", "here")
    assert [(p["namespace"], p["name"]) for p in result.plans] == [
        ("team", "one"),
        ("here", "other"),
    ]
    assert "p_echo" in names(result.plans[0])
    assert "q_echo" in names(result.plans[1])
    assert result.err == "mcpproxy plan: ignored Service web\n"


@pytest.mark.slow
async def test_a_manifest_may_come_on_standard_input(file: Path, peer: Any) -> None:
    _, url = await peer("p")
    text = proxy(file, {"name": "p", "url": url}).read_text()
    result = await run_process(COMMAND, "plan", "-f", "-", stdin=text)
    assert (result.code, result.out.splitlines()[0]) == (0, "MCPProxy tools")


WRONG = [
    a_manifest(backends=[a_backend(url="ftp://x")]),
    a_manifest(unknown=1),
    a_manifest(backends=[a_backend(service={"name": "x", "port": 80}, url="http://x/mcp")]),
]


@pytest.mark.parametrize("manifest", WRONG)
async def test_an_invalid_manifest_prints_the_same_error_as_run(
    file: Path, manifest: dict[str, Any]
) -> None:
    written(file, manifest)
    planned, served = await plan("-f", file), await run_command("run", "-f", file)
    assert planned.code == 1
    assert "spec" in planned.err
    assert planned.err == served.err.replace("mcpproxy run:", "mcpproxy plan:")
    assert planned.out == ""


async def test_all_bad_manifests_of_a_file_are_named(file: Path) -> None:
    written(file, a_manifest("one", wrong=1), a_manifest("two", also=1))
    result = await plan("-f", file)
    assert result.code == 1
    assert "MCPProxy one: spec.wrong: unknown field" in result.err
    assert "MCPProxy two: spec.also: unknown field" in result.err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "-f/--file"),
        (("-f", "FILE", "--nonsense"), "--nonsense"),
        (("-f", "FILE", "--timeout", "0"), "--timeout"),
        (("-f", "FILE", "--save", "a", "--offline", "b"), "--offline"),
        (("-f", "FILE", "--against", "ftp.json"), "--against ftp.json"),
        (("-f", "FILE", "--against", "http://"), "--against: url"),
        (("-f", "nowhere.yaml"), "nowhere.yaml: No such file"),
        (("-f", "FILE", "-n", "Not A Name"), "metadata.namespace"),
    ],
)
async def test_invalid_arguments_are_exit_code_1(
    file: Path, args: tuple[str, ...], says: str
) -> None:
    proxy(file, a_backend(url=f"http://127.0.0.1:{free_port()}/mcp"))
    result = await plan(*(str(file) if arg == "FILE" else arg for arg in args))
    assert result.code == 1
    assert says in result.err


@pytest.mark.slow
async def test_no_value_of_a_header_or_variable_is_printed_or_saved(
    file: Path, tmp_path: Path, peer: Any
) -> None:
    server, url = await peer("p")
    values = tmp_path / "values"
    (values / "secret" / "token").mkdir(parents=True)
    (values / "secret" / "token" / "header").write_text("hidden-in-a-file")
    ref = {"valueFrom": {"secretKeyRef": {"name": "token", "key": "header"}}}
    headers = [{"name": "Authorization", **ref}, {"name": "X-Key", "value": "hidden-in-place"}]
    gone = f"http://127.0.0.1:{free_port()}/mcp?key=hidden-in-url"
    env = [{"name": "KEY", "value": "hidden-in-env"}]
    failing = {"command": "false", "args": ["--key=hidden-in-args"], "env": env}
    proxy(
        file,
        {"name": "p", "url": f"{url}?key=hidden-in-url", "headers": headers},
        {"name": "gone", "url": gone, "headers": headers},
        {"name": "notes", "stdio": {**NOTES, "env": env}},
        {"name": "failing", "stdio": failing},
    )
    saved = tmp_path / "saved"
    arguments = ("-f", file, "--values", values, "--save", saved)
    said = [await plan(*arguments, "-o", form) for form in ("text", "json")]
    assert server.gate.seen[0].headers["authorization"] == "hidden-in-a-file"
    files = [path.read_text() for path in saved.rglob("*.json")]
    assert len(files) == 2
    assert [text for text in (*files, *(s.out + s.err for s in said)) if "hidden-in" in text] == []


async def test_a_program_that_exits_has_the_reason_and_the_message_of_the_status(
    file: Path,
) -> None:
    output = (
        "npm error 404 Not Found - GET https://r.example/nope\nnpm error A complete log of this run"
    )
    program = f"import sys; sys.exit({output!r})"
    stdio = {"command": sys.executable, "args": ["-c", program]}
    proxy(file, {"name": "a", "stdio": stdio}, {"name": "b", "stdio": {"command": "./nope"}})
    shown = await plan("-f", file)
    why = "npm error 404 Not Found - GET https://r.example/nope"
    assert f"a: ProcessFailed: the process exited with status 1: {why}\n" in shown.out
    assert "b: ProcessFailed: cannot start ./nope: No such file or directory" in shown.out
    assert "correct the URL" not in shown.out


async def test_a_document_with_a_failed_backend_names_it_on_standard_error(file: Path) -> None:
    proxy(file, {"name": "down", "url": f"http://127.0.0.1:{free_port()}/mcp"})
    result = await plan("-f", file, "-o", "json")
    assert result.code == 1
    assert result.err.startswith("mcpproxy plan: MCPProxy tools: backend down: Unreachable: ")
    assert result.plan["failed"] == ["down"]
