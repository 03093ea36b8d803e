"""Estimates with their intervals: dots over names, or lines over a number, a colour per series."""

from __future__ import annotations

from collections.abc import Sequence

from emo.report.charts.spec import (
    FORMAT,
    Chart,
    Menu,
    Row,
    Series,
    Spec,
    coloured,
    guide_layer,
    metric_channel,
    points,
    reach,
    tooltip,
    whole,
)

HEIGHT = 320
LETTERS = 100  # of all places, that stand side by side
TICKS = 14  # values of a swept number that are all written on its axis
LOG_FROM = 8  # the largest over the smallest number, from which on an axis begins logarithmic


def dots(
    name: str,
    title: str,
    caption: str,
    rows: Sequence[Row],
    series: Series,
    metrics: Sequence[str],
    places: Sequence[str],
    of: str,
    *,
    beside: str = "arm",
    menus: Sequence[Menu] = (),
    levels: Sequence[Row] = (),
) -> Chart:
    """Return a chart with a dot and its interval per place and series, one metric at a time.

    Args:
        name: of its files.
        title: what it answers.
        caption: what it shows.
        rows: ``metric``, ``x`` (one of ``places``), ``series``, the fields of the menus, ``value``, ``lo``, ``hi``,
            ``n``.
        series: in the order of the legend.
        metrics: in the order of the menu.
        places: left to right.
        of: what a place is, for the tooltip.
        beside: what a series is.
        menus: further choices.
        levels: level lines, see `emo.report.charts.spec.guides`.
    """
    level = max(map(len, places)) * len(places) <= LETTERS
    axis = {"title": None, "labelAngle": 0 if level else -30, "labelLimit": 220, "domain": False, "ticks": False}
    x: Spec = {"field": "x", "type": "nominal", "scale": {"domain": list(places), "paddingInner": 0.25}, "axis": axis}
    offset = {"field": "series", "sort": list(series.names), "scale": {"domain": list(series.names)}}
    y = metric_channel(menus)
    colours = coloured(series)
    said = tooltip(("x", of), ("series", beside))
    layers = [
        guide_layer(levels),
        {
            "transform": [{"filter": "isValid(datum.lo)"}],
            "mark": {"type": "rule", "strokeWidth": 2.5, "clip": True},
            "encoding": {"x": x, "xOffset": offset, "y": y | {"field": "lo"}, "y2": {"field": "hi"},
                         "color": colours["color"], "tooltip": said},
        },
        *points({"x": x, "xOffset": offset, "y": y, **colours, "tooltip": said}, 55, "y"),
    ]  # fmt: skip
    return Chart(name, title, caption, whole(rows, metrics, menus, levels, layers, HEIGHT))


def lines(
    name: str,
    title: str,
    caption: str,
    rows: Sequence[Row],
    series: Series,
    metrics: Sequence[str],
    axis: str,
    *,
    menus: Sequence[Menu] = (),
    levels: Sequence[Row] = (),
    of: str = "arm",
) -> Chart:
    """Return a chart with a line and its band per series over the number ``x``, one metric at a time.

    Args:
        name: of its files.
        title: what it answers.
        caption: what it shows.
        rows: as of `dots`, with a number as ``x``.
        series: in the order of the legend.
        metrics: in the order of the menu.
        axis: what the number is, with its unit.
        menus: further choices.
        levels: level lines.
        of: what a series is, for the tooltip.
    """
    numbers = sorted({row["x"] for row in rows})
    log = log_scale(numbers)
    scale: Spec = {"zero": False, "nice": False, "domain": reach(numbers, logarithmic=log == "log")}
    ticks = {"values": numbers} if len(numbers) <= TICKS else {"tickCount": 8}
    x: Spec = {
        "field": "x", "type": "quantitative", "scale": scale,
        "axis": {"title": axis, "format": FORMAT, "grid": False, "labelOverlap": "greedy", **ticks},
    }  # fmt: skip
    y = metric_channel(menus)
    colours, said = coloured(series), tooltip(("x", axis), ("series", of))
    own = {"detail": {"field": "series"}}
    layers = [
        guide_layer(levels),
        {
            "transform": [{"filter": "isValid(datum.lo)"}],
            "mark": {"type": "area", "opacity": 0.16, "clip": True},
            "encoding": {"x": x, "y": y | {"field": "lo"}, "y2": {"field": "hi"}, "color": colours["color"]},
        },
        {
            "mark": {"type": "line", "strokeWidth": 2, "clip": True},
            "encoding": {"x": x, "y": y, "color": colours["color"], **own},
        },
        {
            "transform": [{"filter": "isValid(datum.lo)"}],
            "mark": {"type": "rule", "strokeWidth": 1, "opacity": 0.6, "clip": True},
            "encoding": {"x": x, "y": y | {"field": "lo"}, "y2": {"field": "hi"}, "color": colours["color"]},
        },
        *points({"x": x, "y": y, **colours, "tooltip": said}, 55, "x", "y"),
    ]
    spec = whole(rows, metrics, menus, levels, layers, HEIGHT)
    if log:
        spec["usermeta"] = {"log": {"field": "x", "type": log, "first": _wide(numbers)}}
    return Chart(name, title, caption, spec)


def log_scale(numbers: Sequence[float]) -> str | None:
    """Return ``log``, ``symlog`` where 0 is among the numbers, or None where neither makes sense."""
    if len(numbers) < 3 or min(numbers) < 0:
        return None
    return "log" if min(numbers) > 0 else "symlog"


def _wide(numbers: Sequence[float]) -> bool:
    above = [x for x in numbers if x > 0]
    return max(above) > LOG_FROM * min(above)
