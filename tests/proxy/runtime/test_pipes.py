"""Standard streams in front and behind: what passes between requests, both ways."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.runtime.serving import LIVE
from tests.support.builders import a_manifest

pytestmark = [*LIVE, pytest.mark.slow]
COMMAND = str(Path(sys.executable).with_name("mcpproxy"))
PROGRAM = """
import json, sys

def say(**message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + chr(10))
    sys.stdout.flush()

def ask(own):
    meta = {"progressToken": own + "-token"}
    params = {"messages": [], "maxTokens": 1, "_meta": meta}
    say(id=own, method="sampling/createMessage", params=params)

received, call = [], None
for line in sys.stdin:
    got = json.loads(line)
    method = got.get("method")
    if method == "initialize":
        say(id=got["id"], result={"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "p", "version": "1"}})
    elif method == "tools/list":
        say(id=got["id"], result={"tools": [{"name": "t", "inputSchema": {"type": "object"}}]})
    elif method == "tools/call":
        call = got["id"]
        ask("kept")
        ask("taken-back")
    elif method is None:
        received.append(line.strip())
        text = json.dumps(received)
        say(id=call, result={"content": [{"type": "text", "text": text}]})
    elif method.startswith("notifications/") and method != "notifications/initialized":
        received.append(line.strip())
        if method == "notifications/x-vendor/seen":
            params = {"requestId": "taken-back", "reason": "r"}
            say(method="notifications/cancelled", params=params)
    elif "id" in got:
        say(id=got["id"], error={"code": -32601, "message": "unknown"})
"""


class Pipes:
    """A client on the proxy's standard streams."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def says(self, message: dict[str, Any]) -> str:
        """Send a message; its line."""
        assert self._process.stdin is not None
        line = json.dumps({"jsonrpc": "2.0", **message})
        self._process.stdin.write(line.encode() + b"\n")
        return line

    async def hears(self) -> Any:
        """The next message."""
        assert self._process.stdout is not None
        return json.loads(await asyncio.wait_for(self._process.stdout.readline(), 15))


@asynccontextmanager
async def _piped(tmp_path: Path, mode: str) -> AsyncIterator[Pipes]:
    """A client that has initialized, of a proxy of the program."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = {"command": sys.executable, "args": [str(program)]}
    session: dict[str, Any] = {"mode": mode}
    if mode == "Reused":
        session["stateless"] = True
    backends = [{"name": "b", "stdio": command, "session": session}]
    manifest = tmp_path / "mcpproxy.json"
    manifest.write_text(json.dumps(a_manifest(backends=backends)))
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, "run", "-f", str(manifest), "--transport", "stdio"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    pipes = Pipes(process)
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {"sampling": {}},
        "clientInfo": {"name": "c", "version": "1"},
    }
    try:
        pipes.says({"id": 1, "method": "initialize", "params": params})
        assert "result" in await pipes.hears()
        pipes.says({"method": "notifications/initialized"})
        yield pipes
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 15)


@pytest.mark.parametrize(
    "mode",
    [
        "Isolated",
        "PerClient",
        "Reused",
    ],
)
async def test_progress_withdrawals_and_vendors_notifications_pass_between_pipes(
    tmp_path: Path, mode: str
) -> None:
    async with _piped(tmp_path, mode) as client:
        client.says({"id": 7, "method": "tools/call", "params": {"name": "b_t", "arguments": {}}})
        kept, taken_back = [await client.hears() for _ in range(2)]
        vendor = client.says(
            {"x-e": 1, "method": "notifications/x-vendor/seen", "params": {"y": 2}}
        )
        withdrawal = await client.hears()
        assert withdrawal["method"] == "notifications/cancelled"
        assert withdrawal["params"] == {"requestId": taken_back["id"], "reason": "r"}
        token = kept["params"]["_meta"]["progressToken"]
        progress = {"progressToken": token, "progress": 1}
        client.says({"method": "notifications/progress", "params": progress})
        result = {"role": "assistant", "model": "m", "content": {"type": "text", "text": "x"}}
        client.says({"id": kept["id"], "result": result})
        answer = await client.hears()
    told, progressed, answered = json.loads(answer["result"]["content"][0]["text"])
    assert json.loads(told) == json.loads(vendor)
    assert json.loads(progressed)["params"] == {"progressToken": "kept-token", "progress": 1}
    assert json.loads(answered) == {"jsonrpc": "2.0", "id": "kept", "result": result}
