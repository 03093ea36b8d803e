"""What all charts share: a Vega-Lite specification (version 6) as a plain dictionary, its scales, menus and legends.

A chart says everything in one specification: the page draws it with menus and a legend that can be clicked, and
`emo.report.charts.export` makes its SVG and PNG from the same one. No text of a user's is a field's name or a part of
an expression; rows hold fields of ours, so that a label may be anything.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from emo.core.metrics import BOUNDS, metric_of
from emo.core.stats import Estimate
from emo.report.plots.sweep_curves import arm_shapes, clean
from emo.report.plots.theme import OTHERS, SHAPES, arm_colours

Spec = dict[str, Any]
Row = dict[str, Any]

ALL = "all"  # a part: everything together
FAINT = "#777777"
DIGITS = 6  # significant ones that a page keeps of a number
ZERO = 1e-12  # what is nearer to 0 is 0: a difference of equal numbers
LEGEND = 92  # letters of a line of a legend
FORMAT = ".6~g"  # without digits d3 guesses them from the axis, and writes 0.12 as 0.1 between 0.1 steps of 0.02
# What a marker of `emo.report.plots.theme` is called in Vega; others are circles.
VEGA_SHAPES = {
    "o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down", "P": "cross",
    ">": "triangle-right", "<": "triangle-left",
}  # fmt: skip
NO_EFFECT = "no effect"
SCALED = ("part", "arm")  # menus that change what the axis must hold
CONFIG: Spec = {
    "font": "system-ui, DejaVu Sans, Liberation Sans, sans-serif",
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "gridColor": "#E6E6E6", "titleFontWeight": "normal"},
    "legend": {"labelFontSize": 12, "symbolStrokeWidth": 2},
}
# Zoom with the wheel alone would stop a reader who only scrolls; a pinch is a wheel with Ctrl.
ZOOM = "wheel![event.ctrlKey || event.metaKey]"


class Chart(NamedTuple):
    """One chart of a page."""

    name: str  # of its files, and of its place on the page
    title: str
    caption: str
    spec: Spec


class Menu(NamedTuple):
    """A choice above a chart: only the rows whose ``field`` has the chosen option are drawn."""

    field: str
    label: str
    options: Sequence[str]
    first: str | None = None  # chosen at first; None: the first option

    def param(self) -> Spec:
        """Return it as a parameter; ``first`` is chosen at first."""
        bound = {"input": "select", "options": list(self.options), "name": f"{self.label} "}
        return {"name": self.field, "value": self.first or self.options[0], "bind": bound}


class Series(NamedTuple):
    """What is told apart by colour and shape, in the order of the legend."""

    names: Sequence[str]
    colours: Sequence[str]
    shapes: Sequence[str]


def arm_series(arms: Sequence[str]) -> Series:
    """Return arms with the colours and shapes that they have in every figure."""
    colours, shapes = arm_colours(arms), arm_shapes(arms)
    return Series(arms, [colours[arm] for arm in arms], [VEGA_SHAPES.get(shapes[arm], "circle") for arm in arms])


def plain_series(names: Sequence[str]) -> Series:
    """Return names without a colour of their own: models, keys."""
    colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", *OTHERS]
    shapes = [VEGA_SHAPES.get(shape, "circle") for shape in SHAPES[: len(VEGA_SHAPES)]]
    count = range(len(names))
    return Series(names, [colours[i % len(colours)] for i in count], [shapes[i % len(shapes)] for i in count])


def shown(value: float | None) -> float | None:
    """Return a number as a page keeps it; None where it is none."""
    if value is None or not math.isfinite(value):
        return None
    return 0.0 if abs(value) < ZERO else float(f"{value:.{DIGITS}g}")


def estimate_row(x: Estimate) -> Row:
    """Return value, ends of its interval (None: there is none) and n."""
    lo, hi = shown(x.lo), shown(x.hi)
    whole = lo is not None and hi is not None
    return {"value": shown(x.value), "lo": lo if whole else None, "hi": hi if whole else None, "n": x.n}


def reach(values: Iterable[float | None], *, logarithmic: bool = False) -> list[float]:
    """Return the ends of an axis that shows ``values`` with room around; never shorter than rounding errors."""
    known = [x for x in values if x is not None]
    if not known:
        return [1.0, 2.0] if logarithmic else [0.0, 1.0]
    lo, hi = min(known), max(known)
    if logarithmic and lo > 0:
        room = max((hi / lo) ** 0.06, 1.02)
        return [float(f"{lo / room:.4g}"), float(f"{hi * room:.4g}")]
    if hi - lo < 1e-9 * max(1.0, abs(hi)):
        lo = lo - 0.5 if lo < 0 else max(0.0, lo - 0.5)  # what is never negative has no axis below 0
        hi = lo + 1.0
    room = 0.06 * (hi - lo)
    return [float(f"{lo - room:.4g}"), float(f"{hi + room:.4g}")]


def reaches(rows: Iterable[Row], levels: Iterable[Row], menus: Sequence[Menu]) -> dict[str, list[float]]:
    """Return the ends of the axis by metric and what menus of `SCALED` stand at, as `metric_channel` asks for them."""
    scaled = _scaled(menus)
    fields = [menu.field for menu in scaled]
    neutral = {row["metric"]: row["at"] for row in levels if row["what"] == NO_EFFECT}
    ends: dict[tuple[str, ...], list[float | None]] = {}
    for row in rows:
        metric, *place = (row[field] for field in ("metric", *fields))
        known = ends.setdefault((metric, *place), [neutral.get(metric)])
        known += [row["value"], row["lo"], row["hi"]]
    every = itertools.product(dict.fromkeys(key[0] for key in ends), *(menu.options for menu in scaled))
    return {"|".join(key): reach(ends.get(key, [])) for key in every}


def _scaled(menus: Sequence[Menu]) -> list[Menu]:
    return [menu for menu in menus if menu.field in SCALED]


def guides(metrics: Iterable[str], chance: Mapping[str, float] | None = None) -> list[Row]:
    """Return the level lines of every metric: no effect, the damage bound, chance."""
    found: list[Row] = []
    for metric in metrics:
        neutral = metric_of(metric).neutral
        if neutral is not None:
            found.append({"metric": metric, "at": neutral, "what": NO_EFFECT})
        if metric in BOUNDS and not metric_of(metric).over_unedited:
            found.append({"metric": metric, "at": BOUNDS[metric], "what": "damage bound"})
        if chance and metric in chance:
            found.append({"metric": metric, "at": shown(chance[metric]), "what": "chance"})
    return found


def guide_layer(rows: Sequence[Row], channel: str = "y") -> Spec:
    """Return dotted level lines at ``at``."""
    return {
        "data": {"values": list(rows)},
        "transform": [{"filter": "datum.metric == metric"}],
        "mark": {"type": "rule", "strokeDash": [3, 4], "color": FAINT, "strokeWidth": 1.2, "clip": True},
        "encoding": {channel: {"field": "at", "type": "quantitative"}, "tooltip": [{"field": "what", "title": "line"}]},
    }


def metric_params(metrics: Sequence[str], ends: Mapping[str, list[float]]) -> list[Spec]:
    """Return the menu of metrics, with the label and the axis of each."""
    labels = {metric: clean(metric_of(metric).label) for metric in metrics}
    return [
        Menu("metric", "metric", metrics).param(),
        {"name": "labels", "value": labels},
        {"name": "ends", "value": dict(ends)},
    ]


def metric_channel(menus: Sequence[Menu] = ()) -> Spec:
    """Return an axis of the chosen metric; the title above it names it."""
    key = " + '|' + ".join(["metric", *(menu.field for menu in _scaled(menus))])
    scale = {"zero": False, "nice": False, "domain": [{"expr": f"ends[{key}][{end}]"} for end in (0, 1)]}
    axis = {"title": None, "format": FORMAT, "tickCount": 7}
    return {"field": "value", "type": "quantitative", "scale": scale, "axis": axis}


METRIC_TITLE: Spec = {
    "text": {"expr": "labels[metric]"}, "anchor": "start", "frame": "group", "fontSize": 12, "fontWeight": "normal",
    "offset": 10,
}  # fmt: skip


def coloured(series: Series, field: str = "series", letters: int = LEGEND) -> Spec:
    """Return colour and shape by series, with one legend for both, which stays whole when names are clicked away.

    Args:
        series: what is told apart.
        field: of the rows, that names it.
        letters: of a line of the legend.
    """
    columns = max(1, min(len(series.names), letters // (6 + max(map(len, series.names), default=1))))
    legend = {"title": None, "orient": "top", "columns": columns, "symbolLimit": 0, "labelLimit": 260}
    legend["symbolOpacity"] = 1  # that of a band would be taken
    names = list(series.names)
    return {
        "color": {"field": field, "type": "nominal", "legend": legend,
                  "scale": {"domain": names, "range": list(series.colours)}},
        "shape": {"field": field, "type": "nominal", "legend": legend,
                  "scale": {"domain": names, "range": list(series.shapes)}},
    }  # fmt: skip


def clicked(*encodings: str) -> list[Spec]:
    """Return what a reader may do in a view: click series away in the legend, and zoom along ``encodings``."""
    legend = {"type": "point", "fields": ["series"], "toggle": "true"}
    zoom = {"type": "interval", "encodings": list(encodings), "zoom": ZOOM}
    return [
        {"name": "picked", "select": legend, "bind": "legend"},
        {"name": "zoom", "select": zoom, "bind": "scales"},
    ]


INTERVAL: Spec = {
    "calculate": "isValid(datum.lo) ? '[' + format(datum.lo, '.3~f') + ', ' + format(datum.hi, '.3~f') + ']' : 'none'",
    "as": "interval",
}


def points(encoding: Spec, size: int, *encodings: str) -> list[Spec]:
    """Return the dots of a view, hollow where there is no interval, and what may be done in it (see `clicked`)."""
    mark: Spec = {"type": "point", "size": size, "opacity": 1, "clip": True}
    return [
        {
            "params": clicked(*encodings),
            "transform": [{"filter": "isValid(datum.lo)"}],
            "mark": mark | {"filled": True},
            "encoding": encoding,
        },
        {
            "transform": [{"filter": "!isValid(datum.lo)"}],
            "mark": mark | {"filled": False, "strokeWidth": 2},
            "encoding": encoding,
        },
    ]


def chosen(menus: Sequence[Menu], *more: str) -> list[Spec]:
    """Return the filters of the menus, of the legend, and what the tooltip needs."""
    picked = [{"filter": f"datum.{name} == {name}"} for name in (*more, *(menu.field for menu in menus))]
    return [*picked, {"filter": {"param": "picked"}}, INTERVAL]


def tooltip(*fields: tuple[str, str]) -> list[Spec]:
    """Return the tooltip: the given (field, title), then value, interval and n."""
    named = [{"field": field, "title": title} for field, title in fields]
    return [
        *named,
        {"field": "value", "title": "value", "format": ".3~f"},
        {"field": "interval", "title": "95 % interval"},
        {"field": "n", "title": "n"},
    ]


def whole(
    rows: Sequence[Row],
    metrics: Sequence[str],
    menus: Sequence[Menu],
    levels: Sequence[Row],
    layers: Sequence[Spec],
    height: int,
) -> Spec:
    """Return the specification of a chart of one metric at a time, ``height`` pixels high."""
    return {
        "data": {"values": list(rows)},
        "params": [*metric_params(metrics, reaches(rows, levels, menus)), *(menu.param() for menu in menus)],
        "transform": chosen(menus, "metric"),
        "title": METRIC_TITLE,
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "height": height,
        "layer": list(layers),
        "config": CONFIG,
    }


def packed(spec: Spec) -> Spec:
    """Return a specification whose rows are columns of numbers: a page of thousands of rows stays small.

    ``data.packed`` has ``columns`` (field -> list) and ``texts``: fields whose column holds places in a list of texts.
    """
    rows = spec["data"]["values"]
    fields = list(dict.fromkeys(field for row in rows for field in row))
    columns: dict[str, list[Any]] = {field: [row.get(field) for row in rows] for field in fields}
    texts: dict[str, list[str]] = {}
    for field, values in columns.items():
        if any(isinstance(value, str) for value in values):
            texts[field] = list(dict.fromkeys(values))
            place = {text: i for i, text in enumerate(texts[field])}
            columns[field] = [place[value] for value in values]
    return spec | {"data": {"packed": {"columns": columns, "texts": texts}}}


def unpacked(spec: Spec) -> Spec:
    """Return what `packed` was given."""
    columns, texts = spec["data"]["packed"]["columns"], spec["data"]["packed"]["texts"]
    named = {field: [texts[field][i] for i in own] if field in texts else own for field, own in columns.items()}
    rows = [dict(zip(named, values, strict=True)) for values in zip(*named.values(), strict=True)]
    return spec | {"data": {"values": rows}}
