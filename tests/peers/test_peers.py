"""Servers of other makers behind the proxy, clients of other makers in front of it.

What passes through the proxy is compared with what the servers answer directly.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.peers.world import (
    ANSWERS_EVERYTHING,
    ERAS,
    LEGACY_MEMBERS,
    Request,
    Server,
    ask,
    inspect,
    plain,
    through,
    undone,
)

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

LISTS: list[Request] = [
    ("tools/list", {}),
    ("prompts/list", {}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
]
DOCUMENT = "demo://resource/static/document/features.md"


def tool(name: str, /, **arguments: Any) -> Request:
    """A call of a tool."""
    return "tools/call", {"name": name, "arguments": arguments}


def prompt(name: str, /, **arguments: str) -> Request:
    """A prompt with its arguments."""
    return "prompts/get", {"name": name, "arguments": arguments}


def completion(ref: dict[str, str], name: str, value: str) -> Request:
    """Completions of an argument."""
    return "completion/complete", {"ref": ref, "argument": {"name": name, "value": value}}


SLOW = tool("trigger-long-running-operation", duration=0.2, steps=2)
CALLS: list[Request] = [
    tool("echo", message="grüße 🌍"),
    tool("echo", message=7),
    tool("get-sum", a=2, b=40),
    tool("get-structured-content", location="New York"),
    tool("get-tiny-image"),
    tool("get-annotated-message", messageType="error", includeImage=True),
    tool("get-resource-links", count=4),
    tool("get-resource-reference", resourceType="Text", resourceId=3),
    SLOW,
    tool("there-is-no-such-tool"),
    prompt("simple-prompt"),
    prompt("args-prompt", city="Oslo", state="Viken"),
    prompt("completable-prompt", department="Engineering", name="Alice"),
    prompt("resource-prompt", resourceType="Text", resourceId="2"),
    ("resources/read", {"uri": DOCUMENT}),
    ("resources/read", {"uri": "demo://resource/dynamic/text/5"}),
    completion({"type": "ref/prompt", "name": "completable-prompt"}, "department", "E"),
    completion(
        {"type": "ref/resource", "uri": "demo://resource/dynamic/text/{resourceId}"},
        "resourceId",
        "1",
    ),
]
ASKING: list[Request] = [
    tool("trigger-sampling-request", prompt="the capital of France?", maxTokens=20),
    tool("trigger-elicitation-request"),
    tool("get-roots-list"),
]
QUESTIONS = ["sampling/createMessage", "elicitation/create", "roots/list"]
FILES: list[Request] = [
    ("tools/list", {}),
    tool("list_allowed_directories"),
    tool("list_directory", path="{folder}"),
    tool("read_text_file", path="{folder}/hello.txt"),
    tool("read_text_file", path="{folder}/missing.txt"),
    tool("get_file_info", path="/etc/passwd"),
    tool("write_file", path="{folder}/notes/one.txt", content="eins\nzwei\n"),
    tool("read_multiple_files", paths=["{folder}/notes/one.txt", "{folder}/hello.txt"]),
]


def answers(server: Server, mode: str, requests: list[Request], **options: Any) -> list[Any]:
    """The answers alone; fails when another revision was spoken than asked for."""
    result = ask(server, mode, requests, **options)
    assert result["revision"] == ERAS[mode]
    got: list[Any] = result["answers"]
    return got


def compared(
    servers: dict[str, Server],
    proxied: Server,
    name: str,
    mode: str,
    requests: list[Request],
    **options: Any,
) -> tuple[list[Any], list[Any]]:
    """The server's own answers to a legacy client, and the proxy's; their results are the same."""
    direct = answers(servers[name], "legacy", requests, **options)
    asked = [through(request, name) for request in requests]
    passed = answers(proxied, mode, asked, **options)
    dropped = () if mode == "legacy" else LEGACY_MEMBERS
    for request, item, other in zip(requests, direct, passed, strict=True):
        assert undone(other, name, dropped) == plain(item, dropped), request
    return direct, passed


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("name", ["web", "stream", "program"])
def test_a_typescript_client_gets_the_answers_of_server_everything(
    servers: dict[str, Server], proxied: Server, name: str, mode: str
) -> None:
    direct, passed = compared(servers, proxied, name, mode, CALLS)
    assert direct[2]["result"]["content"][0]["text"] == "The sum of 2 and 40 is 42."
    slow = CALLS.index(SLOW)
    # The last step may come after the answer, where the client no longer waits for it.
    assert passed[slow]["progress"][0] == direct[slow]["progress"][0]


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("name", ["web", "stream", "program"])
def test_lists_of_server_everything_depend_on_the_capabilities_of_the_client(
    servers: dict[str, Server], proxied: Server, name: str, mode: str
) -> None:
    counts = []
    declared: list[dict[str, Any]] = [{}, {"roots": {}}, ANSWERS_EVERYTHING]
    for capabilities in declared:
        direct, _ = compared(servers, proxied, name, mode, LISTS, capabilities=capabilities)
        counts.append(len(direct[0]["result"]["tools"]))
    assert 10 < counts[0] < counts[1] < counts[2]


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("name", ["web", "stream", "program"])
def test_server_everything_can_ask_a_typescript_client(
    servers: dict[str, Server], proxied: Server, name: str, mode: str
) -> None:
    direct, passed = compared(servers, proxied, name, mode, ASKING, capabilities=ANSWERS_EVERYTHING)
    for method, item, other in zip(QUESTIONS, direct, passed, strict=True):
        questions = [asked for asked in item["asked"] if asked["method"] == method][:1]
        if method == "roots/list":
            # It asks for them when a session begins, too, in the middle of whatever runs.
            every = [asked for call in passed for asked in call["asked"]]
            assert [asked for asked in every if asked["method"] == method][:1] == [
                {"method": method}
            ]
            continue
        assert questions
        assert [asked for asked in other["asked"] if asked["method"] == method][:1] == questions


@pytest.mark.parametrize("mode", ERAS)
def test_a_typescript_client_works_on_files_of_server_filesystem(
    servers: dict[str, Server], proxied: Server, folder: Path, mode: str
) -> None:
    requests = [_below(folder, request) for request in FILES]
    compared(servers, proxied, "files", mode, requests)
    assert (folder / "notes" / "one.txt").read_text(encoding="utf-8") == "eins\nzwei\n"


def _below(folder: Path, request: Request) -> Request:
    def placed(value: Any) -> Any:
        if isinstance(value, list):
            return [placed(item) for item in value]
        if isinstance(value, dict):
            return {key: placed(entry) for key, entry in value.items()}
        return value.replace("{folder}", str(folder)) if isinstance(value, str) else value

    method, params = request
    return method, placed(params)


@pytest.mark.parametrize(("era", "mode"), [("legacy", "legacy"), ("modern", "2026-07-28")])
def test_the_inspector_and_a_typescript_client_get_the_same_lists(
    proxied: Server, tmp_path: Path, era: str, mode: str
) -> None:
    uri = through(("resources/read", {"uri": DOCUMENT}), "program")[1]["uri"]
    commands: list[tuple[Request, list[str]]] = [
        *((request, []) for request in LISTS),
        (
            tool("web_get-sum", a=1, b=2),
            ["--tool-name", "web_get-sum", "--tool-arg", "a=1", "b=2"],
        ),
        (
            prompt("stream_args-prompt", city="Oslo"),
            ["--prompt-name", "stream_args-prompt", "--prompt-args", "city=Oslo"],
        ),
        (("resources/read", {"uri": uri}), ["--uri", uri]),
    ]
    # Lists depend on what clients declare; of what counts here, the Inspector declares roots.
    declared = {"roots": {"listChanged": True}}
    seen = answers(proxied, mode, [request for request, _ in commands], capabilities=declared)
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(inspect, proxied.target, era, tmp_path, method, *arguments)
            for (method, _), arguments in commands
        ]
        printed = [run.result() for run in runs]
    for (request, _), item, other in zip(commands, seen, printed, strict=True):
        assert plain({"result": other}) == plain(item), request
