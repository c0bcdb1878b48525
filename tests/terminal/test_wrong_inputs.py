"""Each wrong input of a first user is answered with its place, the fact and a remedy.

The answers are in wrong_inputs.txt; UPDATE_GOLDEN=1 writes them.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.commands import Ended, run_command
from tests.terminal.wrong_inputs import CASES, PORT, WrongInput

GOLDEN = Path(__file__).with_suffix("").with_name("wrong_inputs.txt")
KUBECTL = """#!/bin/sh
echo 'Error from server (NotFound): services "nope" not found' >&2
exit 1
"""


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A port in use, whose server answers every request with 404."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            await reader.read(1)
            writer.write(
                b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def answer(case: WrongInput, directory: Path, port: int) -> Ended:
    """Run the command of a case in a directory with its file."""
    kubectl = directory / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    words = case.command.replace(PORT, str(port)).split()
    if case.file:
        file = next(word for word in words if word.startswith(("x.", "mcp.")))
        content = case.file.replace(PORT, str(port))
        (directory / file).write_text(content, encoding="utf-8", errors="surrogateescape")
    return await run_command(*words, env={"PATH": f"{directory}:{os.environ['PATH']}"})


def errors_of(case: WrongInput, ended: Ended, port: int) -> list[str]:
    """Return the lines about what is wrong, without those that change from run to run."""
    if case.command.startswith("plan"):
        lines = [line.strip() for line in ended.out.splitlines() if re.match(r"  \w+: [A-Z]", line)]
    else:
        lines = [line for line in ended.err.splitlines() if not line.startswith(("usage:", "   "))]
    return [line.replace(str(port + 1), "NEXT").replace(str(port), PORT) for line in lines]


@pytest.mark.parametrize("name", CASES)
async def test_an_error_of_wrong_input_names_the_place_the_fact_and_the_remedy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    monkeypatch.chdir(tmp_path)
    case = CASES[name]
    ended = await answer(case, tmp_path, port)
    lines = errors_of(case, ended, port)
    assert ended.code == case.code, ended
    assert len(lines) == case.lines, lines
    assert any(
        all(part in line for part in (case.place, case.fact, case.remedy)) for line in lines
    ), lines
    assert "Traceback" not in ended.err
    _compare_with_golden(name, lines)


def _compare_with_golden(name: str, lines: list[str]) -> None:
    text = GOLDEN.read_text(encoding="utf-8") if GOLDEN.exists() else ""
    answers = dict(re.findall(r"^## (.+)\n((?:[^#\n].*\n)*)", text, re.MULTILINE))
    wanted = "".join(f"{line}\n" for line in lines)
    if os.environ.get("UPDATE_GOLDEN"):
        answers[name] = wanted
        ordered = {key: answers[key] for key in CASES if key in answers}
        content = "\n".join(f"## {key}\n{answer}" for key, answer in ordered.items())
        GOLDEN.write_text(content, encoding="utf-8")
    else:
        assert answers.get(name) == wanted


def test_there_are_at_least_forty_wrong_inputs() -> None:
    assert len(CASES) >= 40
