"""The Grafana dashboard, built with Grafana's typed SDK."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from scripts.dashboard import metrics as m
from scripts.dashboard.operator_panels import operator
from scripts.dashboard.panels import SOURCE, link
from scripts.dashboard.proxies import backends, calls, overview, sessions

WIDTH: Final = 24
DOCS: Final = "docs"
"""Address of the documentation: the path in the repository, until an installation sets another."""
Shape = tuple[int, int]
"""Width and height of a panel."""


def dashboard() -> str:
    """Return the dashboard as JSON for Grafana."""
    made = (
        dashboards.Dashboard("MCPProxy")
        .uid("mcpproxy")
        .description("Proxies and operator of MCPProxy. docs/operations.md describes the metrics.")
        .tags(["mcpproxy"])
        .editable()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-3h", "now")
        .links(
            [
                link("Troubleshooting", f"{DOCS}/troubleshooting.md"),
                link("Operations", f"{DOCS}/operations.md"),
            ]
        )
        .with_variable(dashboards.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(_variable("namespace", f"label_values({m.STATE}, namespace)"))
        .with_variable(
            _variable("mcpproxy", f'label_values({m.STATE}{{namespace=~"$namespace"}}, mcpproxy)')
        )
    )
    top = 0
    for title, panels, shapes, collapsed in _rows():
        row = dashboards.Row(title).grid_pos(models.GridPos(h=1, w=WIDTH, x=0, y=top))
        placed = list(_placed(panels, shapes, top + 1))
        if collapsed:
            for panel in placed:
                row = row.with_panel(panel)
            made = made.with_row(row.collapsed(True))
            top += 1
            continue
        made = made.with_row(row)
        for panel in placed:
            made = made.with_panel(panel)
        top = _bottom(shapes, len(panels), top + 1)
    return JSONEncoder(sort_keys=True, indent=2).encode(_numbered(made.build())) + "\n"


def _rows() -> Iterator[tuple[str, Sequence[Any], Sequence[Shape], bool]]:
    """Yield title, panels, their shapes (the last for all further panels), and if it is closed."""
    yield "Overview", overview(), [(4, 4)], False
    yield "Backends", backends(), [(24, 8), (24, 8)], False
    yield "Calls", calls(), [(8, 8)], False
    yield "Sessions, lists and limits", sessions(), [(8, 8)], True
    yield "Operator", operator(), [(8, 4), (8, 4), (8, 4), (8, 8)], True


def _places(shapes: Sequence[Shape], count: int, top: int) -> Iterator[models.GridPos]:
    """Yield places from left to right; a panel that does not fit begins a new line."""
    x, y, tallest = 0, top, 0
    for number in range(count):
        width, height = shapes[min(number, len(shapes) - 1)]
        if x + width > WIDTH:
            x, y, tallest = 0, y + tallest, 0
        yield models.GridPos(h=height, w=width, x=x, y=y)
        x, tallest = x + width, max(tallest, height)


def _bottom(shapes: Sequence[Shape], count: int, top: int) -> int:
    return max(place.y + place.h for place in _places(shapes, count, top))


def _placed(panels: Sequence[Any], shapes: Sequence[Shape], top: int) -> Iterator[Any]:
    for panel, place in zip(panels, _places(shapes, len(panels), top), strict=True):
        yield panel.grid_pos(place)


def _numbered(built: models.Dashboard) -> models.Dashboard:
    """Number the panels, those in closed rows as well."""
    number = 0
    for panel in built.panels or ():
        number += 1
        panel.id_val = number
        for inner in panel.panels if isinstance(panel, models.RowPanel) else ():
            number += 1
            inner.id_val = number
    return built


def _variable(name: str, query: str) -> dashboards.QueryVariable:
    return (
        dashboards.QueryVariable(name)
        .datasource(SOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(text="All", value="$__all", selected=True))
    )
