"""The picture of a job to see first: one prompt in four arms, the accuracy of each, and what it damages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from emo.core.stats import Estimate
from emo.pipeline.scenario import Job
from emo.report.plots.first_look import SAID, first_look_figure
from emo.results.arm_order import base_name, sort_arms

FILE = "first_look.png"
CAPTION = (
    "One prompt, answered by the unedited model, asked for the emotion, edited, and under a random control; below, "
    "what every arm brings and what it damages. Bars are 95 % intervals over scenarios."
)
DRAWN = ("ppl_ratio", "clean_accuracy")


class Example(NamedTuple):
    """A prompt, and what every arm replied to it."""

    sample: str
    emotion: str
    replies: dict[str, dict[str, Any]]  # by arm
    right: bool  # the edit's reply is labelled with the emotion, and not broken
    how: str  # it was found


def example(rows: Sequence[dict[str, Any]], arms: Sequence[str], given: Sequence[str] = ()) -> Example | None:
    """Return the prompt that shows most, by a rule; None where no prompt has a reply under all arms.

    First one that the edit alone gets right and unbroken, not the unedited model and not the control; else one that it
    gets right; else the first prompt.

    Args:
        rows: a reply each: arm, sample, emotion (None: unedited), label, degenerate.
        arms: the unedited, the prompted, the edited one and a control.
        given: sample and emotion, where they are to be these.
    """
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        found.setdefault((row["arm"], row["sample"], row["emotion"] or ""), row)
    none, _, edit, control = arms
    edited = [key[1:] for key in found if key[0] == edit]
    good = [key for key in edited if _clean(found[edit, *key], key[1])]
    beside = {key: (found.get((none, key[0], "")), found.get((control, *key))) for key in good}
    plain = [key for key in good if not any(_clean(row, key[1]) for row in beside[key])]
    for sample, emotion in [(given[0], given[1])] if given else dict.fromkeys([*plain, *good, *edited]):
        replies = {arm: found.get((arm, sample, emotion)) or found.get((arm, sample, "")) for arm in arms}
        if all(replies.values()):
            told = f"the {len(good)} of {len(edited)} replies that the edit got right and unbroken."
            how = f"Chosen among {told}" if (sample, emotion) in good else f"Not among {told}"
            return Example(sample, emotion, {a: r for a, r in replies.items() if r}, (sample, emotion) in good, how)
    return None


def figures(
    job: Job, found: Mapping[str, Mapping[str, Estimate]], where: str, folder: Path
) -> list[tuple[Path, str]]:  # fmt: skip
    """Draw the picture of a job into ``folder``; nothing where replies have no labels or an arm is missing.

    Args:
        job: a finished one.
        found: its estimates, by arm and metric.
        where: model and dataset, for the note.
        folder: of its figures.
    """
    kind = job.config.intervention.kind
    control = next((arm for arm in sort_arms(job.labels) if "random" in base_name(arm)), "")
    arms = ("none", "prompt", kind, control)
    if not all(arm in job.labels and {*DRAWN} <= found.get(arm, {}).keys() for arm in dict.fromkeys(arms)):
        return []
    if kind in arms[:2]:
        return []
    chosen = example(_rows(job, arms), arms)
    if chosen is None:
        return []
    scene = next(sample for sample in job.splits.test if sample.id == chosen.sample)
    drawn = {arm: metrics for arm, metrics in found.items() if "@" not in arm and {*DRAWN} <= metrics.keys()}
    what = SAID.get(kind, kind).replace("_", " ")
    path = first_look_figure(
        f"One prompt, four replies: asked for {chosen.emotion}, or {what}",
        f"{scene.scenario} {scene.event}",
        {arm: str(row["reply"]) for arm, row in chosen.replies.items()},
        drawn,
        f"{where}: {found['prompt']['clean_accuracy'].n} replies per arm (test prompts x emotions). Bars: 95 % "
        f"interval.\n{chosen.how}",
        folder / FILE,
    )
    return [(path, CAPTION)]


def _rows(job: Job, arms: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"arm": arm} | reply | {"label": label["label"], "degenerate": damage["degenerate"]}
        for arm in arms
        for reply, damage, label in zip(job.replies[arm], job.damage[arm], job.labels[arm], strict=True)
    ]


def _clean(row: Mapping[str, Any] | None, emotion: str) -> bool:
    return row is not None and row["label"] == emotion and not row["degenerate"]
