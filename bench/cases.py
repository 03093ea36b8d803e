"""The cases that have a peer: what is run on each side, and when the two count as equal.

Ours may run more samples than a peer that needs minutes for one; seconds and tokens are compared per sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench import naive
from bench.inputs import (
    EMOTIONS,
    Size,
    directions,
    emotion_prompts,
    plain_prompts,
    typical,
    unit_vectors,
)
from emo.core.types import Site
from emo.edit.banks import Bank, UnitBank
from emo.edit.base import Arm, plan
from emo.edit.units import UnitArm, pick_units, plan_units
from emo.find import sublayer_importance as importance
from emo.find.contributions import head_contributions
from emo.find.directions import MLP
from emo.find.reference import reference
from emo.find.sublayer_importance import Importance
from emo.measure.projections import projections
from emo.model.capture import activations, states
from emo.model.generate import generate
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.passes import NO_EDIT, Row
from emo.model.prefixes import Text

BATCH = 64  # the default batch_size of a job
KS = (0, 2, 4, 8, 16, 32, 64, 128)
RANDOM = 10  # random controls of every k
PUSHES, STABLE = (0.1, 0.3, 0.5, 0.7), (0.75, 0.92)  # strengths, and the blocks of the reference
ALPHA, DEPTH = 0.9, (0.35, 0.85)  # what the demo steers with
EVERY_LAYER = 10  # a batch's naive head importance, and packages', is run in every tenth block
FEW = 2  # prompts of generation that packages run


class Part(NamedTuple):
    """What a package that needs minutes is handed of a case; see `Case`."""

    timed: str
    given: tuple[Any, ...]
    difference: Callable[[Any, Any], float]
    target: str = ""
    peer_samples: float = 1
    peer_rounds: int = 2


class Case(NamedTuple):
    """One piece of work, ours and as it is handed to peers."""

    timed: str  # what was timed on what
    target: str
    ours: Callable[[], Any]
    given: tuple[Any, ...]  # what a peer is handed after the model
    difference: Callable[[Any, Any], float]  # (ours, peer's): max |difference| / max |score|
    ours_samples: float = 1
    peer_samples: float = 1
    peer_rounds: int = 3
    part: Part | None = None  # what packages are handed instead; None: the same

    def for_package(self) -> Case:
        """Return the case as it is handed to a package."""
        return self if self.part is None else self._replace(**self.part._asdict(), part=None)


def gap(ours: Tensor, theirs: Tensor) -> float:
    """Return max |difference| / max |score|; nan where either holds a nan."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def head_importance(lm: LM, size: Size) -> Case:  # noqa: ARG001
    """All heads for one prompt."""
    prompts = emotion_prompts(lm, 1)[:1]
    v = unit_vectors(1, lm.n_layers, lm.d)
    runs = 1 + lm.n_layers * lm.h
    # About the middle of the model: packages end a pass behind the block that they read.
    some = list(range(EVERY_LAYER // 2 - 1, lm.n_layers, EVERY_LAYER)) or list(range(lm.n_layers))
    part = 1 + len(some) * lm.h
    return Case(
        f"one prompt ({len(prompts[0].ids)} tokens), {lm.n_layers} x {lm.h} heads; naive: {runs} forwards, one round",
        "ratio >= 150",
        lambda: _heads(lm, [prompts[0].ids], v),
        ([prompts[0].ids], v, range(lm.n_layers)),
        gap,
        peer_rounds=1,
        part=Part(
            f"packages without a cache: blocks {', '.join(map(str, some))} of it, time extrapolated from {part} of "
            f"{runs} forwards, which end behind the block that is read where the package can",
            ([prompts[0].ids], v, some),
            lambda ours, theirs: gap(ours[:, some], theirs),
            peer_samples=part / runs,
        ),
    )


def head_importance_batch(lm: LM, size: Size) -> Case:
    """All heads for samples under six emotions, as attribution reads them; the peer runs a part of one prompt."""
    prompts = emotion_prompts(lm, size.heads)
    some, layers = typical(prompts), range(0, lm.n_layers, EVERY_LAYER)
    v = unit_vectors(len(EMOTIONS), lm.n_layers, lm.d)[[p.emotion for p in prompts]]
    whole, run = 1 + lm.n_layers * lm.h, 1 + len(layers) * lm.h
    return Case(
        f"{size.heads} samples x {len(EMOTIONS)} emotions, per prompt; naive time extrapolated from {run} of "
        f"{whole * len(prompts)} forwards (one prompt, blocks {', '.join(map(str, layers))}), one round",
        "ratio >= 150",
        lambda: _heads(lm, [p.ids for p in prompts], v),
        ([prompts[some].ids], v[some : some + 1], layers),
        lambda ours, theirs: gap(ours[some : some + 1, list(layers)], theirs),
        len(prompts),
        run / whole,
        peer_rounds=1,
    )


def _heads(lm: LM, prompts: list[list[int]], v: Tensor) -> Tensor:
    out = torch.zeros(len(prompts), lm.n_layers, lm.h)
    for batch in activations(lm, [Text(ids) for ids in prompts], BATCH, sites=[Site.HEAD]):
        for layer in range(lm.n_layers):
            z = batch.at[Site.HEAD][:, layer]
            out[batch.texts, layer] = head_contributions(lm, layer, z, v[batch.texts, layer]).cpu()
    return out


def k_curve(lm: LM, size: Size) -> Case:
    """Neurons ablated at eight k, the target's and ten random draws, under the prompts of six emotions."""
    prompts = emotion_prompts(lm, size.curves)
    layers, some = tuple(range(lm.n_layers)), typical(prompts)
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(len(EMOTIONS), lm.n_layers, lm.f, generator=draw)  # which units are zeroed costs the same
    bank = UnitBank(Site.NEURON, scores, scores, scores.abs(), 1)
    arms = [
        UnitArm(f"{pick}@k={k}", "ablate_neurons", layers=layers, seeds=seeds, pick=pick, k=k)
        for pick, seeds in (("top", 1), ("random", RANDOM))
        for k in KS
    ]
    made = plan_units(arms, bank, 0)
    conditions = [(arm, seed) for arm in arms for seed in range(arm.seeds)]
    rows = [
        Row(p, made.cond.get((arm.name, seed, prompt.emotion), NO_EDIT))
        for p, prompt in enumerate(prompts)
        for arm, seed in conditions
    ]
    v = unit_vectors(len(EMOTIONS), lm.n_layers, lm.d)

    def ours() -> Tensor:
        lm.prefixes.clear()  # the prompts are read in the time that is measured
        found, _ = projections(lm, [p.ids for p in prompts], rows, made.edits, v, BATCH)
        return found.unflatten(0, (len(prompts), len(conditions)))

    picked = [pick_units(bank, arm, prompts[some].emotion, seed, 0) for arm, seed in conditions]
    return Case(
        f"{size.curves} samples x {len(EMOTIONS)} emotions x {len(conditions)} conditions ({len(KS)} k, the target and "
        f"{RANDOM} random draws), per prompt; naive: the {len(conditions)} forwards of one prompt of mean length "
        f"({len(prompts[some].ids)} tokens); units are chosen beforehand on both sides",
        "ratio >= 45, token ratio >= 50",
        ours,
        ([prompts[some].ids], [picked], v),
        lambda ours, theirs: gap(ours[some : some + 1], theirs),
        len(prompts),
        part=Part(
            f"packages: the same {len(conditions)} conditions, two rounds",
            ([prompts[some].ids], [picked], v),
            lambda ours, theirs: gap(ours[some : some + 1], theirs),
            "ratio >= 20",
        ),
    )


def sublayer_importance(lm: LM, size: Size) -> Case:
    """Every sublayer pushed at four strengths for six emotions; the peer runs one emotion and one prompt."""
    prompts = plain_prompts(lm, size.pushed)
    one = [min(prompts, key=lambda ids: abs(len(ids) - sum(map(len, prompts)) / len(prompts)))]
    v = unit_vectors(len(EMOTIONS), lm.n_layers, 2, lm.d)
    ref = reference(v, range(int(STABLE[0] * lm.n_layers), int(STABLE[1] * lm.n_layers) + 1))
    runs = 2 * lm.n_layers * len(PUSHES)

    def ours() -> Importance:
        lm.prefixes.clear()
        return importance.sublayer_importance(lm, prompts, v, ref, PUSHES, BATCH)

    def difference(_: Importance, theirs: Tensor) -> float:
        # What was timed is a mean over prompts, so it is run again for the peer's. The movement is what both sides
        # measure: a small difference of two long states, each rounded to 1e-7 of its length. So it is compared as a
        # share of that length, not of itself.
        mine = importance.sublayer_importance(lm, one, v, ref, PUSHES, BATCH)
        moved = mine.values * torch.tensor(PUSHES)[:, None, None, None] * mine.sigma
        return float((moved[:, :1] - theirs).abs().max() / mine.norm[-1, -1])

    return Case(
        f"{len(prompts)} prompts x {len(EMOTIONS)} emotions x {len(PUSHES)} strengths x {2 * lm.n_layers} sublayers, "
        f"per prompt; naive time extrapolated from {runs} of {len(EMOTIONS) * runs} forwards of one prompt of mean "
        f"length ({len(one[0])} tokens), one emotion, one round; agreement on that prompt, of <h' - h, v_ref> / |h|",
        "ratio >= 80",
        ours,
        (one, (ref.sign[..., None] * v)[:1], ref.v_ref[:1], PUSHES),
        difference,
        len(prompts),
        1 / len(EMOTIONS),
        peer_rounds=1,
    )


def steered(lm: LM, size: Size) -> tuple[list[list[int]], list[Row], list[Edit], Tensor, list[int]]:
    """Return prompts, rows, edits, directions (e, l, d) and edited blocks of six steered replies to each prompt."""
    prompts, v = plain_prompts(lm, size.prompts), directions(lm, size.prompts)[:, :, MLP]
    layers = list(range(round(DEPTH[0] * lm.n_layers), round(DEPTH[1] * lm.n_layers)))
    arm = Arm("steer", "steer", ALPHA, tuple(layers))
    made = plan([arm], Bank(v, v[:0, None], v[:0]))
    rows = [Row(p, made.cond["steer", 0, e]) for p in range(len(prompts)) for e in range(len(EMOTIONS))]
    return prompts, rows, made.edits, v, layers


def generation(lm: LM, size: Size) -> Case:
    """Replies steered towards six emotions: the prompts are shared by the emotions."""
    prompts, rows, edits, v, layers = steered(lm, size)

    def ours() -> list[list[int]]:
        lm.prefixes.clear()
        return generate(lm, prompts, rows, edits, size.tokens, BATCH)

    def differing(ours: list[list[int]], theirs: list[list[int]]) -> float:
        return sum(a != b for a, b in zip(ours[: len(theirs)], theirs, strict=True)) / len(theirs)

    some = prompts[:FEW]
    return Case(
        f"{len(prompts)} prompts x {len(EMOTIONS)} emotions, up to {size.tokens} greedy tokens, steered in blocks "
        f"{layers[0]}-{layers[-1]}; naive: generate() with its cache, batch 1, the same edit; "
        "differs = share of replies with another token",
        "ratio >= 10",
        ours,
        (prompts, v, layers, ALPHA, size.tokens),
        differing,
        part=Part(
            f"packages: the first {len(some)} prompts of it, time extrapolated",
            (some, v, layers, ALPHA, size.tokens),
            differing,
            peer_samples=len(some) / len(prompts),
        ),
    )


def capture(lm: LM, size: Size) -> Case:
    """Last-token states under six emotions, against a bare forward pass."""
    prompts = [p.ids for p in emotion_prompts(lm, size.captured)]

    def ours() -> Tensor:
        found = dict(states(lm, [Text(ids) for ids in prompts], BATCH))
        return torch.stack([found[i] for i in range(len(prompts))])

    return Case(
        f"{len(prompts)} prompts, resid_mid and resid_post of every block; naive: a bare forward pass in batches of "
        f"{naive.BARE_BATCH} of like length, without the language-model head",
        "ratio >= 0.9",
        ours,
        (prompts,),
        gap,
    )


CASES: dict[str, Callable[[LM, Size], Case]] = {
    "head_importance": head_importance,
    "head_importance_batch": head_importance_batch,
    "k_curve": k_curve,
    "sublayer_importance": sublayer_importance,
    "capture": capture,
    "generation": generation,
}
