"""Differences with their intervals, one below the other: left of 0 less, right of 0 more."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from emo.report.charts.spec import (
    LEGEND,
    NO_EFFECT,
    Chart,
    Menu,
    Row,
    Series,
    Spec,
    coloured,
    metric_channel,
    points,
    tooltip,
    whole,
)

LETTERS = 40  # of a line of a name
LINE = 15  # pixels of a line of a name


def forest(
    name: str,
    title: str,
    caption: str,
    rows: Sequence[Row],
    series: Series,
    metrics: Sequence[str],
    *,
    menus: Sequence[Menu] = (),
    of: str = "difference",
    beside: bool = False,
) -> Chart:
    """Return a chart with a row per difference; pale: its interval contains 0, hollow: it has none.

    Args:
        name: of its files.
        title: what it answers.
        caption: what it shows.
        rows: ``metric``, ``name``, ``series``, the fields of the menus, ``value``, ``lo``, ``hi``, ``n``, ``told`` (p
            in words).
        series: in the order of the legend.
        metrics: in the order of the menu.
        menus: further choices.
        of: what is drawn.
        beside: a name has a row of every series, side by side.
    """
    names = list(dict.fromkeys(row["name"] for row in rows))
    broken = {text: "\n".join(wrap(text, LETTERS)) for text in names}
    height = max(map(len, (text.split("\n") for text in broken.values())), default=1) * LINE + 10
    offset: Spec = {"yOffset": {"field": "series", "sort": list(series.names)}} if beside else {}
    height = max(height, LINE * len(series.names) + 6) if beside else height
    zero = [{"metric": metric, "at": 0.0, "what": NO_EFFECT} for metric in metrics]
    y: Spec = {
        "field": "label", "type": "nominal", "scale": {"domain": list(broken.values())},
        "axis": {"title": None, "labelLimit": 0, "labelExpr": "split(datum.label, '\\n')", "ticks": False,
                 "domain": False, "grid": True, "labelPadding": 8},
    }  # fmt: skip
    x = metric_channel(menus)
    colours = coloured(series, letters=LEGEND - max(len(line) for text in broken.values() for line in text.split("\n")))
    sure = {"condition": {"test": "isValid(datum.lo) && datum.lo <= 0 && datum.hi >= 0", "value": 0.45}, "value": 1}
    said = [*tooltip(("name", of)), {"field": "told", "title": "p"}]
    layers = [
        {
            "data": {"values": zero},
            "transform": [{"filter": "datum.metric == metric"}],
            "mark": {"type": "rule", "color": "#222222", "strokeWidth": 1.2, "clip": True},
            "encoding": {"x": {"field": "at", "type": "quantitative"}},
        },
        {
            "transform": [{"filter": "isValid(datum.lo)"}],
            "mark": {"type": "rule", "strokeWidth": 3, "clip": True},
            "encoding": {"x": x | {"field": "lo"}, "x2": {"field": "hi"}, "y": y, **offset,
                         "color": colours["color"], "opacity": sure, "tooltip": said},
        },
        *points({"x": x, "y": y, **offset, **colours, "opacity": sure, "tooltip": said}, 70, "x"),
    ]  # fmt: skip
    if len(series.names) == 1:  # the title says it
        for layer in layers[1:]:
            layer["encoding"]["color"] = layer["encoding"]["color"] | {"legend": None}
            layer["encoding"].pop("shape", None)
    drawn = [row | {"label": broken[row["name"]]} for row in rows]
    spec = whole(drawn, metrics, menus, zero, layers, height * len(names))
    return Chart(name, title, caption, spec)
