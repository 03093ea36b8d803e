"""Is the ranking of units right? Scores against the measured effect of zeroing single units (methods 1.14.5).

    effect[e, u] = mean over prompts that ask for e of  s - s(u zeroed),
                   s = <resid_post[L-1], v_mlp[e, L-1]> at the last prompt token

for the units u = (block, unit) of blocks 0..L-2: a score is an effect on its own block, what is measured here has
passed through all later ones. Both have the same sign: positive where the unit adds to its emotion. Spearman's rank
correlation of the two, with a bootstrap over units, for the best units, for random ones, and for both together.

Every unit is one condition, so the prompt before its last token is read once for all of them. In 16-bit models
effects of random units may be mostly rounding: dtype=float32 tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from emo.core.partial import Done, fill
from emo.core.types import Tokens
from emo.edit.banks import UnitBank
from emo.find.rank_correlation import spearman
from emo.measure.projections import projections
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.ops import Zero
from emo.model.passes import NO_EDIT, Row

UNITS = 200  # best ones and random ones, each
PARTS = ("top", "random", "all")

Array = np.ndarray[Any, np.dtype[np.float64]]


class Unit(NamedTuple):
    """One unit that was zeroed alone, as it is kept: why it was chosen, its score and its effect."""

    emotion: str
    block: int
    unit: int
    top: bool
    random: bool
    score: float
    effect: float

    def of(self, part: str) -> bool:
        """Return whether the unit belongs to ``part``, one of `PARTS`."""
        return part == "all" or (self.top if part == "top" else self.random)


def choose(scores: Tensor, count: int, draw: np.random.Generator) -> tuple[list[int], list[int]]:
    """Return the best units and as many random ones, as indices into the flattened scores.

    Args:
        scores: (l, u) of one emotion, blocks below the last.
        count: of each; fewer where there are fewer.
        draw: source of the random ones.

    Returns:
        The best, largest first, and the random ones: drawn among the others, or among all units where the others
        are too few, so that some are in both.
    """
    flat = scores.flatten()
    top = flat.argsort(descending=True, stable=True)[:count].tolist()
    left = np.setdiff1d(np.arange(len(flat)), top)
    pool = left if len(left) >= len(top) else np.arange(len(flat))
    return top, draw.permutation(pool)[: len(top)].tolist()


def measure(
    lm: LM,
    bank: UnitBank,
    v: Tensor,
    prompts: Sequence[Sequence[Sequence[int]]],
    names: Sequence[str],
    seed: int,
    batch_size: int,
    count: int = UNITS,
) -> list[Unit]:
    """Zero the best and as many random units one at a time, and return every one with its score and effect.

    Args:
        lm: the model.
        bank: rankings of neurons or heads.
        v: (e, l, d) unit directions of resid_post.
        prompts: per emotion the token ids of prompts that ask for it, equally many.
        names: e emotions.
        seed: of the random units.
        batch_size: prompts in one forward pass.
        count: best units, and random ones, per emotion.
    """
    last, width = lm.n_layers - 1, bank.scores.shape[2]
    draw = np.random.default_rng(seed)
    chosen = [choose(bank.scores[e, :last], count, draw) for e in range(len(names))]
    units = [sorted({*top, *random}) for top, random in chosen]
    cond = {unit: c for c, unit in enumerate(sorted({unit for own in units for unit in own}))}
    flat = [ids for own in prompts for ids in own]
    n = len(prompts[0])
    rows = [
        Row(e * n + i, c) for e, own in enumerate(units) for i in range(n) for c in (NO_EDIT, *(cond[u] for u in own))
    ]
    edits = _edits(bank, list(cond), width)

    def compute(left: list[int], done: Done) -> None:
        own = [rows[i] for i in left]

        def finished(k: int, proj: Tensor, _: Tensor | None) -> None:
            done(k, proj[last].clone())

        projections(lm, flat, own, edits, v, batch_size, "ranking check", done=finished)

    states = torch.stack(fill("ranking", "ranking check", "rows", [[(None, k)] for k in range(len(rows))], compute))
    out, start = [], 0
    for e, (name, own) in enumerate(zip(names, units, strict=True)):
        size = n * (1 + len(own))
        s = states[start : start + size, e].double().view(n, 1 + len(own))
        start += size
        effects = (s[:, :1] - s[:, 1:]).mean(0)
        top, random = map(set, chosen[e])
        for unit, effect in zip(own, effects.tolist(), strict=True):
            block, place = divmod(unit, width)
            score = float(bank.scores[e, block, place])
            out.append(Unit(name, block, place, unit in top, unit in random, score, effect))
    return out


def _edits(bank: UnitBank, units: Sequence[int], width: int) -> list[Edit]:
    """Return one edit per block that zeroes, in condition c, the columns of ``units[c]`` if it is of that block."""
    none = torch.zeros(0, dtype=torch.long)
    edits = []
    for block in sorted({unit // width for unit in units}):
        columns = [
            unit % width * bank.width + torch.arange(bank.width) if unit // width == block else none for unit in units
        ]
        edits.append(Edit(bank.site, block, Zero.of(columns), Tokens.PROMPT_LAST))
    return edits


def table(units: Sequence[Unit], names: Sequence[str], samples: int, draws: int, seed: int) -> list[dict[str, Any]]:
    """Return one row per emotion (None: the mean over all) and part of the units.

    Args:
        units: what `measure` found.
        names: emotions, in the order of the rows.
        samples: prompts per emotion behind every effect.
        draws: bootstrap draws over units.
        seed: of the draws.

    Returns:
        Rows {emotion, part, rho, ci, n_units, shared, samples}. ``shared`` is how many units are among the best and
        among the random ones; of the row over all emotions, ``n_units`` and ``shared`` are means, rounded. rho and
        its 95 % interval are None where they cannot be measured.
    """
    rows = []
    for part in PARTS:
        found = [list(_resampled(units, name, part, draws, seed + e)) for e, name in enumerate(names)]
        values = np.array(found)  # (e, 1 + draws): the correlation itself, then that of each draw
        counts = [sum(u.of(part) for u in units if u.emotion == name) for name in names]
        shared = [sum(u.top and u.random for u in units if u.emotion == name) for name in names]
        rows.append(_row(None, part, values.mean(0), np.mean(counts), np.mean(shared), samples))
        cuts = zip(names, values, counts, shared, strict=True)
        rows += [_row(name, part, own, n, both, samples) for name, own, n, both in cuts]
    return rows


def _row(
    name: str | None, part: str, found: Array, n: float | np.floating, shared: float | np.floating, samples: int
) -> dict[str, Any]:
    rho, drawn = float(found[0]), found[1:][~np.isnan(found[1:])]
    measured = not np.isnan(rho)
    ci = np.percentile(drawn, [2.5, 97.5]).tolist() if measured and len(drawn) else None
    counts = {"n_units": round(float(n)), "shared": round(float(shared)), "samples": samples}
    return {"emotion": name, "part": part, "rho": rho if measured else None, "ci": ci, **counts}


def _resampled(units: Sequence[Unit], name: str, part: str, draws: int, seed: int) -> Iterator[float]:
    """Yield the correlation of an emotion's units, then that of each bootstrap draw of them."""
    pairs = np.array([(u.score, u.effect) for u in units if u.emotion == name and u.of(part)])
    index = np.random.default_rng(seed).integers(0, len(pairs), (draws, len(pairs)))
    yield float(spearman(pairs[:, 0], pairs[:, 1]))
    yield from spearman(pairs[index, 0], pairs[index, 1]).tolist()
