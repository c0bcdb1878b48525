"""`mcpproxy run` as a process: targets, standard streams, exit codes."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from tests.proxy.runtime.serving import LIVE, free_port
from tests.proxy.runtime.waiting import eventually

pytestmark = LIVE
COMMAND = str(Path(sys.executable).with_name("mcpproxy"))
SERVER = """
from mcp.server.mcpserver import MCPServer

server = MCPServer("small", log_level="WARNING")


@server.tool()
def shout(text: str) -> str:
    "Louder."
    return text.upper()


if __name__ == "__main__":
    server.run("stdio")
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The file of a small server."""
    path = tmp_path / "small.py"
    path.write_text(SERVER)
    return path


async def _tools(client: Client) -> list[str]:
    return [tool.name for tool in (await client.list_tools()).tools]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_file_is_served_on_standard_streams_in_both_eras(small: Path, mode: str) -> None:
    parameters = StdioServerParameters(command=COMMAND, args=["run", str(small)])
    async with Client(parameters, mode=mode) as client:
        assert await _tools(client) == ["shout"]
        result = await client.call_tool("shout", {"text": "hi"})
        assert result.structured_content == {"result": "HI"}
        assert client.protocol_version == {"legacy": "2025-11-25", "auto": "2026-07-28"}[mode]


@pytest.mark.slow
async def test_several_servers_of_a_file_have_their_keys_as_prefixes(
    small: Path, tmp_path: Path, peer: Any
) -> None:
    _, url = await peer("p")
    stdio = {"command": sys.executable, "args": [str(small)]}
    several, item = tmp_path / "several.json", tmp_path / "one.json"
    several.write_text(json.dumps({"mcpServers": {"small": stdio, "My Peer": {"url": url}}}))
    item.write_text(json.dumps({"mcpServers": {"peer": {"url": url, "type": "http"}}}))
    args = ["run", str(several), "--transport", "stdio"]
    async with Client(StdioServerParameters(command=COMMAND, args=args), mode="legacy") as client:

        async def both() -> bool:
            result = await _tools(client)
            return {"small_shout", "My_Peer_echo"} <= set(result)

        await eventually(both, "the tools of both servers")
    parameters = StdioServerParameters(command=COMMAND, args=["run", str(item)])
    async with Client(parameters, mode="legacy") as client:
        assert "echo" in await _tools(client)


@pytest.mark.slow
async def test_standard_output_carries_messages_and_nothing_else(peer: Any) -> None:
    _, url = await peer("p", "legacy")
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        "run",
        url,
        "--log-level",
        "debug",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    value = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c"}}
    messages = [
        b"this is no message",
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": value}).encode(),
        b'{"jsonrpc":"2.0","id":2,"method":"tools/list"}',
    ]
    results = []
    async with asyncio.timeout(30):
        for message in messages:
            process.stdin.write(message + b"\n")
            results.append(json.loads(await process.stdout.readline()))
        process.stdin.close()
        rest, errors = await process.communicate()
    assert rest == b""
    assert [message["id"] for message in results] == [None, 1, 2]
    assert results[0]["error"]["code"] == -32700
    assert "echo" in [tool["name"] for tool in results[2]["result"]["tools"]]
    assert process.returncode == 0
    for line in errors.splitlines():
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys()


@pytest.mark.slow
async def test_a_manifest_is_served_over_http_until_sigterm(peer: Any, tmp_path: Path) -> None:
    _, url = await peer("p")
    manifest = tmp_path / "mcpproxy.yaml"
    manifest.write_text(
        "apiVersion: mcpproxy.dev/v1alpha1\nkind: MCPProxy\nmetadata: {name: tools}\n"
        f"spec:\n  backends:\n    - {{name: p, url: '{url}'}}\n"
    )
    port, admin = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *("run", "-f", str(manifest), "--port", str(port), "--admin-port", str(admin)),
        stderr=subprocess.PIPE,
    )

    async def serves() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await eventually(serves, "the proxy to serve")
        async with Client(f"http://127.0.0.1:{port}/mcp", mode="auto") as client:
            assert "p_echo" in await _tools(client)
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            await process.communicate()
    assert process.returncode == 0


@pytest.mark.slow
async def test_a_client_that_only_writes_and_closes_gets_all_its_answers(small: Path) -> None:
    info = {"name": "pipe", "version": "1"}
    initialize = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
    asked = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": initialize},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
    ]
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, "run", str(small)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    lines = "".join(json.dumps(message) + "\n" for message in asked)
    out, _ = await asyncio.wait_for(process.communicate(lines.encode()), 30)
    answers = {answer.get("id"): answer for answer in map(json.loads, out.splitlines())}
    assert answers[1]["result"]["protocolVersion"] == "2025-11-25"
    assert [tool["name"] for tool in answers[2]["result"]["tools"]] == ["shout"]
