"""The page for users of FastMCP: each row of its table, run with FastMCP and with this project."""

import asyncio
import json
import os
import re
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

import pytest

from scripts import pip_peers
from scripts.machine import ROOT
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.serving import serving
from tests.support import notes

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]
PAGE: Final = ROOT / "docs" / "from-fastmcp.md"
_ROW: Final = re.compile(r"^\| (?P<task>[^|]+) \| `(?P<theirs>[^|]+)` \| `(?P<ours>[^|]+)` \|$")


def _rows() -> list[list[str]]:
    """The task and the two cells of code of each row."""
    table = PAGE.read_text(encoding="utf-8").partition("<!-- rows: fastmcp -->\n")[2]
    lines = table.partition("\n\n")[0].splitlines()[2:]
    results = [_ROW.match(line) for line in lines]
    assert all(results), [line for line, row in zip(lines, results, strict=True) if row is None]
    return [list(row.groups()) for row in results if row is not None]


async def _run(home: Path, *arguments: str, document: str) -> str:
    """The output of a program in the environment of FastMCP; it uses this tree's packages."""
    installed = home / "mcpproxy_operator.dist-info"
    installed.mkdir()
    metadata = distribution("mcpproxy-operator").read_text("METADATA") or ""
    (installed / "METADATA").write_text(metadata, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        os.fspath(pip_peers.program("mcp2", "python")),
        *arguments,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{home}"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(document.encode())
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_each_row_of_the_page_gives_the_same_tools_as_fastmcp(tmp_path: Path) -> None:
    rows = _rows()
    async with serving(Peer("peer", "dual").gate) as base:
        value = json.dumps({"url": f"{base}/mcp", "script": notes.__file__, "rows": rows})
        program = os.fspath(ROOT / "tests" / "peers" / "fastmcp_rows.py")
        document: dict[str, Any] = json.loads(await _run(tmp_path, program, document=value))
    both = document.pop("both")
    assert [task for task, *_ in rows] == list(document)
    different = {task: pair for task, pair in document.items() if pair[0] != pair[1] or not pair[0]}
    assert different == {}
    as_provider, mounted, connected = both
    assert as_provider == mounted == [f"weather_{name}" for name in connected]
    assert "echo" in connected


async def test_fastmcp_is_imported_only_when_it_is_used(tmp_path: Path) -> None:
    code = (
        "import sys, mcpproxy; s = mcpproxy.Server(); s.http_app(); s.client();"
        "mcpproxy.create_proxy('http://127.0.0.1:1/mcp'); print('fastmcp' in sys.modules)"
    )
    assert (await _run(tmp_path, "-W", "ignore", "-c", code, document="")).strip() == "False"
