"""Targets: what is started, and that it answers."""

import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from bench import peers
from bench.cases import ACCESS_TOKENS, CASES, LIMITS, QUICK, SLOW, Case, Row, quick
from bench.processes import Processes
from bench.report import table
from bench.run import Bench
from bench.stub import Behaviour
from bench.targets import START, Targets, manifest, nginx_config
from bench.tokens import TokenIssuer
from mcpproxy.api import manifest as contract

ISSUER = TokenIssuer()
OURS = [row for case in CASES for row in case.rows if row.target == "ours"]


@pytest.mark.parametrize("row", OURS, ids=lambda row: row.label)
def test_every_manifest_is_an_mcpproxy(row: Row) -> None:
    proxy = contract.parse(manifest(row, "http://127.0.0.1:1/mcp", ISSUER))
    assert len(proxy.spec.backends) == row.backends


def test_a_quick_case_has_one_number_of_connections_and_no_ratio_to_nothing() -> None:
    for case in map(quick, CASES):
        assert len(case.levels) == 1
        assert {row.label for row in case.rows} >= set(case.compare)
        assert case.name == "call" or not any(row.target in SLOW for row in case.rows)


def test_nginx_keeps_its_connections_to_the_backend() -> None:
    text = nginx_config(1, 2)
    assert "listen 127.0.0.1:1 " in text
    assert "server 127.0.0.1:2;" in text
    assert 'proxy_set_header Connection "";' in text


def test_requirements_of_extras_hold_without_the_bounds_that_no_index_can_keep() -> None:
    requires = [
        "mcp>=2.3",
        "certifi>=2999.1; extra == 'server'",
        "pydantic[email]>=2.12; extra == 'server'",
        "other; extra == 'unasked'",
        "tomli; python_version < '3'",
    ]
    result = peers.needed(requires, ["server"])
    assert result == ["mcp>=2.3", "certifi", "pydantic[email]>=2.12"]


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_the_proxy_is_measured_alternately_with_the_backend(tmp_path: Path) -> None:
    rows = (
        Row("direct", "direct", Behaviour(sessions=True)),
        Row("mcpproxy", "ours", Behaviour(sessions=True), backends=2),
        Row("FastMCP", "fastmcp"),
    )
    case = Case("call", "Calls", "About.", rows, levels=(2,), compare=("direct",))
    effort = replace(QUICK, rounds=2, seconds=0.5)
    async with Processes(tmp_path) as processes:
        bench = Bench(processes, Targets(processes, {}, tmp_path), effort, BytesIO())
        results = await bench.run(case)
    assert bench.errors == []
    turns = [(result.row, result.round) for result in results]
    assert turns == [("direct", 0), ("mcpproxy", 0), ("mcpproxy", 1), ("direct", 1)]
    assert all(result.figures.values["calls/s"] > 0 for result in results)


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("label", ["own", "exchanged"])
async def test_limited_calls_reach_a_backend_that_requires_a_token(
    tmp_path: Path, label: str
) -> None:
    (row,) = (row for row in LIMITS.rows if row.label == label)
    assert row.limits is not None
    alone = replace(row, limits=None, identity=None)
    for tried, wrong in ((row, False), (alone, True)):
        case = replace(LIMITS, rows=(tried,), levels=(2,), compare=())
        async with Processes(tmp_path) as processes:
            targets = Targets(processes, {}, tmp_path, patience=5.0 if wrong else START)
            bench = Bench(processes, targets, QUICK, BytesIO())
            results = await bench.run(case)
        assert bool(bench.errors) is wrong
        assert len(results) == (not wrong)


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_the_life_case_measures_the_start_and_memory(tmp_path: Path) -> None:
    case = Case("life", "Life", "About.", (Row("mcpproxy", "ours"),), levels=(1,), life=True)
    effort = replace(QUICK, sessions=20, streams=2)
    async with Processes(tmp_path) as processes:
        bench = Bench(processes, Targets(processes, {}, tmp_path), effort, BytesIO())
        (result,) = await bench.run(case)
    assert bench.errors == []
    assert {"start s", "idle MiB", "session KiB", "stream KiB", "all MiB"} == set(
        result.figures.values
    )


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_the_case_of_tokens_states_their_number_and_the_memory_of_each(
    tmp_path: Path,
) -> None:
    effort = replace(QUICK, tokens=120)
    async with Processes(tmp_path) as processes:
        bench = Bench(processes, Targets(processes, {}, tmp_path), effort, BytesIO())
        (result,) = await bench.run(ACCESS_TOKENS)
    assert bench.errors == []
    figures = result.figures.values
    assert figures["tokens"] == 120
    assert 0 < figures["tokens MiB"] < 5
    assert 0 <= figures["one more KiB"] * 60 / 1024 <= figures["tokens MiB"]
    line = table(ACCESS_TOKENS, [result]).splitlines()[-1]
    assert [cell.strip() for cell in line.split("|")][5] == "120"


@pytest.mark.timeout(60)
@pytest.mark.slow
async def test_a_target_that_does_not_start_is_an_error_and_the_others_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    rows = (Row("direct", "direct"), Row("nginx", "nginx"))
    case = Case("call", "Calls", "About.", rows, levels=(1,))
    async with Processes(tmp_path) as processes:
        bench = Bench(processes, Targets(processes, {}, tmp_path), QUICK, BytesIO())
        (result,) = await bench.run(case)
    assert result.row == "direct"
    (error,) = bench.errors
    assert "nginx is not installed" in error
