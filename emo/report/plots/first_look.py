"""The figure to see first: one prompt with its replies under four arms, and what every arm costs and brings."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from emo.core.stats import Estimate
from emo.report.plots.theme import FAINT, INK, arm_colours, drawing, footnote, metric_label

SAID = {"none": "unedited", "prompt": "asked", "steer": "steered"}  # other arms are called as in tables
ABOVE = {"none": 12, "random": 2}  # points between a dot and its name, where two dots are near each other
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
        above.text(0, 1.0, _filled(f"“{prompt}”", LINE + 6, 2), va="top", fontsize=10, color=FAINT, style="italic")
        for i, (arm, reply) in enumerate(replies.items()):
            y = 0.78 - 0.215 * i
            above.text(0, y, _filled(SAID.get(arm, arm).replace("_", " "), 12, 2), va="top", fontweight="bold",
                       color=colours[arm])  # fmt: skip
            text = " ".join(reply.split())
            cut = "" if text.endswith((".", "!", "?")) else " ..."  # at the longest reply that was allowed
            above.text(0.14, y, _filled(text + cut, LINE - 13, REPLY_LINES), va="top", color=INK)
        for arm, metrics in arms.items():
            cost, brings = metrics["ppl_ratio"], metrics["clean_accuracy"]
            if cost.value is None or brings.value is None:
                continue
            at, bars = (cost.value, brings.value), {"xerr": _bar(cost), "yerr": _bar(brings)}
            below.errorbar(*at, **bars, fmt="o", markersize=8, color=colours[arm])
            beside = {"xytext": (9, ABOVE.get(arm, 7)), "textcoords": "offset points", "fontweight": "bold"}
            below.annotate(SAID.get(arm, arm).replace("_", " "), at, color=colours[arm], **beside)
        below.set_ylim(bottom=0)
        below.margins(x=0.15, y=0.2)
        below.set_xlabel("damage: " + metric_label("ppl_ratio")[0])
        below.set_ylabel(metric_label("clean_accuracy")[0].replace(" (", "\n("))
        footnote(figure, note)
    return path


def _filled(text: str, width: int, lines: int) -> str:
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" ..."))


def _bar(x: Estimate) -> list[list[float]] | None:
    if x.value is None or x.lo is None or x.hi is None:
        return None
    return [[x.value - x.lo], [x.hi - x.value]]
