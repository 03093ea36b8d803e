"""What a report on classes says beside its numbers: what was found where, and how the numbers are to be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emo.config.interventions import kind_of
from emo.config.kinds import DRAWN, SELECTORS, adaptive, by_statistics
from emo.core.stats import Estimate
from emo.data.labelled import remarks as said
from emo.find import selectors
from emo.find.choosing import agreement
from emo.find.selectors import Ranked, Selection, counts, depth
from emo.model.chat import THINKS, opens_thinking
from emo.pipeline.finding import HALVINGS
from emo.pipeline.labelled import ClassJob
from emo.report.class_standing import standing
from emo.report.remarks import counted_blocks, drawn
from emo.results import class_results as results
from emo.results.evidence import Evidence
from emo.results.exploded import Counts, lines

DRAWS = 3  # of random neurons, at least
FEW = 10  # train texts of a class, on which a selection means little


def facts(job: ClassJob) -> dict[str, str]:
    """Return what was run, on what and how much of it, in words."""
    c, s, parts = job.config, job.spec, job.splits
    how = c.selector
    told = {"lape": f"lape, filter {'on' if how.filter else 'off'}, {how.assignment}"}.get(how.name, how.name)
    if how._target_ is not None:
        settings = "".join(f", {key} {value}" for key, value in how.settings.items())
        told = f"{how.name} ({how._target_}{settings})"
    where = "" if not by_statistics(how.name) else f", active at {how.site}, {how.tokens} tokens"
    score = f", {c.evaluator.score}" if c.evaluator.answer == "choice" else ""
    found = {
        "model": f"{c.model.name} ({s.told})",
        "dataset": f"{c.dataset.name}: {len(parts.train)} train, {len(parts.dev)} dev, {len(parts.test)} test texts",
        "question": f"which of {', '.join(job.names)}; answer: {c.evaluator.answer}{score}",
        "selector": f"{told}{where}, {how.ratio:.1%} of {s.n_layers * job.lm.f} neurons",
    }
    if kind_of(c).edits != "nothing":
        own = [arm for arm in job.arms if arm.pick == "own"]
        shares = ", ".join(dict.fromkeys(f"{arm.ratio:g}" for arm in own))
        strengths = ", ".join(dict.fromkeys(f"{arm.strength:g}" for arm in own))
        blocks = counted_blocks(job.layers)
        told = f"{own[0].op}, ratio {shares} of the {c.intervention.ratio_of}, strength {strengths}"
        found["intervention"] = f"{c.intervention.kind} ({'found on dev' if own[0].adaptive else told}), {blocks}"
    listed = sets(job)
    found["neurons"] = "; ".join(
        f"{row['class']} {row['count']} (depth {row['depth']:.2f})" if row["count"] else f"{row['class']} none"
        for row in listed
    )
    stable = [x for row in listed for x in row["stability"] if x is not None]
    if stable:
        found["stability"] = (
            f"Jaccard {sum(stable) / len(stable):.2f} between the sets of two halves of the train texts "
            f"({min(stable):.2f} to {max(stable):.2f} over classes and {len(HALVINGS)} ways to halve)"
        )
    if how.space == "joint" and job.beside is not None:
        found["selector"] += f", in one space with classes of {job.beside.splits.task}"
    return found


def base_selection(job: ClassJob) -> Selection:
    """Return the sets at the share of ``selector.ratio``."""
    return job.finder.selected(job.config.selector.name)


def sets(job: ClassJob) -> list[dict[str, Any]]:
    """Return, per class, how many neurons were selected, per block, and their mean relative depth (0 to 1)."""
    selection = base_selection(job)
    per, stable = counts(selection, job.spec.n_layers), stability(job)
    return [
        {
            "class": name,
            "count": len(own.unit),
            "depth": depth(own, job.spec.n_layers) if len(own.unit) else None,
            "per_block": [int(n) for n in per[i]],
            "stability": stable[i],
        }
        for i, (name, own) in enumerate(zip(job.names, selection.sets, strict=True))
    ]


def stability(job: ClassJob) -> list[list[float | None]]:
    """Return, per class, the overlap of the sets of two halves of the train texts, for every way to halve them."""
    name = job.config.selector.name
    if not by_statistics(name):
        return [[] for _ in job.names]
    pairs = [zip(a.sets, b.sets, strict=True) for a, b in job.finder.halves(name)]
    per = [[selectors.jaccard(one, two) for one, two in pair] for pair in pairs]
    return [list(own) for own in zip(*per, strict=True)]


class Overlap(NamedTuple):
    """Jaccard overlaps of other sets (rows) with those of this job's classes (columns); nan: both are empty."""

    title: str
    rows: tuple[str, ...]
    values: np.ndarray
    chance: float | None  # mean over the cells of what random sets of these sizes share; None: it tells nothing


def overlaps(job: ClassJob) -> dict[str, Overlap]:
    """Return the overlaps of this job's sets: with each other, other selectors', devices', and a circuit's neurons.

    Of the direct effect only where it was selected by: it needs two more passes over the texts.
    """
    own, name = base_selection(job), job.config.selector.name
    others = tuple(one for one in SELECTORS if one != "direct_effect" or name == one)
    mean = [np.diag(agreement(own, job.finder.selected(one))) for one in others]
    found = {
        "classes": Overlap("between classes", tuple(job.names), agreement(own, own), None),
        "selectors": Overlap(f"{name} against other selectors", others, np.stack(mean), None),
    }
    if job.beside is not None:
        found["beside"] = _overlap(job, "with devices and emotions", job.beside.splits.classes, job.finder.others(name))
    if job.circuit is not None:
        sets = [Ranked(part.layer, part.unit, part.layer.double()) for part in job.circuit.neurons]
        found["circuit"] = _overlap(job, "with a circuit's neurons", job.circuit.emotions, Selection(tuple(sets), ""))
    return found


def _overlap(job: ClassJob, title: str, rows: Sequence[str], other: Selection) -> Overlap:
    own, n = base_selection(job), job.spec.n_layers * job.lm.f
    sizes = [(len(a.unit), len(b.unit)) for a in other.sets for b in own.sets]
    shared = [a * b / n for a, b in sizes]
    chance = [x / (a + b - x) for (a, b), x in zip(sizes, shared, strict=True) if a + b]
    return Overlap(title, tuple(rows), agreement(own, other).T, float(np.mean(chance)) if chance else None)


def changes(job: ClassJob) -> dict[str, dict[str, list[list[float | None]]]]:
    """Return, per edited arm, the change of accuracy and margin: row edited class, column true class, or None."""
    metrics = ("accuracy", "margin") if job.config.evaluator.answer == "choice" else ("accuracy",)
    return {
        arm.name: {m: _cells(results.change_matrix(job, arm.name, m)) for m in metrics}
        for arm in job.arms
        if arm.pick != "none"
    }


def _cells(matrix: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(x) else round(float(x), 6) for x in row] for row in matrix]


def loops(job: ClassJob) -> list[dict[str, Any]]:
    """Return the loops of adaptive masks: arm, draw, class, base, rounds, whether the margin was reached."""
    return [{"arm": arm.name, **row} for arm in job.arms if arm.adaptive for row in job.predictions[arm.name].rows]


def doubts(job: ClassJob, found: dict[str, dict[str, Estimate]]) -> list[str]:
    """Return what must be read before any number: that the unedited model only guesses."""
    if not results.at_chance(job, found):
        return []
    x = found["none"]["accuracy"]
    return [
        f"The unedited model names {x.value:.0%} of the texts right, not above naming one class "
        f"always ({results.chance(job):.0%}): a change of accuracy says nothing here; read logprob_margin."
    ]


def remarks(job: ClassJob, broken: Counts, least: float | None) -> list[str]:
    """Return the remarks that hold for a job.

    Args:
        job: that was run.
        broken: counts of exploded numbers.
        least: the smallest p that its comparisons can give.
    """
    c = job.config
    made = [f"{line[0].upper()}{line[1:]}." for line in said(job.splits)]
    if any(arm.pick == "other_emotion" for arm in job.arms):
        made.append("other_emotion: the neurons of another class, edited in the same way.")
    made += standing([c.intervention.kind])
    if kind_of(c).edits == "classes" and c.evaluator.answer == "choice":
        made.append(
            "Intervals and p are over texts, not over classes: an edit that shifts a name alike for every text has a "
            "small p. Read off_margin and induced beside the margin, and the controls beside all."
        )
    if c.control.seeds < DRAWS and any(arm.pick == "random" for arm in job.arms):
        told = "one draw" if c.control.seeds == 1 else f"{c.control.seeds} draws"
        made.append(f"Random neurons are {told} a class: what they do is partly an accident; type control.seeds=10.")
    if adaptive(c):
        step = 100 / min(Counter(item.label for item in job.splits.dev).values())
        made.append(f"Dev accuracy of a class moves in steps of {step:.1f} points (margin {c.adaptive.margin:g}).")
    fewest = min(Counter(item.label for item in job.splits.train).values())
    if fewest < FEW:
        more = "" if c.dataset.limit is None else "; type dataset.limit=null for all"
        made.append(f"Neurons were selected on {fewest} texts of a class: few{more}.")
    empty = [row["class"] for row in sets(job) if not row["count"]]
    if empty:
        made.append(f"No neuron was selected for {', '.join(empty)}: its arms edit nothing.")
    evidence = Evidence.of_items(job.splits.test)
    made += evidence.lines(least, c.evaluator.bootstrap)
    made += lines(broken)
    if evidence.few is None:  # else there is no interval
        made += drawn([(arm.name, arm.seeds) for arm in job.arms if arm.pick in DRAWN])
    if opens_thinking(job.lm):
        made.append(THINKS)
    if job.spec.source == "embedded":
        made.append("The model's weights were dequantised from a 4-bit file: close to, but not, the released ones.")
    return made
