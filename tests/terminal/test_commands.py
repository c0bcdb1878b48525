"""`mcpproxy list` and `mcpproxy call` against a real server."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mcp import types

from mcpproxy import command_line
from mcpproxy.terminal import questions
from tests.proxy.runtime.serving import serving
from tests.terminal import weather

SCRIPT = Path(weather.__file__)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of the weather server, which has a thread because each command has a loop."""
    started: Future[tuple[str, Callable[[], object]]] = Future()

    async def serve() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        async with serving(weather.server.streamable_http_app()) as base:
            started.set_result((f"{base}/mcp", lambda: loop.call_soon_threadsafe(ended.set)))
            await ended.wait()

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(asyncio.run, serve())
        address, end = started.result(30)
        yield address
        end()
        running.result(30)


class _Replies(BaseHTTPRequestHandler):
    """A server whose tool has content of a type that MCP does not have."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        result = {
            "initialize": {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "s", "version": "1"},
            },
            "tools/list": {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]},
            "tools/call": {"content": [{"type": "hologram"}]},
        }.get(request["method"])
        reply = {"jsonrpc": "2.0", "id": request.get("id"), "result": result}
        if result is None:
            del reply["result"]
            reply["error"] = {"code": -32601, "message": "Method not found"}
        body = json.dumps(reply).encode()
        self.send_response(200 if "id" in request else 202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


def test_a_reply_that_is_not_mcp_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Replies) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            target = f"http://127.0.0.1:{server.server_port}/mcp"
            assert _run("call", target, "t") == 1
        finally:
            server.shutdown()
    error = capsys.readouterr().err
    assert error.startswith(f"mcpproxy call: {target}: the reply is not valid MCP: ")
    assert error.count("\n") == 1


def _run(*words: str) -> int:
    args, command = command_line.parse_command_line(words)
    return command(args)


def test_list_shows_names_arguments_and_summaries(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("list", url) == 0
    out = capsys.readouterr().out
    assert f"weather 2.0 at {url}" in out
    assert (
        "forecast city=string [days=integer] [units=string]\n      The forecast for a city.\n"
        in out
    )
    assert "More than" not in out
    assert "greet name=string" in out
    assert "data://cities/{name}" in out


def test_list_as_json_has_the_chosen_kinds_whole(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("list", url, "tools", "-o", "json") == 0
    lists = json.loads(capsys.readouterr().out)
    assert lists.keys() == {"tools"}
    assert lists["tools"][0]["inputSchema"]["required"] == ["city"]


def test_call_passes_typed_arguments(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("call", url, "forecast", "city=Oslo", "days=3") == 0
    assert json.loads(capsys.readouterr().out) == {"city": "Oslo", "days": 3, "units": "metric"}


@pytest.mark.slow
def test_a_file_is_served_and_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("call", str(SCRIPT), "forecast", "--json", '{"city":"Oslo"}', "-o", "json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["structuredContent"] == {"city": "Oslo", "days": 1, "units": "metric"}


def test_a_failed_tool_is_shown_and_ends_with_one(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("call", url, "fail") == 1
    assert "fail" in capsys.readouterr().out


def test_progress_goes_to_standard_error_and_texts_cannot_control_the_terminal(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("call", url, "count") == 0
    out, err = capsys.readouterr()
    assert out == "\ufffd[31mdone\nnow\n"
    assert "progress: 1 of 2 half" in err


def test_a_question_is_answered_at_the_terminal_until_it_fits_the_form(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["Oslo", "many", "3"])
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return next(answers)

    monkeypatch.setattr(questions, "terminal_of_user", lambda: ask)
    assert _run("call", url, "plan_trip") == 0
    out, err = capsys.readouterr()
    assert out == "accept {'city': 'Oslo', 'days': 3}\n"
    assert asked == ["city (string): ", *["days (integer, optional): "] * 2]
    assert "days: expected integer, found 'many'" in err
    assert "\x1b" not in err


def test_a_question_without_a_terminal_is_declined(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "terminal_of_user", lambda: None)
    assert _run("call", url, "plan_trip") == 0
    out, err = capsys.readouterr()
    assert out == "decline None\n"
    assert "declined: standard input is not a terminal" in err


def test_the_end_of_standard_input_cancels_an_elicitation(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(question: str) -> str:
        raise EOFError

    monkeypatch.setattr(questions, "terminal_of_user", lambda: ask)
    assert _run("call", url, "plan_trip") == 0
    assert capsys.readouterr().out == "cancel None\n"


async def test_a_model_is_played_by_the_person_or_refused() -> None:
    message = types.SamplingMessage(
        role="user", content=types.TextContent(type="text", text="Sum up")
    )
    params = types.CreateMessageRequestParams(messages=[message], max_tokens=10)
    context: Any = None
    refusal = await questions.Terminal(None).sample(context, params)
    assert isinstance(refusal, types.ErrorData)
    answer = await questions.Terminal(lambda _: "fine").sample(context, params)
    assert isinstance(answer, types.CreateMessageResult)
    assert answer.content == types.TextContent(type="text", text="fine")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["call", "URL", "forcast"], 2, "the server has no tool 'forcast'; did you mean forecast?"),
        (["call", "URL", "forecast"], 2, "city is required; arguments: city=string"),
        (["call", "URL", "forecast", "city=a", "days=x"], 2, "days: expected integer, found 'x'"),
        (["list", "URL", "tolls"], 2, "KIND: expected tools, prompts"),
        (["list", "http://127.0.0.1:1/mcp"], 1, "http://127.0.0.1:1/mcp: All connection attempts"),
        (["list", "nope.py"], 2, "nope.py: no such file"),
        (["list", "nope"], 2, "nope: expected a URL"),
        (["list", "nope.py", "-H", "A: b"], 2, "-H: nope.py does not use HTTP"),
    ],
)
def test_an_error_is_reported_in_one_line(
    url: str, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert _run(*(url if word == "URL" else word for word in words)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
