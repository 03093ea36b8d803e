"""The figure to see first: one prompt with its replies under four arms, and what every arm costs and brings."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from unicodedata import east_asian_width

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from emo.core.stats import Estimate
from emo.report.plots.theme import FAINT, INK, arm_colours, drawing, footnote, metric_label

SAID = {"none": "unedited", "prompt": "asked", "steer": "steered"}  # other arms are called as in tables
BESIDE = (9, 3)  # points between a dot and its name
LINE = 94  # characters of a line of a prompt; a reply's is shorter by its arm's name
REPLY_LINES = 3


def first_look_figure(
    title: str,
    prompt: str,
    replies: Mapping[str, str],
    arms: Mapping[str, Mapping[str, Estimate]],
    note: str,
    path: Path,
) -> Path:
    """Draw the replies above, clean accuracy against the perplexity ratio of every arm below; return ``path``.

    Args:
        title: of the figure.
        prompt: scenario and event that the model replied to.
        replies: one per arm, in this order.
        arms: ``ppl_ratio`` and ``clean_accuracy`` of the arms that are drawn below.
        note: on what it was measured, and how the prompt was found.
        path: of the PNG.
    """
    colours = arm_colours([*replies, *arms])
    with drawing(path, title, 6.6) as figure:
        above, below = figure.subplots(2, 1, height_ratios=(1.25, 1))
        above.set_axis_off()
        above.set(xlim=(0, 1), ylim=(0, 1))
        # A text of wide letters must not take the panels' room: what is too long is cut at the figure's edge.
        free = {"va": "top", "in_layout": False}
        above.text(0, 1.0, _filled(f"“{prompt}”", LINE + 6, 2), fontsize=10, color=FAINT, style="italic", **free)
        for i, (arm, reply) in enumerate(replies.items()):
            y = 0.78 - 0.215 * i
            above.text(0, y, _filled(_said(arm), 12, 2), fontweight="bold", color=colours[arm], **free)
            text = " ".join(reply.split())
            cut = "" if text.endswith((".", "!", "?")) else " ..."  # at the longest reply that was allowed
            above.text(0.14, y, _filled(text + cut, LINE - 13, REPLY_LINES), color=INK, **free)
        names = []
        for arm, metrics in arms.items():
            cost, brings = metrics["ppl_ratio"], metrics["clean_accuracy"]
            if cost.value is None or brings.value is None:
                continue
            at, bars = (cost.value, brings.value), {"xerr": _bar(cost), "yerr": _bar(brings)}
            below.errorbar(*at, **bars, fmt="o", markersize=8, color=colours[arm], clip_on=False)
            names.append(_named(below, _said(arm), at, colours[arm]))
        below.set_ylim(bottom=0)
        below.margins(x=0.15, y=0.2)
        below.set_xlabel("damage: " + metric_label("ppl_ratio")[0])
        below.set_ylabel(metric_label("clean_accuracy")[0].replace(" (", "\n("))
        footnote(figure, note)
        _spread(figure, names)
    return path


def _said(arm: str) -> str:
    return SAID.get(arm, arm).replace("_", " ")


def _named(axes: Axes, name: str, at: tuple[float, float], colour: str) -> Annotation:
    line = {"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5, "relpos": (0, 0.5)}
    return axes.annotate(
        name, at, xytext=BESIDE, textcoords="offset points", fontweight="bold", color=colour, in_layout=False,
        arrowprops=line,
    )  # fmt: skip


def _spread(figure: Figure, names: Sequence[Annotation]) -> None:
    """Lift names that would lie on another one, the lowest first; a line leads to their dots."""
    figure.draw_without_rendering()
    boxes: list[Bbox] = []
    for one in sorted(names, key=lambda name: name.get_window_extent().y0):
        box = own = Text.get_window_extent(one)
        while over := [other for other in boxes if other.overlaps(box)]:
            box = own.translated(0, max(other.y1 for other in over) + 1 - own.y0)
        boxes.append(box)
        right, up = BESIDE
        one.set_position((right, up + (box.y0 - own.y0) * 72 / figure.dpi))


def _filled(text: str, width: int, lines: int) -> str:
    """Return a text in lines of at most ``width`` letters of usual width, wide ones counted twice."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    wide = sum(letter in "\N{REPLACEMENT CHARACTER}" or east_asian_width(letter) in "WF" for letter in shown)
    width = int(width / (1 + 1.1 * wide / max(1, len(shown))))
    return "\n".join(textwrap.wrap(shown, width, max_lines=lines, placeholder=" ..."))


def _bar(x: Estimate) -> list[list[float]] | None:
    if x.value is None or x.lo is None or x.hi is None:
        return None
    return [[x.value - x.lo], [x.hi - x.value]]
