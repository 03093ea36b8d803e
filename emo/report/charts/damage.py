"""What an arm reaches against what it breaks."""

from __future__ import annotations

from collections.abc import Sequence

from emo.core.metrics import BOUNDS, metric_of
from emo.report.charts.spec import (
    FAINT,
    FORMAT,
    Chart,
    Menu,
    Row,
    Series,
    Spec,
    coloured,
    metric_channel,
    points,
    reach,
    tooltip,
    whole,
)

HEIGHT = 340
ENDS = ("x", "x_lo", "x_hi")


def against_damage(
    name: str, title: str, caption: str, rows: Sequence[Row], series: Series, metrics: Sequence[str], damage: str,
    parts: Menu,
) -> Chart:  # fmt: skip
    """Return a chart of outcomes over damage, a dot with both intervals per series.

    Args:
        name: of its files.
        title: what it answers.
        caption: what it shows.
        rows: ``metric``, ``series``, ``arm``, ``part``, ``value``, ``lo``, ``hi``, ``n``; of the damage ``x``,
            ``x_lo``, ``x_hi``.
        series: in the order of the legend.
        metrics: outcomes, in the order of the menu.
        damage: the metric on the x axis.
        parts: the menu of what is shown: all, or one emotion.
    """
    ends = {part: [row[key] for row in rows if row["part"] == part for key in ENDS] for part in parts.options}
    known = [x for own in ends.values() for x in own if x is not None]
    positive = min(known) > 0
    reaches = {part: reach(own, logarithmic=positive) for part, own in ends.items()}
    domain = [{"expr": f"damage[part][{end}]"} for end in (0, 1)]
    scale: Spec = {"zero": False, "nice": False, "domain": domain}
    axis = {"title": metric_of(damage).label, "format": FORMAT, "grid": False, "tickCount": 8}
    x: Spec = {"field": "x", "type": "quantitative", "scale": scale, "axis": axis}
    y = metric_channel([parts])
    colours = coloured(series)
    said = [*tooltip(("arm", "arm")), {"field": "x", "title": damage, "format": ".3~f"}]
    bar = {"type": "rule", "strokeWidth": 1.5, "opacity": 0.55, "clip": True}
    layers: list[Spec] = [
        {
            "transform": [{"filter": "isValid(datum.lo)"}],
            "mark": bar,
            "encoding": {"x": x, "y": y | {"field": "lo"}, "y2": {"field": "hi"}, "color": colours["color"]},
        },
        {
            "transform": [{"filter": "isValid(datum.x_lo)"}],
            "mark": bar,
            "encoding": {"x": x | {"field": "x_lo"}, "x2": {"field": "x_hi"}, "y": y, "color": colours["color"]},
        },
        *points({"x": x, "y": y, **colours, "tooltip": said}, 90, "x", "y"),
    ]
    bound = BOUNDS.get(damage)
    if bound is not None and min(known) < bound < max(known):
        layers.insert(0, _bound(bound))
        lo, hi = reaches[parts.options[0]]
        if lo < bound < hi:  # said only where a reader sees it
            caption += " Dashed: the damage bound."
    spec = whole(rows, metrics, [parts], [], layers, HEIGHT)
    spec["params"].append({"name": "damage", "value": reaches})
    if positive:
        spec["usermeta"] = {"log": {"field": "x", "type": "log", "first": max(known) > 5 * min(known)}}
    return Chart(name, title, caption, spec)


def _bound(at: float) -> Spec:
    return {
        "data": {"values": [{"at": at, "what": f"damage bound: {at:g}"}]},
        "mark": {"type": "rule", "strokeDash": [6, 3], "color": FAINT, "clip": True},
        "encoding": {"x": {"field": "at", "type": "quantitative"}, "tooltip": [{"field": "what", "title": "line"}]},
    }
