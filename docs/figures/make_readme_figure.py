"""The first figure of README.md, drawn from the folder of a finished job on scenarios.

Above: one prompt with its replies unedited, asked, steered and under the random control. Below: accuracy against damage
of every arm, with 95 % intervals.

    python -m docs.figures.make_readme_figure outputs/run/HASH docs/figures/first.png [SAMPLE EMOTION]

Without SAMPLE and EMOTION the first reply is taken that is labelled right and not broken under steering, where the
unedited and the random one are neither; the figure says of how many. Needs the package and matplotlib, no model.
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from emo.report.plots.theme import FAINT, INK, arm_colours, drawing, footnote, metric_label

SHOWN = {"none": "unedited", "prompt": "asked", "steer": "steered", "random": "random", "shuffled": "shuffled"}
ABOVE = {"none": 12, "random": 2}  # points between a dot and its name, where two dots are near each other
REPLIES = ("none", "prompt", "steer", "random")
LINE = 94  # characters of a line of a reply


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return the replies of a job, one per arm, prompt, emotion and draw."""
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").split("\n")
    return [row for row in map(json.loads, filter(None, lines)) if "reply" in row]


def clean(row: dict[str, Any], emotion: str) -> bool:
    """Return whether a reply is labelled with the emotion and is not broken."""
    return row["label"] == emotion and not row["degenerate"]


def choose(rows: list[dict[str, Any]], given: list[str]) -> tuple[str, str, dict[str, dict[str, Any]], str]:
    """Return prompt, emotion, the reply of each arm, and how the example was found.

    Raises:
        SystemExit: the job has no such prompt.
    """
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        found.setdefault((row["arm"], row["sample"], row["emotion"] or ""), row)
    steered = [key[1:] for key in found if key[0] == "steer"]
    good = [key for key in steered if clean(found["steer", *key], key[1])]
    plain = [key for key in good if not any(clean(reply, key[1]) for reply in _others(found, *key))]
    wanted = [tuple(given)] if given else plain
    for sample, emotion in wanted:
        replies = {arm: found.get((arm, sample, emotion)) or found.get((arm, sample, "")) for arm in REPLIES}
        if all(replies.values()):
            how = f"Chosen among the {len(good)} of {len(steered)} replies that steering got right and unbroken."
            return sample, emotion, {arm: row for arm, row in replies.items() if row}, how
    raise SystemExit("no prompt has a reply under all of " + ", ".join(REPLIES))


def _others(found: dict[tuple[str, str, str], dict[str, Any]], sample: str, emotion: str) -> list[dict[str, Any]]:
    keys = [("none", sample, ""), ("random", sample, emotion)]
    return [found[key] for key in keys if key in found]


def draw(folder: Path, path: Path, given: list[str]) -> None:
    """Read a job's folder and write the figure."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    arms: dict[str, dict[str, Any]] = {name: result["arms"][name] for name in SHOWN if name in result["arms"]}
    _, emotion, replies, how = choose(rows_of(folder), given)
    first = next(iter(replies.values()))
    colours = arm_colours(arms)
    with drawing(path, f"One prompt, four replies: asked or steered to answer with {emotion}", 6.6) as figure:
        above, below = figure.subplots(2, 1, height_ratios=(1.25, 1))
        above.set_axis_off()
        above.set(xlim=(0, 1), ylim=(0, 1))
        said = textwrap.fill(f"“{first['scenario']} {first['event']}”", LINE + 6)
        above.text(0, 1.0, said, va="top", fontsize=10, color=FAINT, style="italic")
        for i, (arm, row) in enumerate(replies.items()):
            y = 0.78 - 0.215 * i
            above.text(0, y, SHOWN[arm], va="top", fontweight="bold", color=colours[arm])
            reply = " ".join(row["reply"].split())
            cut = "" if reply.endswith((".", "!", "?")) else " ..."  # at the longest reply that was allowed
            above.text(0.14, y, textwrap.fill(reply + cut, LINE - 13), va="top", color=INK)
        for arm, metrics in arms.items():
            x, y = metrics["ppl_ratio"], metrics["clean_accuracy"]
            bars = [[[m["value"] - m["ci"][0]], [m["ci"][1] - m["value"]]] if m["ci"] else None for m in (x, y)]
            below.errorbar(
                x["value"], y["value"], xerr=bars[0], yerr=bars[1], fmt="o", markersize=8, color=colours[arm]
            )
            at = (x["value"], y["value"])
            beside = {"xytext": (9, ABOVE.get(arm, 7)), "textcoords": "offset points", "fontweight": "bold"}
            below.annotate(SHOWN[arm], at, color=colours[arm], **beside)
        below.set_ylim(bottom=0)
        below.margins(x=0.15, y=0.2)
        below.set_xlabel("damage: " + metric_label("ppl_ratio")[0])
        below.set_ylabel(metric_label("clean_accuracy")[0].replace(" (", "\n("))
        n = arms["prompt"]["clean_accuracy"]["n"]
        model = result["config"]["model"]["id"].rpartition("/")[2]
        footnote(figure, f"{model}, {n} replies per arm (test prompts x emotions). Bars: 95 % interval.\n{how}")


def main(words: list[str]) -> int:
    """Draw the figure that the command line asks for."""
    if len(words) not in (2, 4):
        raise SystemExit("usage: python -m docs.figures.make_readme_figure FOLDER FILE.png [SAMPLE EMOTION]")
    draw(Path(words[0]), Path(words[1]), words[2:])
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
