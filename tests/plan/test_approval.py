"""Plans of a manifest that says which catalog was approved."""

from pathlib import Path
from typing import Any

from scripts.yaml_files import parse_yaml
from tests.plan.planning import names, plan, written
from tests.proxy.runtime.serving import LIVE
from tests.support.builders import a_manifest

pytestmark = LIVE


def _file(path: Path, url: str, **catalog: Any) -> Path:
    spec: dict[str, Any] = {"catalog": catalog} if catalog else {}
    return written(path, a_manifest(backends=[{"name": "p", "url": url}], **spec))


async def _first(path: Path, url: str) -> dict[str, Any]:
    """The plan before anything was approved."""
    result = await plan("-f", _file(path, url), "-o", "json")
    assert (result.code, result.plan["approval"]) == (0, None)
    return result.plan


def _to_paste(text: str) -> dict[str, Any]:
    """The `spec.catalog` that a plan says to write."""
    _, _, rest = text.partition("to approve this catalog, write\n")
    lines = [line for line in rest.splitlines() if line.startswith("  ")]
    content: dict[str, Any] = parse_yaml("\n".join(lines))["catalog"]
    return content


async def test_the_digests_of_a_plan_approve_it(tmp_path: Path, peer: Any) -> None:
    _, url = await peer("p")
    first = await _first(tmp_path / "f.yaml", url)
    for approved in ({"approved": first["approved"]}, {"approvedHash": first["catalogHash"]}):
        result = await plan("-f", _file(tmp_path / "f.yaml", url, **approved), "-o", "json")
        assert (result.code, result.plan["approval"]["matches"]) == (0, True)


async def test_a_drift_is_exit_code_2_and_prints_the_fields_that_approve_it(
    tmp_path: Path, peer: Any
) -> None:
    server, url = await peer("p")
    first = await _first(tmp_path / "f.yaml", url)
    digests = first["approved"]
    digests["tools"]["p_echo"] = "0" * 64
    del server.tools["fail"]
    server.tools["fresh"] = server.echo
    file = _file(tmp_path / "f.yaml", url, approved=digests)
    result = await plan("-f", file, "-o", "json")
    assert (result.code, result.plan["approval"]["matches"]) == (2, False)
    drift = [result.plan["approval"][sort]["tools"] for sort in ("new", "changed", "gone")]
    assert drift == [["p_fresh"], ["p_echo"], ["p_fail"]]
    assert {"p_fresh", "p_echo"} <= {t["name"] for t in result.plan["tools"] if t["served"]}
    shown = await plan("-f", file)
    assert {"  new tools: p_fresh", "  changed tools: p_echo", "  gone tools: p_fail"} <= set(
        shown.out.splitlines()
    )
    again = await plan("-f", _file(tmp_path / "f.yaml", url, **_to_paste(shown.out)))
    assert again.code == 0
    assert "the catalog is approved" in again.out


async def test_a_different_hash_is_shown_with_the_one_to_approve(tmp_path: Path, peer: Any) -> None:
    _, url = await peer("p")
    shown = await plan("-f", _file(tmp_path / "f.yaml", url, approvedHash="0" * 64))
    assert shown.code == 2
    pasted = _to_paste(shown.out)
    assert list(pasted) == ["approvedHash"]
    assert (await plan("-f", _file(tmp_path / "f.yaml", url, **pasted))).code == 0


async def test_withheld_components_are_not_a_difference_from_the_withholding_proxy(
    tmp_path: Path, peer: Any, proxy: Any
) -> None:
    server, url = await peer("p")
    first = await _first(tmp_path / "f.yaml", url)
    server.tools["fresh"] = server.echo
    catalog = {"approved": first["approved"], "onDrift": "Withhold"}
    running = await proxy({"name": "p", "url": url}, catalog=catalog)
    file = _file(tmp_path / "f.yaml", url, **catalog)
    result = await plan("-f", file, "-o", "json", "--against", running.url)
    (fresh,) = [tool for tool in result.plan["tools"] if tool["name"] == "p_fresh"]
    assert (fresh["withheld"], fresh["served"]) == (True, False)
    assert result.plan["differences"]["tools"] == {"added": [], "removed": [], "changed": []}
    assert result.code == 2
    assert result.plan["catalogHash"] == (await running.report()).catalog_hash
    assert result.plan["toolTokens"] == first["toolTokens"]
    assert "p_fresh" in names(result.plan)
    shown = await plan("-f", file)
    assert "withheld" in shown.out
    assert _to_paste(shown.out)["onDrift"] == "Withhold"
