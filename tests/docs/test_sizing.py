"""The sizing in docs/operations.md has the figures of docs/performance.md and of the code."""

import pytest

from mcpproxy.api.kubernetes.quantities import parse_quantity
from mcpproxy.desired import build
from mcpproxy.proxy.upstream import large_results
from scripts.sizing import MEASURED, PAGE, REQUEST, figure, render, table
from tests.support.builders import OPTIONS, OWNER, an_mcpproxy

CASE = """# Performance

## Calls

About them.

| connections | target | calls/s | × Reused |
| --- | --- | --- | --- |
| 1 | mcpproxy | 10 (9..11) | 1.00 |
| 16 | mcpproxy | 170 (90..180) | 0.51 |

## Start

| target | idle MiB |
| --- | --- |
| mcpproxy | 59.9 (59.8..59.9) |
"""


def test_a_figure_is_the_median_of_its_case_row_and_column() -> None:
    assert figure(CASE, "Calls", ("16", "mcpproxy"), "calls/s") == "170"
    assert figure(CASE, "Calls", ("16", "mcpproxy"), "× Reused") == "0.51"
    assert figure(CASE, "Start", ("mcpproxy",), "idle MiB") == "59.9"


@pytest.mark.parametrize(
    ("case", "row", "column"),
    [
        ("Ends", ("16",), "calls/s"),
        ("Calls", ("64", "mcpproxy"), "calls/s"),
        ("Calls", ("1",), "p"),
    ],
)
def test_a_figure_that_was_not_measured_is_an_error(
    case: str, row: tuple[str, ...], column: str
) -> None:
    with pytest.raises(ValueError, match=r"no row|no case|not in list"):
        figure(CASE, case, row, column)


def test_the_table_shows_the_last_measurement() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == render(page, MEASURED.read_text(encoding="utf-8")), "run: make reference"


def test_other_measurements_make_another_table() -> None:
    text = MEASURED.read_text(encoding="utf-8")
    share = figure(text, "tools/call, session modes", ("16", "Isolated"), "× Reused")
    assert f"| {share} |" in table(text)
    assert "| 0.99 |" in table(text.replace(f" {share} ", " 0.99 "))


def test_the_resources_of_a_pod_match_the_documentation() -> None:
    children = build(an_mcpproxy(), OPTIONS, OWNER)
    (deployment,) = [child for child in children if child["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    resources, page = container["resources"], PAGE.read_text(encoding="utf-8")
    assert float(parse_quantity(resources["requests"]["cpu"])) == REQUEST
    assert resources.keys() == {"requests"}
    cpu, memory = (resources["requests"][name] for name in ("cpu", "memory"))
    assert f"The default requests {cpu} CPU and {memory} memory and limits neither" in page
    assert f"The proxy buffers {large_results.LARGE // 1024} KiB of a large response" in page
