"""How every dashboard looks: its panels, variables and links, made with Grafana's own builders."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import dashboard as build, stat, timeseries
from grafana_foundation_sdk.builders.common import (
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    VariableRefresh,
    VariableSort,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_TAG = "vision-gateway"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. *queries* are PromQL and how a series of it is called, such as `{{model}}`.

    *unit* is one of Grafana's. *number* shows the last value alone, *stacked* the sum of all as well. *what* explains
    what is seen, where its title does not.
    """

    title: str
    unit: str
    queries: Mapping[str, str]
    what: str = ""
    number: bool = False
    stacked: bool = False
    lowest: float | None = 0
    highest: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard named *uid*. *variables* are names, and the metric whose label of that name has their values."""

    uid: str
    title: str
    what: str
    variables: Mapping[str, str]
    rows: Sequence[Row]

    def build(self) -> build.Dashboard:
        """Gives it in Grafana's own terms."""
        built = (
            build.Dashboard(self.title)
            .uid(self.uid)
            .description(self.what)
            .tags([_TAG])
            .readonly()
            .timezone("browser")
            .time("now-3h", "now")
            .refresh("30s")
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .link(_link())
            .with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        )
        for name, metric in self.variables.items():
            built.with_variable(_variable(name, metric))
        ids = itertools.count(1)
        for row in self.rows:
            built.with_row(build.Row(row.title).id(next(ids)))
            for panel in row.panels:
                built.with_panel((_number(panel) if panel.number else _lines(panel)).id(next(ids)))
        return built


def _link() -> build.DashboardLink:
    return (
        build.DashboardLink("Vision Gateway")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([_TAG])
        .as_dropdown(True)  # noqa: FBT003  the builder's signature
        .keep_time(True)  # noqa: FBT003  likewise
    )


def _variable(name: str, metric: str) -> build.QueryVariable:
    return (
        build.QueryVariable(name)
        .label(name.replace("_", " "))
        .datasource(_SOURCE)
        .query(f"label_values({metric}, {name.removeprefix('triton_')})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)  # noqa: FBT003  the builder's signature
        .include_all(True)  # noqa: FBT003  likewise
        .all_value(".+")
    )


def _queries(panel: Panel) -> list[Dataquery]:
    return [
        Dataquery().expr(expression).legend_format(legend).range().ref_id(chr(ord("A") + index))
        for index, (expression, legend) in enumerate(panel.queries.items())
    ]


def _number(panel: Panel) -> stat.Panel:
    shown = (
        stat.Panel()
        .title(panel.title)
        .description(panel.what)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .span(4)
        .height(4)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    )
    for query in _queries(panel):
        shown.with_target(query)
    return shown


def _lines(panel: Panel) -> timeseries.Panel:
    shown = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.what)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .span(8)
        .height(8)
        .fill_opacity(30 if panel.stacked else 8)
        .line_width(1)
        .legend(VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM))
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if panel.stacked:
        shown.stacking(StackingConfig().mode(StackingMode.NORMAL))
    if panel.lowest is not None:
        shown.min(panel.lowest)
    if panel.highest is not None:
        shown.max(panel.highest)
    for query in _queries(panel):
        shown.with_target(query)
    return shown
