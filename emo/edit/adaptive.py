"""Adaptive masking: the feedback loop that attenuates neurons until dev accuracy falls (methods 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from emo.edit.masks import Mask
from emo.find.activation_stats import Statistics
from emo.find.selectors import Ranked, top

ROUNDING = 1e-4  # points: what float32 shares of items may be off; one item in 10,000 is 0.01


class Adaptive(NamedTuple):
    """Where the loop starts, how it goes on and when it stops: reconstructed, no published text says it.

    ``alpha`` and ``tau`` grow by their steps, to 1 at most; ``margin`` in points of the target's dev accuracy.
    """

    alpha: float = 0.3
    alpha_step: float = 0.1
    tau: float = 0.10
    tau_step: float = 0.05
    margin: float = 0.5
    rounds: int = 10


class Round(NamedTuple):
    """One round: its mask, and dev accuracy in points of the target class and, on average, of the others."""

    alpha: float
    tau: float
    units: int
    target: float
    off: float


class Path(NamedTuple):
    """All rounds in order; ``reached``: the last one's target had fallen by the margin."""

    rounds: list[Round]
    reached: bool


def core(ranked: Ranked, stats: Statistics, target: int, tau: float) -> Ranked:
    """Return the share ``tau`` of a set (at least one unit) whose D is largest, best first: dynamic filtering.

    ``D = |mean_target(a) - mean_other(a)| / (mean_all(|a|) + 1e-6)`` over train tokens (methods 3).

    Args:
        ranked: the target class's units.
        stats: of the train tokens, at `Site.NEURON`.
        target: class.
        tau: share, 0 to 1.
    """
    at = ranked.layer, ranked.unit
    score = ((stats.mean(target) - stats.mean_others(target)).abs() / (stats.mean_absolute() + 1e-6))[at]
    order = score.argsort(descending=True, stable=True)
    return top(Ranked(ranked.layer[order], ranked.unit[order], score[order]), tau)


def adapt(
    ranked: Ranked, stats: Statistics, target: int, how: Adaptive, measure: Callable[[Mask], Tensor], base: Tensor
) -> tuple[Mask, Path]:
    """Attenuate more of a set, round by round, until the target's dev accuracy has fallen by the margin.

    Args:
        ranked: units of the target class, or of a control.
        stats: of the train tokens, at `Site.NEURON`.
        target: class.
        how: start, steps, margin and number of rounds (at least 1).
        measure: from a mask to dev accuracy (C,) per true class, in points.
        base: (C,) the same without a mask.

    Returns:
        The last round's mask, and the path to it.
    """
    if how.rounds < 1:
        raise ValueError(f"{how.rounds} rounds: at least 1")
    rounds: list[Round] = []
    reached = False
    while not reached and len(rounds) < how.rounds:
        # rounded: 0.1 + 4 * 0.05 is printed, and compared between sets of units
        alpha = min(1.0, round(how.alpha + len(rounds) * how.alpha_step, 6))
        tau = min(1.0, round(how.tau + len(rounds) * how.tau_step, 6))
        mask = Mask("attenuate", alpha, core(ranked, stats, target, tau))
        accuracy = measure(mask)
        off = torch.cat([accuracy[:target], accuracy[target + 1 :]]).mean()
        rounds.append(Round(alpha, tau, len(mask.units.unit), float(accuracy[target]), float(off)))
        reached = float(base[target] - accuracy[target]) >= how.margin - ROUNDING
    return mask, Path(rounds, reached)
