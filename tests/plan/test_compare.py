"""The difference between a plan and what is served now."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.plan.planning import plan, written
from tests.proxy.runtime.serving import LIVE, free_port
from tests.support.builders import a_manifest

pytestmark = LIVE


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_running_proxy_does_not_differ_from_its_manifest(
    tmp_path: Path, peer: Any, proxy: Any, era: str
) -> None:
    _, url = await peer("p", era)
    running = await proxy({"name": "p", "url": url})
    file = written(tmp_path / "f.yaml", a_manifest(backends=[{"name": "p", "url": url}]))
    result = await plan("-f", file, "-o", "json", "--against", running.url)
    assert (result.code, result.plan["differences"]["tools"]["changed"]) == (0, [])
    # The hash is the one that its status shows.
    assert result.plan["catalogHash"] == (await running.report()).catalog_hash
    shown = await plan("-f", file, "--against", running.url)
    assert "no differences" in shown.out


async def test_a_diff_against_a_running_proxy_is_exit_code_2(
    tmp_path: Path, peer: Any, proxy: Any
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    overrides = [{"name": "echo", "rename": "say"}, {"name": "link", "description": "New."}]
    changed = {"name": "p", "url": url, "tools": {"overrides": overrides}}
    file = written(tmp_path / "f.yaml", a_manifest(backends=[changed]))
    result = await plan("-f", file, "-o", "json", "--against", running.url)
    assert result.code == 2
    tools = {"added": ["p_say"], "removed": ["p_echo"], "changed": ["p_link"]}
    assert result.plan["differences"]["tools"] == tools
    shown = await plan("-f", file, "--against", running.url)
    assert {"  + tools: p_say", "  - tools: p_echo", "  ~ tools: p_link"} <= set(
        shown.out.splitlines()
    )


async def test_a_clash_takes_precedence_over_a_difference(
    tmp_path: Path, peer: Any, proxy: Any
) -> None:
    _, url = await peer("p")
    running = await proxy({"name": "p", "url": url})
    tools = {"overrides": [{"name": "echo", "rename": "x" * 63}]}
    changed = {"name": "p", "url": url, "tools": tools}
    file = written(tmp_path / "f.yaml", a_manifest(backends=[changed]))
    result = await plan("-f", file, "-o", "json", "--against", running.url)
    assert result.plan["differences"]["tools"]["added"] == ["p_" + "x" * 63]
    assert result.code == 3


async def test_an_earlier_plan_is_compared_with_proxy_by_proxy(tmp_path: Path, peer: Any) -> None:
    server, url = await peer("p")
    backends = [{"name": "p", "url": url}]
    item, two = a_manifest("one", backends=backends), a_manifest("two", backends=backends)
    before = await plan("-f", written(tmp_path / "one.yaml", item), "-o", "json")
    earlier = tmp_path / "earlier.json"
    earlier.write_text(before.out)
    known = dict(server.tools)
    del server.tools["fail"]
    both = written(tmp_path / "both.yaml", item, two)
    result = await plan("-f", both, "-o", "json", "--against", earlier)
    assert result.code == 2
    first, second = (p["differences"]["tools"] for p in result.plans)
    assert first == {"added": [], "removed": ["p_fail"], "changed": []}
    assert (len(second["added"]), second["removed"]) == (8, [])
    server.tools = known
    same = await plan("-f", tmp_path / "one.yaml", "--against", earlier)
    assert same.code == 0


async def test_a_proxy_missing_from_the_file_is_removed(tmp_path: Path, peer: Any) -> None:
    _, url = await peer("p")
    both = [a_manifest(name, backends=[{"name": "p", "url": url}]) for name in ("one", "two")]
    before = await plan("-f", written(tmp_path / "both.yaml", *both), "-o", "json")
    earlier = tmp_path / "earlier.json"
    earlier.write_text(before.out)
    result = await plan(
        "-f", written(tmp_path / "one.yaml", both[0]), "-o", "json", "--against", earlier
    )
    assert result.code == 2
    (gone,) = json.loads(result.out)["gone"]
    assert (gone["namespace"], gone["name"]) == ("team", "two")
    assert len(gone["differences"]["tools"]["removed"]) == 9
    nothing = await plan("-f", "-", "--against", earlier)
    assert nothing.code == 2
    assert nothing.out.startswith("MCPProxy team/one is removed\n\ndifferences")
    assert "\nMCPProxy team/two is removed\n" in nothing.out


async def test_an_unreachable_running_proxy_is_exit_code_1(tmp_path: Path, peer: Any) -> None:
    _, url = await peer("p")
    file = written(tmp_path / "f.yaml", a_manifest(backends=[{"name": "p", "url": url}]))
    result = await plan("-f", file, "--against", f"http://127.0.0.1:{free_port()}/mcp")
    assert result.code == 1
    assert "--against: cannot read the running proxy" in result.err


@pytest.mark.parametrize(
    ("against", "what"), [("http://127.0.0.1:1/mcp", "URL"), ("mcpproxy/tools", "mcpproxy/NAME")]
)
async def test_one_running_proxy_cannot_be_compared_with_several(
    tmp_path: Path, against: str, what: str
) -> None:
    file = written(tmp_path / "f.yaml", a_manifest("one"), a_manifest("two"))
    result = await plan("-f", file, "--against", against)
    assert result.code == 1
    assert f"--against {what} compares one MCPProxy, but the file has 2" in result.err


@pytest.mark.parametrize(
    "content",
    ["x", "[]", "{}", '{"version": 1, "proxies": [{}]}', '{"version": 1, "proxies": [1]}'],
)
async def test_a_file_that_is_not_an_earlier_plan_is_exit_code_1(
    tmp_path: Path, content: str
) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text(content)
    file = written(tmp_path / "f.yaml", a_manifest())
    result = await plan("-f", file, "--against", earlier)
    assert result.code == 1
    assert f"--against {earlier}: " in result.err


async def test_the_document_contains_the_exit_code(tmp_path: Path, peer: Any) -> None:
    server, url = await peer("p")
    server.tools["x" * 63] = server.echo
    file = written(tmp_path / "f.yaml", a_manifest(backends=[{"name": "p", "url": url}]))
    result = await plan("-f", file, "-o", "json")
    assert (json.loads(result.out)["exitCode"], json.loads(result.out)["version"]) == (3, 1)
