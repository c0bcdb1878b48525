"""`mcpproxy` and other programs to their ends: as processes, or `mcpproxy` in this process."""

import asyncio
import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from mcpproxy import command_line

COMMAND = str(Path(sys.executable).with_name("mcpproxy"))


@dataclass(frozen=True, slots=True)
class Ended:
    """Exit code and output of a program."""

    code: int | None
    out: str
    err: str

    @property
    def plans(self) -> list[dict[str, Any]]:
        """The proxies of `plan -o json`."""
        proxies: list[dict[str, Any]] = json.loads(self.out)["proxies"]
        return proxies

    @property
    def plan(self) -> dict[str, Any]:
        """The only one of them."""
        (only,) = self.plans
        return only


async def run_process(
    *command: str | Path, stdin: str = "", env: Mapping[str, str] | None = None
) -> Ended:
    """Run a program to its end."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 55)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode, out.decode(), err.decode())


async def run_command(
    *arguments: str | Path, stdin: str = "", env: Mapping[str, str] | None = None
) -> Ended:
    """Run `mcpproxy` in a thread of this process: a process of its own imports everything anew."""
    words = [str(argument) for argument in arguments]
    with mock.patch.dict(os.environ, env or {}):
        return await asyncio.to_thread(_run, words, stdin)


def _run(arguments: list[str], stdin: str) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        mock.patch.object(logging.getLogger(), "handlers", []),
    ):
        code = _exit_code(arguments)
    return Ended(code, out.getvalue(), err.getvalue())


def _exit_code(arguments: list[str]) -> int:
    try:
        parsed, command = command_line.parse_command_line(arguments)
        return command(parsed)
    except SystemExit as end:
        return int(end.code or 0)
