"""The charts of a sweep: outcomes along what was swept, models overlaid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from emo.core.frames import pd
from emo.core.metric_keys import metric_key, metric_parts
from emo.report.charts.estimates import dots, lines
from emo.report.charts.spec import (
    ALL,
    Chart,
    Menu,
    Row,
    Series,
    arm_series,
    estimate_row,
    guides,
    plain_series,
    shown,
)
from emo.report.plots.sweep_curves import UNITS
from emo.report.sweep_table import SweepTable, number, read_table, short_names
from emo.results.training_steps import with_steps

METRICS = 6  # the most direct ones
MOST = 9_000  # rows of a page; beyond, emotions are left out
MODEL = "model"
CAPTION = "Means over the test set; {} are 95 % intervals over scenarios or groups. {}"


class Layout(NamedTuple):
    """What of a sweep is where."""

    along: str  # swept key on the x axis
    over: str | None  # swept key that is told apart by colour; None: the arms are
    menus: list[str]  # other swept keys


def sweep_charts(frame: pd.DataFrame, axes: Sequence[str]) -> list[Chart]:
    """Return the chart of a sweep's outcomes; none where nothing varies, or nothing was measured.

    Args:
        frame: results of the sweep (see `emo.report.sweep_table.read_table`).
        axes: swept keys, in order.
    """
    frame = with_steps(frame, axes)
    table = read_table(frame, axes)
    if not table.varying() or not table.metrics:
        return []
    metrics, layout = table.metrics[:METRICS], layout_of(table)
    size = len(table.settings) * len(table.arms) * len(metrics)
    parts = [ALL, *_emotions(frame, metrics[0])]
    if size * len(parts) > MOST:
        parts = [ALL]
    rows = _rows(frame, axes, table, metrics, parts, layout)
    return [_outcomes(table, rows, metrics, parts, layout)] if rows else []


def layout_of(table: SweepTable) -> Layout:
    """Return what of a sweep in which something varies is drawn where."""
    varying = table.varying()
    numeric = [axis for axis in varying if table.numeric(axis)]
    names = [axis for axis in varying if axis != MODEL] or varying
    # As in the figures: of two keys the first number, of more the one with most values.
    along = max(numeric or names, key=lambda axis: len(table.options[axis]))
    if numeric and len(varying) <= 2:
        along = numeric[0]
    over = MODEL if MODEL in varying and along != MODEL else None
    return Layout(along, over, [axis for axis in varying if axis not in (along, over)])


def _emotions(frame: pd.DataFrame, metric: str) -> list[str]:
    parts = [metric_parts(str(key)) for key in frame["metric"].unique()]
    found = [part.emotion for part in parts if part.metric == metric and part.valence is None]
    return [name for name in dict.fromkeys(found) if name is not None]


def _rows(
    frame: pd.DataFrame, axes: Sequence[str], table: SweepTable, metrics: Sequence[str], parts: Sequence[str],
    layout: Layout,
) -> list[Row]:  # fmt: skip
    keys = {
        metric_key(metric, *([] if part == ALL else [part])): (metric, part) for metric in metrics for part in parts
    }
    place = {axis: table.axes.index(axis) for axis in table.axes}
    rows = []
    for (setting, arm, key), x in read_table(frame, axes, list(keys)).cells.items():
        metric, part = keys[key]
        at = setting[place[layout.along]]
        along = shown(number(at)) if table.numeric(layout.along) else at
        series = arm if layout.over is None else setting[place[layout.over]]
        menus = {field(i): setting[place[axis]] for i, axis in enumerate(layout.menus)}
        own = {"metric": metric, "x": along, "series": series, "part": part, **estimate_row(x), **menus}
        rows.append(own | ({} if layout.over is None else {"arm": arm}))
    return rows


def field(i: int) -> str:
    """Return the field of a chart's rows that holds the value of its i-th menu of keys."""
    return f"key{i}"


def _fullest(rows: Sequence[Row], fields: Sequence[str]) -> tuple[str, ...]:
    """Return the values of the menus with the most places: a chart that opens on a single dot shows nothing."""
    places: dict[tuple[str, ...], set[object]] = {}
    for row in rows:
        places.setdefault(tuple(row[name] for name in fields), set()).add(row["x"])
    return max(places, key=lambda key: len(places[key]))


def _outcomes(
    table: SweepTable, rows: list[Row], metrics: Sequence[str], parts: Sequence[str], layout: Layout
) -> Chart:
    short = short_names(table.axes)
    menus = [Menu("part", "emotion", parts)] if len(parts) > 1 else []
    if layout.over is not None:
        menus.insert(0, Menu("arm", "arm", list(dict.fromkeys([table.main_arm(), *table.arms]))))
        series: Series = plain_series(table.options[layout.over])
    else:
        series = arm_series(table.arms)
    opens = _fullest(rows, [field(i) for i in range(len(layout.menus))])
    menus += [Menu(field(i), short[axis], table.options[axis], opens[i]) for i, axis in enumerate(layout.menus)]
    title, told = f"What changes along {short[layout.along]}?", "" if layout.over is None else "A colour per model."
    of = "arm" if layout.over is None else short[layout.over]
    if table.numeric(layout.along):
        axis = UNITS.get(layout.along, layout.along)
        return lines(
            "outcomes", title, CAPTION.format("bands", told), rows, series, metrics, axis,
            menus=menus, levels=guides(metrics), of=of,
        )  # fmt: skip
    return dots(
        "outcomes", title, CAPTION.format("bars", told), rows, series, metrics, table.options[layout.along],
        short[layout.along], beside=of, menus=menus, levels=guides(metrics),
    )  # fmt: skip
