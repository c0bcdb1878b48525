"""`mcpproxy plan --approve` in front of real servers."""

import os
import sys
from pathlib import Path

import pytest

from tests.plan.planning import NOTES, plan, proxy
from tests.proxy.runtime.serving import LIVE, free_port

pytestmark = LIVE


async def test_the_catalog_is_approved_after_one_command(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    proxy(file, {"name": "notes", "stdio": NOTES}, catalog={"approved": {"tools": {"x": "0" * 64}}})
    file.chmod(0o600)
    assert (await plan("-f", file)).code == 2
    ended = await plan("-f", file, "--approve")
    assert ended.code == 0
    assert "new tools: notes_add_note" in ended.out
    assert "the file now approves this catalog" in ended.out
    assert "spec.catalog.approved of MCPProxy tools now has" in ended.err
    assert file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["a.yaml"]
    ended = await plan("-f", file)
    assert (ended.code, "the catalog is approved" in ended.out) == (0, True)


async def test_a_catalog_that_is_not_known_is_not_approved(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    stdio = {"command": sys.executable, "args": ["-c", ""]}
    down = {"name": "down", "url": f"http://127.0.0.1:{free_port()}/mcp"}
    before = proxy(file, down, {"name": "a", "stdio": stdio}).read_text()
    ended = await plan("-f", file, "--approve")
    assert ended.code == 1
    assert "--approve: " in ended.err
    assert "is unchanged, because MCPProxy tools: backend a: ProcessFailed" in ended.err
    assert file.read_text() == before


@pytest.mark.parametrize("options", [("-f", "-"), ("-f", "a.yaml", "--watch")])
async def test_an_approval_needs_a_file(options: tuple[str, ...]) -> None:
    ended = await plan(*options, "--approve")
    assert ended.code == 1
    assert "--approve: needs -f with a file, and no --watch" in ended.err
