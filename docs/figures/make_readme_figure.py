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
from pathlib import Path
from typing import Any

from emo.core.stats import Estimate
from emo.report.first_look import Example, example
from emo.report.plots.first_look import first_look_figure

SHOWN = ("none", "prompt", "steer", "random", "shuffled")
REPLIES = SHOWN[:4]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return the replies of a job, one per arm, prompt, emotion and draw."""
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").split("\n")
    return [row for row in map(json.loads, filter(None, lines)) if "reply" in row]


def choose(rows: list[dict[str, Any]], given: list[str]) -> Example:
    """Return the prompt that is shown.

    Raises:
        SystemExit: the job has no such prompt.
    """
    found = example(rows, REPLIES, given)
    if found is None or not (given or found.right):
        raise SystemExit("no prompt has a reply under all of " + ", ".join(REPLIES) + " that steering got right")
    return found


def draw(folder: Path, path: Path, given: list[str]) -> None:
    """Read a job's folder and write the figure."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    arms = {name: result["arms"][name] for name in SHOWN if name in result["arms"]}
    shown = choose(rows_of(folder), given)
    first = shown.replies["none"]
    n = arms["prompt"]["clean_accuracy"]["n"]
    model = result["config"]["model"]["id"].rpartition("/")[2]
    first_look_figure(
        f"One prompt, four replies: asked or steered to answer with {shown.emotion}",
        f"{first['scenario']} {first['event']}",
        {arm: row["reply"] for arm, row in shown.replies.items()},
        {arm: {key: _estimate(x[key]) for key in ("ppl_ratio", "clean_accuracy")} for arm, x in arms.items()},
        f"{model}, {n} replies per arm (test prompts x emotions). Bars: 95 % interval.\n{shown.how}",
        path,
    )


def _estimate(x: dict[str, Any]) -> Estimate:
    lo, hi = x["ci"] or (None, None)
    return Estimate(x["value"], lo, hi, x.get("n", 0))


def main(words: list[str]) -> int:
    """Draw the figure that the command line asks for."""
    if len(words) not in (2, 4):
        raise SystemExit("usage: python -m docs.figures.make_readme_figure FOLDER FILE.png [SAMPLE EMOTION]")
    draw(Path(words[0]), Path(words[1]), words[2:])
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
