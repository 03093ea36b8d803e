"""The figures of one job on classes, each with a caption that says what it shows and on what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from emo.core.stats import Estimate
from emo.pipeline.labelled import ClassJob
from emo.report import class_notes as notes
from emo.report.plots import (
    LoopLine,
    arms_figure,
    change_figure,
    counts_figure,
    loop_figure,
    overlap_grid,
    strength_figure,
)
from emo.report.titles import model_title
from emo.results import class_results as results
from emo.results.arm_order import base_name

Figure = tuple[Path, str]
PANELS = ("accuracy", "logprob_margin", "off_accuracy", "off_margin", "induced", "reply_induced")
SHOWN = 3  # arms side by side in the change matrix
CAPTIONS = {
    "arms": (
        "Test texts: of the edited class (accuracy, margin), and of the others (off, induced); dots are means over "
        "classes, bars 95 % intervals over groups."
    ),
    "change": "What editing one class's neurons does to every class: the framed diagonal is the target.",
    "strength": "Test texts over the share of neurons or the strength; bands are 95 % intervals over groups.",
    "loop": "Dev accuracy while attenuation grows; what random neurons need is the control.",
    "counts": "Selected neurons per block; depth is the block's index over their number.",
    "overlap": "Jaccard overlap of the sets: 1 the same neurons, 0 none in common.",
}


def draw(job: ClassJob, found: dict[str, dict[str, Estimate]], folder: Path) -> list[Figure]:
    """Write the figures of a job into ``folder``; returns (path, caption), the most telling first."""
    where, n = f"{model_title(job.config.model)}, {job.config.dataset.name}", len(job.splits.test)
    title = f"{where}, {job.config.selector.name}, n = {n} texts"
    panels = [m for m in PANELS if any(m in metrics for metrics in found.values())]
    told = {arm.name: dict(arm.settings) for arm in job.arms}
    made: list[Figure] = []

    def add(name: str, path: Path, note: str = "") -> None:
        made.append((path, CAPTIONS[name] + note))

    swept = next((key for values in told.values() for key in values), None)
    if swept is not None:
        key = "share of neurons" if swept == "ratio" else swept
        points = _points(found, panels, {arm: values.get(swept) for arm, values in told.items()})
        add("strength", strength_figure(points, key, panels, f"Along {key}: {title}", folder / "strength.png"))
    else:
        add("arms", arms_figure(found, panels, f"Arms on test: {title}", folder / "arms.png"))
    matrices = _matrices(job, results.at_chance(job, found))
    if matrices[0]:
        add(
            "change",
            change_figure(
                matrices[0], job.names, matrices[1], f"Every class under every edit: {title}", folder / "change.png"
            ),
        )
    loops = notes.loops(job)
    if loops:
        base_line = {row["class"]: row["base"] for row in loops}
        lines = [_line(row) for row in loops]
        dev = f"{where}, n = {len(job.splits.dev)} dev texts"
        add("loop", loop_figure(lines, base_line, job.names, f"The feedback loop: {dev}", folder / "loop.png"))
    per = np.array([row["per_block"] for row in notes.sets(job)])
    add("counts", counts_figure(per, job.names, f"Neurons of every class by block: {title}", folder / "counts.png"))
    for name, overlap in notes.overlaps(job).items():
        grids = {overlap.title: overlap.values}
        chance = "" if overlap.chance is None else f" Random sets of these sizes share {overlap.chance:.3f}."
        file = "overlap" if name == "classes" else f"overlap_{name}"
        add(
            "overlap",
            overlap_grid(grids, overlap.rows, job.names, f"Shared neurons: {title}", folder / f"{file}.png"),
            chance,
        )
    return made


def _line(row: dict[str, Any]) -> LoopLine:
    rounds = row["rounds"]
    accuracy, alpha, tau = ([r[key] for r in rounds] for key in ("target", "alpha", "tau"))
    return LoopLine(row["arm"], row["class"], accuracy, alpha, tau, row["reached"])


def _matrices(job: ClassJob, at_chance: bool) -> tuple[dict[str, np.ndarray], str]:
    """Return the change matrices that are drawn: the last of every kind of arm; by margin where names are guesses."""
    last = {base_name(arm.name): arm.name for arm in job.arms if arm.pick != "none"}
    metric = "margin" if at_chance and job.config.evaluator.answer == "choice" else "accuracy"
    factor, label = (1, "log-prob. margin, nats") if metric == "margin" else (100, "accuracy, points")
    picked = list(last.values())[:SHOWN]
    return {arm: factor * results.change_matrix(job, arm, metric) for arm in picked}, label


def _points(
    found: dict[str, dict[str, Estimate]], panels: list[str], numbers: dict[str, float | None]
) -> dict[str, list[tuple[float | None, dict[str, tuple[Any, Any, Any]]]]]:
    """Return, per arm without its number, (number, values); None for the unedited arm."""
    points: dict[str, list[tuple[float | None, dict[str, tuple[Any, Any, Any]]]]] = {}
    for arm, metrics in found.items():
        values = {m: metrics[m][:3] for m in panels if m in metrics}
        points.setdefault(base_name(arm), []).append((numbers[arm], values))
    return points
