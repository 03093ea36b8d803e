"""What a job on neurons or heads reports beside the arms: target / control, and how many units hold the effect.

delta-s is measured along the vectors that picked the units, so a large ratio to random units is nearly guaranteed
(methods 1.8, warning 1); on models with few heads the random ones are nearly the same heads (warning 2), so the share
of units that target and control have in common stands beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from emo.config.interventions import zeroes
from emo.core.frames import pd
from emo.core.metric_keys import metric_key
from emo.core.stats import Estimate, estimate_ratio
from emo.edit.units import UnitArm, pick_units
from emo.find.attribution import stability
from emo.find.longtail import reach
from emo.pipeline import ranking_check
from emo.pipeline.scenario import Job
from emo.report.plots import RankingPanel, head_map, k_curves, long_tail, neuron_map, ranking_figure, small_multiples
from emo.results.arm_order import base_name
from emo.results.estimates import is_target, repeats, side_by_side
from emo.results.evidence import Evidence

Found = dict[str, dict[str, Estimate]]
Figure = tuple[Path, str]

OUTCOMES = ("delta_s", "delta_s_last", "logprob_margin", "clean_accuracy")
FAILURES = ("ppl_ratio", "degenerate", "cosine", "refusal")
CAPTIONS = {
    "curves": (
        "Change of the summed projection on the emotion's own directions, against the number of units edited in every "
        "block (or in all, where they are pooled). The directions picked the units: compare with the controls. Hollow: "
        "three quarters of the units or more are edited, which breaks the model."
    ),
    "outcomes": (
        "The same edits seen by outcomes that the directions do and do not define; delta_s_last: projection at the "
        "last block when only earlier ones are edited."
    ),
    "failures": "What the edits do to the replies, over the number of edited units.",
    "map": (
        "Scores by block, averaged over the emotion's own extraction samples: all heads, or the best neurons of "
        "every block."
    ),
    "tail": "How many units, pooled over blocks and sorted by score, hold which share of the positive score.",
}
BROKEN = 0.75  # share of units from which on the model is hardly itself: such points are drawn hollow
LISTED_ARMS = 8  # more arms than this are curves, not bars

RANKING = (
    "Every dot is one unit of a block below the last: its score (on extraction samples) against how much the "
    "projection at the last block drops when that unit alone is zeroed (on test prompts). rho: Spearman's rank "
    "correlation with a 95 % bootstrap interval over units."
)


def ratios(job: Job, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return target / control of delta-s for every edited target arm, control, and emotion (None: all together).

    Beside it ``different``: whether the control's own interval leaves out 0 (else the ratio has none; None: too few
    scenarios have no intervals); ``seeds_sd``: standard deviation of the control's mean delta-s over its draws (None:
    one draw); ``overlap``: mean share of the target's units that the control edits too; ``size``: mean magnitude of the
    control's units / the target's (activation where units are zeroed, delta where it is added; None where that is 0).
    """
    draws, seed = job.config.evaluator.bootstrap, job.config.seed
    few = Evidence.of_samples(job.splits.test).few is not None
    table = frame[frame["metric"] == "delta_s"]
    edited = [arm for arm in job.arms if isinstance(arm, UnitArm) and arm.steered]
    rows: list[dict[str, Any]] = []
    for arm in (x for x in edited if is_target(job, x)):
        for other in edited:
            if is_target(job, other) or other.settings != arm.settings:
                continue
            likeness, spread = _likeness(job, arm, other), _over_seeds(job, other)
            for e, emotion in [(None, None), *enumerate(job.names)]:
                part = table if emotion is None else table[table["emotion"] == emotion]
                both = side_by_side(part, arm.name, other.name)
                own, base = (both[key].to_numpy(dtype=float) for key in ("value", "against"))
                found = estimate_ratio(own, base, both["scenario"].to_numpy(), draws, seed, repeats(both))
                overlap, size = likeness.mean(0) if e is None else likeness[e]
                means = spread.mean(1) if e is None else spread[:, e]
                rows.append(
                    {"arm": arm.name, "against": other.name, "emotion": emotion, **found.to_dict(),
                     "different": None if few or found.value is None else found.lo is not None,
                     "seeds_sd": float(means.std(ddof=1)) if len(means) > 1 and np.isfinite(means).all() else None,
                     "overlap": float(overlap), "size": float(size) if np.isfinite(size) else None}
                )  # fmt: skip
    return rows


def _likeness(job: Job, arm: UnitArm, other: UnitArm) -> np.ndarray:
    """Return (e, 2): the share of an arm's units that a control edits too, and the control's size / the arm's."""
    bank, seed = job.units, job.config.seed
    assert bank is not None
    out = np.zeros((len(job.names), 2))
    for e, size in enumerate(bank.magnitude(arm.op)):
        own = pick_units(bank, arm, e, 0, seed)
        count, whole = sum(map(len, own)), sum(float(size[layer, u].sum()) for layer, u in enumerate(own))
        for draw in range(other.draws(scored=True)):
            picked = pick_units(bank, other, e, draw, seed)
            shared = sum(int(torch.isin(u, own[layer]).sum()) for layer, u in enumerate(picked))
            held = sum(float(size[layer, u].sum()) for layer, u in enumerate(picked))
            out[e] += shared / count, held / whole if whole else np.nan
    return out / other.draws(scored=True)


def _over_seeds(job: Job, arm: UnitArm) -> np.ndarray:
    """Return a control's mean s of every draw and emotion, (draws, e); its differences are those of delta-s."""
    n, e = len(job.splits.test), len(job.names)
    x = job.projections[arm.name].numpy().astype(np.float64).reshape(arm.draws(scored=True), e, n, -1, e)
    return np.stack([x[:, t, :, :, t].sum(-1).mean(-1) for t in range(e)], axis=1)


def facts(job: Job) -> dict[str, str]:
    """Return how stable the ranking is over halves of the data, and how many units hold the positive score."""
    made, kind = job.attribution.tensors, job.on
    bank = job.units
    assert bank is not None
    top = max(1, bank.scores.shape[2] // 50)
    halves = [float(x.nanmean()) for x in stability(made[f"{kind}_halves"], top)]
    measured = all(np.isfinite(halves))
    counts = reach(bank.scores.numpy())
    whole = bank.scores[0].numel()
    held = ", ".join(f"{share:.0%} in {np.mean([c[share] for c in counts]):.0f}" for share in counts[0])
    return {
        "stability of the ranking": (
            f"rank correlation between halves of the data {halves[0]:.2f}, Jaccard of the top {top} "
            f"of a block {halves[1]:.2f} (means over emotions and blocks)"
            if measured
            else "not measured: one scenario has no halves"
        ),
        "long tail": f"of the positive score {held} of {whole} {kind} (mean over emotions)",
    }


def figures(job: Job, found: Found, where: str, folder: Path) -> list[Figure]:
    """Draw the curves, where more than one number of units was tried, and the maps of all scores."""
    assert job.units is not None
    out: list[Figure] = []
    n = len(job.splits.test)
    given = job.config.intervention
    scales = given.scale if isinstance(given.scale, list) else [given.scale]
    told = f" (lambda {max(scales, key=abs):g})" if not zeroes(job.config) else ""
    what = f"{given.kind}{told}: {where}, {n} prompts x {len(job.names)} emotions"
    if several(job):
        units = job.units.scores.shape[2] * (len(job.edited_layers) if job.config.intervention.pool == "global" else 1)
        curves = {e: _curves(job, found, metric_key("delta_s", e)) for e in job.names}
        broken = [k for k in given.k if k >= BROKEN * units]
        path = k_curves(
            curves, job.names, units, what, folder / "k_curves.png", broken=dict.fromkeys(job.names, broken)
        )
        out.append((path, CAPTIONS["curves"]))
        for name, metrics in (("outcomes", OUTCOMES), ("failures", FAILURES)):
            panels = {m: made for m in metrics if (made := _curves(job, found, m))}
            if len(panels) > (name == "outcomes"):  # delta_s alone is the figure above
                path = small_multiples(panels, what, folder / f"{name}.png", defined=("delta_s",))
                out.append((path, CAPTIONS[name]))
    scores, title = job.units.scores.numpy(), f"{{}}: {where}"
    draw = head_map if job.on == "heads" else neuron_map
    of = f"Importance of {job.on} for their emotion"
    out.append((draw(scores, job.names, title.format(of), folder / f"{job.on}.png"), CAPTIONS["map"]))
    tail = f"Concentration of the importance of {job.on}"
    out.append(
        (long_tail(scores, job.names, str(job.on), title.format(tail), folder / "long_tail.png"), CAPTIONS["tail"])
    )
    return [*out, *_ranking_figures(job, where, folder)]


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
        made = out.setdefault(base_name(arm.name), ([], [], [], []))
        band = (x.lo, x.hi) if x.lo is not None and x.hi is not None else (np.nan, np.nan)
        for values, value in zip(made, (float(arm.k), x.value, *band), strict=True):
            values.append(float(value))
    kind = job.config.intervention.kind
    if kind in out and 0 in out[kind][0]:  # controls have no k = 0 of their own: no unit is edited there
        at = out[kind][0].index(0)
        for name in out.keys() - {kind}:
            for values, first in zip(out[name], out[kind], strict=True):
                values.append(first[at])
    for columns in out.values():
        by_k = sorted(zip(*columns, strict=True))
        for column, ordered in zip(columns, zip(*by_k, strict=True), strict=True):
            column[:] = list(ordered)
    return out


def _ranking_figures(job: Job, where: str, folder: Path) -> list[tuple[Path, str]]:
    """Draw score against effect, where the check was asked for."""
    found = ranking_check.points(job)
    if not found:
        return []
    said = {row["emotion"]: ranking_check.rho(row) for row in ranking_check.rows(job) if row["part"] == "all"}
    own = {name: [unit for unit in found if unit.emotion == name] for name in job.names}
    panels = {
        name: RankingPanel([u.score for u in us], [u.effect for u in us], [u.top for u in us], said[name])
        for name, us in own.items()
    }
    title = f"Is the ranking of {job.on} right? {where}, {len(own[job.names[0]])} {job.on} per emotion"
    path = ranking_figure(panels, title, folder / "ranking.png")
    return [(path, RANKING)]
