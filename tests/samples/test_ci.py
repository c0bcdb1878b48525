"""The pre-merge check of samples/ci, executed."""

import json
import os
from pathlib import Path

import pytest

from tests.plan.planning import ROOT, proxy
from tests.support.commands import COMMAND, Ended, run_process

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "samples" / "ci" / "plan.sh"
NO_SERVER = {"name": "p", "url": "http://127.0.0.1:1/mcp"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Saved lists of a backend with one tool, for a proxy `tools`."""
    path = tmp_path / "catalogs" / "default" / "tools" / "p.json"
    path.parent.mkdir(parents=True)
    status = {"name": "p", "state": "Healthy", "protocolVersion": "2026-07-28"}
    content = {
        "version": 1,
        "status": {**status, "transport": "streamable-http", "session": "Stateless"},
        "greeting": {"capabilities": {"tools": {}}},
        "lists": {"tools": [{"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}]},
    }
    path.write_text(json.dumps(content))
    return tmp_path / "catalogs"


async def _check(saved: Path, *files: Path, **env: str) -> Ended:
    options = {"MCPPROXY": COMMAND, "PLAN_OPTIONS": f"--offline {saved}"}
    return await run_process(SCRIPT, *files, env={**os.environ, **options, **env})


async def test_a_manifest_that_changes_nothing_passes(saved: Path, tmp_path: Path) -> None:
    base, file = proxy(tmp_path / "base.yaml", NO_SERVER), proxy(tmp_path / "new.yaml", NO_SERVER)
    report = tmp_path / "report.md"
    result = await _check(saved, file, base, PLAN_STRICT="1", PLAN_REPORT=str(report))
    assert (result.code, result.err) == (0, "")
    assert "no differences" in result.out
    assert result.out in report.read_text()


async def test_a_difference_prints_a_notice_and_passes_unless_strict_is_set(
    saved: Path, tmp_path: Path
) -> None:
    base = proxy(tmp_path / "base.yaml", NO_SERVER)
    file = proxy(tmp_path / "new.yaml", {**NO_SERVER, "prefix": "q"})
    result = await _check(saved, file, base)
    assert result.code == 0
    assert "  + tools: q_echo\n  - tools: p_echo\n" in result.out
    assert "review it" in result.out
    assert (await _check(saved, file, base, PLAN_STRICT="1")).code == 2


async def test_names_that_clash_fail_the_check(saved: Path, tmp_path: Path) -> None:
    overrides = [{"name": "echo", "rename": "x" * 63}]
    file = proxy(tmp_path / "new.yaml", {**NO_SERVER, "tools": {"overrides": overrides}})
    result = await _check(saved, file, proxy(tmp_path / "base.yaml", NO_SERVER))
    assert result.code == 3
    assert "names over 64 characters" in result.out


async def test_a_backend_with_an_unknown_catalog_fails_the_check(tmp_path: Path) -> None:
    file = proxy(tmp_path / "new.yaml", NO_SERVER)
    assert (await _check(tmp_path / "nothing", file)).code == 1


async def test_an_invalid_base_is_reported_and_the_new_manifests_are_checked(
    saved: Path, tmp_path: Path
) -> None:
    base = proxy(tmp_path / "base.yaml", NO_SERVER, wrong=1)
    result = await _check(saved, proxy(tmp_path / "new.yaml", NO_SERVER), base)
    assert result.code == 0
    assert "spec.wrong: unknown field" in result.err


async def test_the_script_prints_its_usage(saved: Path) -> None:
    result = await _check(saved)
    assert (result.code, result.err) == (1, "usage: plan.sh FILE [BASE [NAME]]\n")
