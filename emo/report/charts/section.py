"""The charts of a page as HTML: a place for each, its specification beside it."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from emo.core.console import warn
from emo.report.charts.engine import engine
from emo.report.charts.spec import Chart, packed
from emo.report.scripts import data_block

HELP = (
    "Hover: value, interval, n. Click names in a legend to keep only these (double click: all again). Drag to move, "
    "Ctrl + wheel or pinch to zoom, double click to go back. The dots at the upper right save a chart as SVG or PNG."
)


def drawable(make: Callable[[], Sequence[Chart]]) -> Sequence[Chart]:
    """Return the charts that ``make`` makes, or none, with a warning: a chart that fails must not cost the result."""
    try:
        charts = make()
        if charts:
            engine()
    except Exception as error:  # whatever it is: hours may lie behind the numbers
        told = str(error).partition("\n")[0]
        warn(f"the page has no interactive charts ({type(error).__name__}: {told}); the figures are there")
        return []
    return charts


def charts_section(charts: Sequence[Chart]) -> str:
    """Return the charts, headed; nothing where there are none."""
    if not charts:
        return ""
    return f'<h2>Charts</h2>\n<p class="small">{html.escape(HELP)}</p>\n' + figures_of(charts)


def figures_of(charts: Sequence[Chart]) -> str:
    """Return the places of charts, without a heading."""
    return "".join(map(_figure, charts))


def _figure(chart: Chart) -> str:
    return (
        f'<figure class="chart" id="chart-{chart.name}" data-name="{chart.name}"><h3>{html.escape(chart.title)}</h3>\n'
        '<div class="controls"><div class="menus"></div></div><div class="plot"><noscript>Drawn by a script; the '
        f"figures below need none.</noscript></div>\n<figcaption>{html.escape(chart.caption)}</figcaption>\n"
        f"{data_block('spec', packed(chart.spec), 'class')}</figure>\n"
    )
