"""Tables of results."""

from bench import report
from bench.cases import Case, Row
from bench.figures import Figures
from bench.report import Result

CASE = Case(
    "call",
    "Calls",
    "About.",
    (Row("nginx", "nginx"), Row("mcpproxy", "ours")),
    levels=(16,),
    compare=("nginx",),
)


def a_result(row: str, turn: int, errors: int = 0, **values: float) -> Result:
    """Return the results of a row in a round with 16 connections."""
    figures = Figures({k.replace("_", "/"): v for k, v in values.items()}, errors)
    return Result(CASE.name, row, 16, turn, figures)


def rates(row: str, *result: float) -> list[Result]:
    """A rate for each round."""
    return [a_result(row, turn, calls_s=rate) for turn, rate in enumerate(result)]


def test_a_line_has_the_median_and_the_spread() -> None:
    table = report.table(CASE, rates("nginx", 1000, 3000, 2000))
    assert "| 16 | nginx | 2000 (1000..3000) | – | – |  | 0 |" in table


def test_ratios_are_taken_within_the_rounds() -> None:
    table = report.table(CASE, [*rates("nginx", 100, 1000, 400), *rates("mcpproxy", 50, 700, 240)])
    assert "| 16 | mcpproxy | 240 (50.0..700) | – | – | 0.60 | 0 |" in table


def test_errors_are_added_up() -> None:
    results = [a_result("nginx", turn, errors=turn, calls_s=1000) for turn in range(4)]
    assert report.table(CASE, results).endswith("| 6 |")


def test_a_row_without_a_result_has_no_line() -> None:
    assert "mcpproxy" not in report.table(CASE, rates("nginx", 1000))


def test_latency_is_shown_above_that_of_the_compared_row() -> None:
    rows = (Row("direct", "direct"), Row("mcpproxy", "ours"))
    case = Case("latency", "L", "A.", rows, levels=(16,), rate=100, compare=("direct",))
    results = [
        a_result("direct", 0, p50=0.2, p99=1.0),
        a_result("mcpproxy", 0, p50=0.5, p99=1.25),
    ]
    assert "| mcpproxy | 0.50 | 1.25 | 0.30 | 0.25 | 0 |" in report.table(case, results)


def test_the_document_names_omitted_rows() -> None:
    text = report.document(["2 cores"], ["workers: none"], [report.section(CASE, [])])
    assert "## Left out\n\n- workers: none\n" in text
    assert "## Calls\n\nAbout.\n" in text


def test_a_comparison_of_processes_also_shows_their_cpu_time() -> None:
    rows = (Row("1 worker", "ours"), Row("2 workers", "ours"))
    case = Case("w", "W", "A.", rows, levels=(16,), compare=("1 worker",), cpu=True)
    results = [
        Result("w", "1 worker", 16, 0, Figures({"calls/s": 1000, "calls/CPU s": 2000})),
        Result("w", "2 workers", 16, 0, Figures({"calls/s": 1500, "calls/CPU s": 1900})),
    ]
    table = report.table(case, results)
    assert "| calls/s | p50 ms | p99 ms | × 1 worker | calls/CPU s | × 1 worker |" in table
    assert "| 16 | 2 workers | 1500 | – | – | 1.50 | 1900 | 0.95 | 0 |" in table
