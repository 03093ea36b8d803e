"""What a report says beside the numbers: facts about the job, and how its numbers are to be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emo.directions import MLP
from emo.evaluators.margin import without_replies
from emo.evidence import Evidence
from emo.exploded import Counts, lines
from emo.interventions.arms import Arm
from emo.interventions.circuits import CircuitArm
from emo.interventions.units import UnitArm
from emo.pipeline import NO_SHUFFLED, Job
from emo.summary import is_drawn

NOTES = {
    "delta_s": (
        "delta_s is measured along the vectors that were added or that picked the units, so a large difference from "
        "random ones is nearly guaranteed; logprob_margin and the replies are outcomes that they do not define."
    ),
    "shuffled": (
        "With directions.baseline=neutral the shuffled control keeps what all emotions share (emotional against "
        "plain), but for what lies along the emotion's own direction; steer minus shuffled is what that adds."
    ),
    "ppl": (
        "ppl_ratio compares replies under the unedited model; it falls again when replies loop, so read it with "
        "the degenerate share."
    ),
    "labels": (
        "Labels are the offline classifier's (seven classes, of known error: see the calibration figure); the share of "
        "a class among replies of arm none is its chance level."
    ),
    "neutral": "Arm none is the neutral form of the elicitation template; steered and enhanced arms edit that prompt.",
    "ablated": "Ablated arms edit the emotion prompt: their delta-s is measured from arm prompt.",
    "half": (
        "Importance was read in half precision, where small pushes drown in rounding: see its rank correlation over "
        "the pushes; what an allocation is worth needs dtype=float32."
    ),
    "bounds": "No strength tried on dev stayed within the damage bounds; the least damaging one was used.",
    "orthogonal": (
        "The shuffled control is orthogonal to the emotion's own direction at every block, so its delta_s is what the "
        "model makes of it further on, not what was added."
    ),
    "embedded": "The model's weights were dequantised from a 4-bit file: close to, but not, the released ones.",
}


def stand_in_line(job: Job) -> str:
    """Return the remark on themes that have no held-out replies of their own."""
    pairs = "; ".join(f"{theme} -> {other}" for theme, other in job.stand_ins.items())
    return f"logprob_margin: no held-out replies for some themes, those of other themes stand in ({pairs})."


def facts(job: Job) -> dict[str, str]:
    """Return what was run, on what and how much of it, in words."""
    c, spec, (extract, dev, test) = job.config, job.spec, job.splits.scenarios()
    found = {
        "model": f"{c.model.name} ({spec.id}, {spec.n_layers} blocks, {spec.dtype}, commit {spec.commit[:12]})",
        "dataset": f"{c.dataset.name}: {extract} scenarios for directions, {dev} for strengths, {test} for all numbers",
        "n": f"{len(job.splits.test)} test prompts for each of {len(job.names)} emotions",
        "elicitation": f"{c.elicitation.template}; directions: {c.directions.baseline}, {c.directions.tokens}",
    }
    steered = next((arm for arm in job.arms if arm.steered), None)
    target = next((arm for arm in job.arms if isinstance(arm, CircuitArm)), None)
    if target is not None:
        told = _strengths([arm for arm in job.arms if isinstance(arm, CircuitArm)], len(job.names))
        how = "chosen on dev" if job.scale_tuned else "as given"
        found["intervention"] = f"{c.intervention.kind}, scale {told} ({target.dose}), {how}"
        steering = next((arm for arm in job.arms if arm.kind == "steer"), None)
        if steering is not None:
            how = "chosen on dev" if job.tuned else "as given"
            found["steering"] = f"{_steering([steering], len(job.names))}, {how}"
    elif isinstance(steered, UnitArm):
        listed = sorted({arm.k for arm in job.arms if isinstance(arm, UnitArm)})
        of = "every block" if steered.pool == "per_layer" else "the model"
        scales = _strengths([arm for arm in job.arms if isinstance(arm, UnitArm)], 1)
        lambdas = f", lambda {scales}" if steered.op == "enhance" else ""
        found["intervention"] = (
            f"{c.intervention.kind}, k {', '.join(map(str, listed))} of {of}{lambdas}, {len(steered.layers)} blocks"
        )
    elif steered is not None:
        how = "chosen on dev" if job.tuned else "as given"
        told = _steering([arm for arm in job.arms if arm.steered], len(job.names))
        found["intervention"] = f"{c.intervention.kind}, {told}, {how}"
    return found


def _steering(arms: Sequence[Arm], emotions: int) -> str:
    some = arms[0]
    told = f"alpha {_strengths(arms, emotions)} ({some.dose})"
    return f"{told}, {len(some.layers)} blocks, {some.layers[0]}-{some.layers[-1]}"


def _strengths(arms: Sequence[Arm], emotions: int) -> str:
    return ", ".join(f"{x:g}" for x in sorted({arm.strength(e) for arm in arms for e in range(emotions)}))


def drawn(arms: Sequence[tuple[str, int]]) -> list[str]:
    """Return what intervals of controls cover, from their names and draws."""
    single, several = ([name for name, k in arms if (k > 1) == many] for many in (False, True))
    found = []
    if several:
        found.append(
            f"Intervals of {', '.join(several)}, and of differences from them, are over scenarios or groups and over "
            "draws; p is over scenarios or groups, given the draws."
        )
    if single:
        found.append(
            f"{', '.join(single)}: one draw, so the interval covers scenarios or groups only, not what another draw "
            "would give; type control.seeds=3."
        )
    return found


def shuffled_facts(job: Job) -> dict[str, Any]:
    """Return how far the shuffled directions of every draw pointed along the true ones; empty where there are none.

    ``draws``: cosine before it was taken out, of every draw the mean over emotions and blocks and the largest one,
    ``after``: the largest that is left.
    """
    made = job.shuffled
    if made is None:
        return {}
    cosine, v = made.cosine[..., MLP].double(), job.directions.tensors["v"][:, :, MLP].double()
    left = (made.v[:, :, :, MLP].double() * v).sum(-1).abs()
    draws = [{"mean": float(own.mean()), "largest": float(own.abs().max())} for own in cosine]
    return {"draws": draws, "after": float(left.max())}


def shuffled_line(found: dict[str, Any]) -> str:
    """Return `shuffled_facts` in words."""
    told = ", ".join(f"{own['mean']:+.2f} ({own['largest']:.2f})" for own in found["draws"])
    return (
        f"{len(found['draws'])} draws, labels balanced over groups; cosine with the true direction, mean (largest "
        f"absolute): {told}; taken out, {found['after']:.0e} is left at most"
    )


def notes(job: Job, broken: Counts, least: float | None) -> list[str]:
    """Return the remarks that hold for a job.

    Args:
        job: that was run.
        broken: counts of exploded numbers.
        least: the smallest p that its comparisons can give.
    """
    kinds, replied = {arm.kind for arm in job.arms}, job.config.evaluator.name != "projection"
    holds = {
        "delta_s": any(arm.steered for arm in job.arms),
        "neutral": True,
        "ablated": job.config.intervention.kind.startswith("ablate"),
        "ppl": replied,
        "labels": job.config.evaluator.name == "classifier",
        "shuffled": "shuffled" in kinds and job.config.directions.baseline == "neutral",
        "orthogonal": any(kind.endswith("shuffled") for kind in kinds),
        "bounds": any(x is not None and not x.feasible for x in (job.selection, job.scale_selection)),
        "half": job.has_circuit and job.saved_circuit is None and job.spec.dtype != "float32",
        "embedded": job.spec.source == "embedded",
    }
    found = [NOTES[name] for name, holds_here in holds.items() if holds_here]
    evidence = Evidence.of_samples(job.splits.test)
    found += evidence.lines(least, job.config.evaluator.bootstrap)
    found += lines(broken)
    if evidence.few is None:  # else there is no interval
        found += drawn([(arm.name, arm.draws(scored=not replied)) for arm in job.arms if is_drawn(arm)])
    if job.asks_for_shuffled and job.shuffled is None:
        found.append(f"shuffled: {NO_SHUFFLED}.")
    unwritten = without_replies(job.names)
    if unwritten and replied:
        found.append(f"logprob_margin: not measured, there are no held-out replies for {', '.join(unwritten)}.")
    if job.stand_ins and replied:
        found.append(stand_in_line(job))
    if job.splits.broken_rules:
        counts = "; ".join(f"{rule}: {count}" for rule, count in job.splits.broken_rules.items())
        found.append(f"Scenarios outside the rules of the published protocol ({counts}) were used as they are.")
    return found
