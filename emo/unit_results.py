"""What a job on neurons or heads reports beside the arms: target / control, and how many units hold the effect.

delta-s is measured along the vectors that picked the units, so a large ratio to random units is nearly guaranteed
(methods 1.8, warning 1); on models with few heads the random ones are nearly the same heads (warning 2), so the share
of units that target and control have in common stands beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emo import ranking_check
from emo.attribution import stability
from emo.interventions.units import UnitArm, UnitBank, pick_units
from emo.longtail import reach
from emo.pipeline import Job
from emo.plots import head_map, k_curves, long_tail, neuron_map, small_multiples
from emo.stats import Estimate, estimate_ratio
from emo.summary import is_target

Found = dict[str, dict[str, Estimate]]
Figure = tuple[Path, str]

OUTCOMES = ("delta_s", "delta_s_last", "logprob_margin", "clean_accuracy")
FAILURES = ("ppl_ratio", "degenerate", "cosine", "refusal")
CAPTIONS = {
    "curves": (
        "Change of the summed projection on the emotion's own directions, against the number of units edited in every "
        "block (or in all, where they are pooled). The directions picked the units: compare with the controls."
    ),
    "outcomes": (
        "The same edits seen by outcomes that the directions do and do not define; delta_s_last: projection at the "
        "last block when only earlier ones are edited."
    ),
    "failures": "What the edits do to the replies, over the number of edited units.",
    "map": "Scores of all units by block, averaged over the emotion's own extraction samples; signed.",
    "tail": "How many units, pooled over blocks and sorted by score, hold which share of the positive score.",
}
LISTED_ARMS = 8  # more arms than this are curves, not bars


def ratios(job: Job, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return target / control of delta-s for every edited target arm, control, and emotion (None: all together).

    ``different`` is False where the control's own interval contains 0: then the ratio has no interval. ``overlap`` is
    the mean share of the target's units that the control edits too.
    """
    draws, seed = job.config.evaluator.bootstrap, job.config.seed
    table = frame[frame["metric"] == "delta_s"].set_index(["arm", "emotion", "sample"])
    edited = [arm for arm in job.arms if isinstance(arm, UnitArm) and arm.steered]
    rows: list[dict[str, Any]] = []
    for arm in filter(is_target, edited):
        for other in edited:
            if is_target(other) or other.name.partition("@")[2] != arm.name.partition("@")[2]:
                continue
            shared = overlap(job, arm, other)
            for e, emotion in [(None, None), *enumerate(job.names)]:
                part = slice(None) if emotion is None else [emotion]
                own, control = table.loc[(arm.name, part), :], table.loc[(other.name, part), :]
                base = control["value"].to_numpy(dtype=float)
                found = estimate_ratio(own["value"].to_numpy(dtype=float), base, list(own["scenario"]), draws, seed)
                rows.append(
                    {"arm": arm.name, "against": other.name, "emotion": emotion, **found.to_dict(),
                     "different": found.lo is not None,
                     "overlap": float(np.mean(shared) if e is None else shared[e])}
                )  # fmt: skip
    return rows


def overlap(job: Job, arm: UnitArm, other: UnitArm) -> list[float]:
    """Return, per emotion, the mean share of an arm's units that another one edits too, over the latter's seeds."""
    bank = job.units
    assert bank is not None
    out = []
    for e in range(len(job.names)):
        own = _edited(bank, arm, e, 0, job.config.seed)
        seeds = range(other.draws(scored=True))
        out.append(float(np.mean([len(own & _edited(bank, other, e, s, job.config.seed)) / len(own) for s in seeds])))
    return out


def _edited(bank: UnitBank, arm: UnitArm, emotion: int, seed: int, base_seed: int) -> set[tuple[int, int]]:
    picked = pick_units(bank, arm, emotion, seed, base_seed, arm.layers)
    return {(layer, unit) for layer, units in enumerate(picked) for unit in units.tolist()}


def facts(job: Job) -> dict[str, str]:
    """Return how stable the ranking is over halves of the data, and how many units hold the positive score."""
    made, kind = job.attribution.tensors, job.on
    bank = job.units
    assert bank is not None
    top = max(1, bank.scores.shape[2] // 50)
    correlation, jaccard = stability(made[f"{kind}_halves"], top)
    counts = reach(bank.scores.numpy())
    whole = bank.scores[0].numel()
    held = ", ".join(f"{share:.0%} in {np.mean([c[share] for c in counts]):.0f}" for share in counts[0])
    return {
        "stability of the ranking": (
            f"rank correlation between halves of the data {float(correlation.mean()):.2f}, Jaccard of the top {top} "
            f"of a block {float(jaccard.mean()):.2f} (means over emotions and blocks)"
        ),
        "long tail": f"of the positive score {held} of {whole} {kind} (mean over emotions)",
    }


def figures(job: Job, found: Found, where: str, folder: Path) -> list[Figure]:
    """Draw the curves, where more than one number of units was tried, and the maps of all scores."""
    assert job.units is not None
    out: list[Figure] = []
    n = len(job.splits.test)
    what = f"{job.config.intervention.kind}: {where}, {n} prompts x {len(job.names)} emotions"
    if several(job):
        units = job.units.scores.shape[2] * (len(job.edited_layers) if job.config.intervention.pool == "global" else 1)
        curves = {e: _curves(job, found, f"delta_s/{e}") for e in job.names}
        out.append((k_curves(curves, job.names, units, what, folder / "k_curves.png"), CAPTIONS["curves"]))
        for name, metrics in (("outcomes", OUTCOMES), ("failures", FAILURES)):
            panels = {m: made for m in metrics if (made := _curves(job, found, m))}
            if len(panels) > (name == "outcomes"):  # delta_s alone is the figure above
                path = small_multiples(panels, what, folder / f"{name}.png", defined=("delta_s", "delta_s_last"))
                out.append((path, CAPTIONS[name]))
    scores, title = job.units.scores.numpy(), f"{{}}: {where}"
    draw = head_map if job.on == "heads" else neuron_map
    of = f"Importance of {job.on} for their emotion"
    out.append((draw(scores, job.names, title.format(of), folder / f"{job.on}.png"), CAPTIONS["map"]))
    tail = f"Concentration of the importance of {job.on}"
    out.append(
        (long_tail(scores, job.names, str(job.on), title.format(tail), folder / "long_tail.png"), CAPTIONS["tail"])
    )
    return [*out, *ranking_check.figures(job, where, folder)]


def several(job: Job) -> bool:
    """Whether the job has curves over k."""
    return isinstance(job.config.intervention.k, list) and len(job.config.intervention.k) > 1


def _curves(
    job: Job, found: Found, metric: str
) -> dict[str, tuple[list[float], list[float], list[float], list[float]]]:
    """Return, per arm, k, mean and interval of a metric; of several scales the largest is shown."""
    scale = job.config.intervention.scale
    largest = max(scale, key=abs) if isinstance(scale, list) else scale
    out: dict[str, tuple[list[float], list[float], list[float], list[float]]] = {}
    for arm in job.arms:
        x = found[arm.name].get(metric)
        if not isinstance(arm, UnitArm) or x is None or x.value is None:
            continue
        if arm.op == "enhance" and arm.alpha != largest:
            continue
        made = out.setdefault(arm.name.partition("@")[0], ([], [], [], []))
        band = (x.lo, x.hi) if x.lo is not None and x.hi is not None else (np.nan, np.nan)
        for values, value in zip(made, (float(arm.k), x.value, *band), strict=True):
            values.append(float(value))
    target = out.get(job.config.intervention.kind)
    if target is not None and target[0][0] == 0:  # controls have no k = 0 of their own: no unit is edited there
        for name, made in out.items():
            for values, first in zip(made, target, strict=True):
                if name != job.config.intervention.kind:
                    values.insert(0, first[0])
    return out
