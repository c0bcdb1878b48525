"""Panels of the dashboard in the forms that it uses, on the typed builders of Grafana's SDK."""

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import (
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, AMBER, RED, BLUE, GRAY = "green", "orange", "red", "blue", "gray"
STATES: Final = (
    ("Unknown", GRAY),
    ("Healthy", GREEN),
    ("Degraded", AMBER),
    ("RateLimited", AMBER),
    ("Unauthorized", RED),
    ("Unhealthy", RED),
)
"""State of a backend and its color, by ascending severity; the position is the value shown."""


def query(expression: str, legend: str = "") -> prometheus.Dataquery:
    """Return a query over time."""
    made = prometheus.Dataquery().expr(expression).legend_format(legend).range()
    return made.ref_id(_ref(0)).datasource(SOURCE)


def _ref(number: int) -> str:
    """Return the name of a query in its panel."""
    return chr(ord("A") + number)


def value(expression: str, ref: str = "A") -> prometheus.Dataquery:
    """Return a query of the current value, as a table."""
    made = prometheus.Dataquery().expr(expression).ref_id(ref).instant().datasource(SOURCE)
    return made.format(PromQueryFormat.TABLE)


def thresholds(*steps: tuple[float, str], first: str = GREEN) -> dashboards.ThresholdsConfig:
    """Return colors from values on, in ascending order; `first` is that of lower values."""
    made = [models.Threshold(value=None, color=first)]
    made += [models.Threshold(value=start, color=color) for start, color in steps]
    return dashboards.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


def link(title: str, url: str) -> dashboards.DashboardLink:
    """Return a link that opens in a new tab."""
    made = dashboards.DashboardLink(title).type(models.DashboardLinkType.LINK)
    return made.url(url).target_blank(True)


def tile(
    title: str,
    description: str,
    expression: str,
    limits: dashboards.ThresholdsConfig,
    *,
    unit: str = units.Short,
    decimals: float | None = None,
) -> stat.Panel:
    """Return a tile with the current value, in the color of its threshold."""
    made = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .with_target(query(expression))
        .unit(unit)
        .thresholds(limits)
        .color_mode(common.BigValueColorMode.BACKGROUND)
        .graph_mode(common.BigValueGraphMode.AREA)
        .reduce_options(_last())
        .no_value("–")
    )
    return made if decimals is None else made.decimals(decimals)


def _last() -> common_builders.ReduceDataOptions:
    return common_builders.ReduceDataOptions().calcs(["lastNotNull"])


def lines(
    title: str,
    description: str,
    queries: Sequence[prometheus.Dataquery],
    *,
    unit: str = units.Short,
    limits: dashboards.ThresholdsConfig | None = None,
) -> timeseries.Panel:
    """Return a panel of lines over time; `limits` are drawn as lines as well."""
    made = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .fill_opacity(10)
        .show_points(common.VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(_tooltip())
    )
    for number, result in enumerate(queries):
        made = made.with_target(result.ref_id(_ref(number)))
    if limits is None:
        return made
    style = common_builders.GraphThresholdsStyleConfig()
    shown = style.mode(common.GraphTresholdsStyleMode.DASHED)
    return made.thresholds(limits).thresholds_style(shown)


def _legend() -> common_builders.VizLegendOptions:
    made = common_builders.VizLegendOptions().show_legend(True).calcs(["lastNotNull", "max"])
    made = made.display_mode(common.LegendDisplayMode.TABLE)
    return made.placement(common.LegendPlacement.BOTTOM)


def _tooltip() -> common_builders.VizTooltipOptions:
    made = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    return made.sort(common.SortOrder.DESCENDING)


def _state_mapping() -> models.ValueMapping:
    return models.ValueMap(
        options={
            str(number): models.ValueMappingResult(text=state, color=color, index=number)
            for number, (state, color) in enumerate(STATES)
        }
    )


def states(title: str, description: str, expression: str, legend: str) -> statetimeline.Panel:
    """Return a panel of states over time; values are positions in STATES."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .with_target(query(expression, legend))
        .mappings([_state_mapping()])
        .show_value(common.VisibilityMode.AUTO)
        .merge_values(True)
        .row_height(0.8)
    )


def heat(title: str, description: str, expression: str) -> heatmap.Panel:
    """Return a heatmap of the buckets of a histogram in seconds."""
    target = query(expression, "{{le}}").format(PromQueryFormat.HEATMAP)
    color = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(64)
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .with_target(target)
        .calculate(False)
        .color(color)
        .y_axis(heatmap.YAxisConfig().unit(units.Seconds))
    )


Column = tuple[str, str, str | None, dashboards.ThresholdsConfig | None]
"""Title, expression, unit and thresholds of a column."""


def rows(
    title: str, description: str, keys: Sequence[str], columns: Sequence[Column]
) -> table.Panel:
    """Return a table of current values: one row for each combination of the labels in `keys`.

    The column with the unit `state` shows positions in STATES.
    """
    made = table.Panel().title(title).description(description).datasource(SOURCE).show_header(True)
    renamed = {}
    for number, (heading, expression, _, _) in enumerate(columns):
        ref = _ref(number)
        made = made.with_target(value(expression, ref))
        renamed[f"Value #{ref}"] = heading
    merge = models.DataTransformerConfig(id_val="merge", options={})
    order = {key: position for position, key in enumerate([*keys, *renamed])}
    organize = models.DataTransformerConfig(
        id_val="organize",
        options={
            "excludeByName": {"Time": True},
            "indexByName": order,
            "renameByName": renamed,
        },
    )
    made = made.with_transformation(merge).with_transformation(organize)
    for heading, _, unit, limits in columns:
        made = made.override_by_name(heading, _column(unit, limits))
    return made


def _column(
    unit: str | None, limits: dashboards.ThresholdsConfig | None
) -> list[models.DynamicConfigValue]:
    colored = models.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"})
    if unit == "state":
        mapping = models.DynamicConfigValue(id_val="mappings", value=[_state_mapping()])
        return [mapping, colored]
    result = [models.DynamicConfigValue(id_val="unit", value=unit or units.Short)]
    if limits is not None:
        result += [models.DynamicConfigValue(id_val="thresholds", value=limits.build()), colored]
    return result
