"""What a report says beside the numbers: facts about the job, and how its numbers are to be read."""

from __future__ import annotations

from collections.abc import Sequence

from emo.evaluators.margin import without_replies
from emo.interventions.arms import Arm
from emo.interventions.circuits import CircuitArm
from emo.interventions.units import UnitArm
from emo.models.chat import THINKS
from emo.pipeline import Job
from emo.summary import smallest_p

NOTES = {
    "delta_s": (
        "delta_s is measured along the vectors that were added or that picked the units, so a large difference from "
        "random ones is nearly guaranteed; logprob_margin and the replies are outcomes that they do not define."
    ),
    "shuffled": (
        "With directions.baseline=neutral the shuffled control keeps what all emotions share (emotional against "
        "plain); steer minus shuffled is what is specific to the emotion."
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
        "In half precision rounding depends on how many prompts share a pass: with another batch_size a part of the "
        "replies differs in wording (10 of 40 on the embedded model). Importance of sublayers is computed in float32."
    ),
    "paper_decoding": (
        "generation.decoding=paper: edited arms are decoded without repetitions, arms none and prompt plainly, so a "
        "difference between them is partly one of decoding (generation.decoding=no_repeat: all alike)."
    ),
    "embedded": "The model's weights were dequantised from a 4-bit file: close to, but not, the released ones.",
    "thinks": THINKS,
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


def notes(job: Job) -> list[str]:
    """Return the remarks that hold for a job."""
    kinds, replied = {arm.kind for arm in job.arms}, job.config.evaluator.name != "projection"
    holds = {
        "delta_s": any(arm.steered for arm in job.arms),
        "neutral": True,
        "ablated": job.config.intervention.kind.startswith("ablate"),
        "ppl": replied,
        "labels": job.config.evaluator.name == "classifier",
        "shuffled": "shuffled" in kinds and job.config.directions.baseline == "neutral",
        "paper_decoding": replied and len({arm.decoding for arm in job.arms}) > 1,
        "half": replied and job.spec.dtype != "float32",
        "embedded": job.spec.source == "embedded",
        "thinks": bool(job.directions.meta.get("opens_thinking")),
    }
    found = [NOTES[name] for name, holds_here in holds.items() if holds_here]
    if smallest_p(job) > 0.05 and any(arm.steered for arm in job.arms):
        found.append(
            f"So few test scenarios cannot give p below {smallest_p(job):.3g} by sign flips: read the intervals."
        )
    unwritten = without_replies(job.names)
    if unwritten and replied:
        found.append(f"logprob_margin: not measured, there are no held-out replies for {', '.join(unwritten)}.")
    if job.stand_ins and replied:
        found.append(stand_in_line(job))
    if job.splits.broken_rules:
        counts = "; ".join(f"{rule}: {count}" for rule, count in job.splits.broken_rules.items())
        found.append(f"Scenarios outside the rules of the published protocol ({counts}) were used as they are.")
    return found
