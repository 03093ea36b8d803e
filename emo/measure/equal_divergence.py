"""The strength at which an edit makes a model diverge from itself by so many nats (methods 5.4).

    D(strength) = 95th percentile over tokens of KL(edited || unedited), along edited greedy replies of 20 tokens

on the dev prompts, over all draws of a control and all emotions (``select.per: emotion``: of each emotion alone). D
grows with about the square of a small strength, so the search goes along log D over log strength: out until the target
is bracketed, then by secants, which fall back to the middle of the bracket where they come no nearer. Replies change
from one strength to the next, so D jumps a little: within 5 % counts as reached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from emo.config.values import LARGEST
from emo.core.console import note, warn
from emo.core.store import Artifact

SEARCH = 1  # version of the search: part of its addresses
TOKENS = 20  # of the edited replies
PERCENTILE = 95
NEAR = 0.05  # relative difference of a divergence that counts as reached
MOST = 8  # evaluations of one strength
SMALLEST, SLOPE = 1e-4, 2.0  # least strength tried; of log D over log strength where it is not known yet
STEP = (1.25, 8.0)  # least and largest factor between two strengths outside of a bracket
DIGITS = 4  # of a strength: it stands in addresses and tables

Measured = Mapping[str, Sequence[tuple[int | None, list[float]]]]  # arm -> (emotion, divergences of a reply's tokens)
Evaluate = Callable[[Mapping[str, float | list[float]]], Measured]  # strengths of arms, one or one per emotion


class AtDivergence(NamedTuple):
    """The strength found for one arm.

    Attributes:
        strength: one, or one per emotion.
        divergence: there, in nats, of each strength; None: the numbers explode.
        reached: of each strength, whether that is within 5 % of the target.
        target: nats.
        tried: emotion (its place; None: all), strength, divergence of every evaluation.
    """

    strength: float | list[float]
    divergence: list[float | None]
    reached: list[bool]
    target: float
    tried: list[dict[str, Any]] = []

    def to_artifact(self) -> Artifact:
        """Return it as an artifact."""
        return Artifact(rows=self.tried, meta={k: v for k, v in self._asdict().items() if k != "tried"})

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> AtDivergence:
        """Return what `to_artifact` wrote."""
        return cls(**artifact.meta, tried=artifact.rows)


@dataclass
class Search:
    """The search for one strength.

    Attributes:
        target: nats.
        start: strength that is tried first.
        tried: strengths and divergences (inf: the numbers explode) so far.
    """

    target: float
    start: float
    tried: list[tuple[float, float]] = field(default_factory=list)

    @property
    def best(self) -> tuple[float, float]:
        """The strength tried whose divergence is nearest to the target, in ratio, and that divergence."""
        return min(self.tried, key=lambda x: abs(self._beyond(x[1])))

    @property
    def reached(self) -> bool:
        """Whether that is near enough."""
        return bool(self.tried) and abs(self._beyond(self.best[1])) <= math.log1p(NEAR)

    def next(self) -> float | None:
        """Return the strength to try next; None: it is found, lies beyond the bounds, or `MOST` have been tried."""
        if not self.tried:
            return self.start
        if self.reached or len(self.tried) >= MOST:
            return None
        points = sorted((math.log(strength), self._beyond(kl)) for strength, kl in self.tried)
        high = next((point for point in points if point[1] > 0), None)
        low = max((point for point in points if point[1] <= 0 and (high is None or point < high)), default=None)
        at = self._outside(points, up=high is None) if low is None or high is None else self._between(low, high)
        strength = float(f"{min(max(math.exp(at), SMALLEST), LARGEST):.{DIGITS}g}")
        return None if any(strength == known for known, _ in self.tried) else strength

    def _beyond(self, kl: float) -> float:
        return math.log(kl / self.target) if kl > 0 else -math.inf

    def _outside(self, points: Sequence[tuple[float, float]], *, up: bool) -> float:
        """Return a log strength beyond all that were tried, by the slope of the two last ones."""
        near, last = (points[-2:] if up else points[1::-1]) if len(points) > 1 else (points[0], points[0])
        slope = (last[1] - near[1]) / (last[0] - near[0]) if last != near else SLOPE
        slope = min(max(slope, 1 / SLOPE), 2 * SLOPE) if math.isfinite(slope) else SLOPE
        least, most = map(math.log, STEP)
        size = min(max(abs(last[1]) / slope * 1.1, least), most)  # a little too far: then it is bracketed
        return last[0] + size if up else last[0] - size

    def _between(self, low: tuple[float, float], high: tuple[float, float]) -> float:
        """Return the log strength where the secant of a bracket meets the target, or the middle of the bracket."""
        share = -low[1] / (high[1] - low[1])
        sides = [self._beyond(kl) > 0 for _, kl in self.tried[-3:]]
        stuck = len(sides) == 3 and len(set(sides)) == 1  # one end of the bracket does not move
        if stuck or not math.isfinite(share) or not 0 < share < 1:
            share = 0.5
        return low[0] + share * (high[0] - low[0])


def percentile(values: Sequence[float]) -> float:
    """Return the 95th percentile of divergences; inf where that many of them explode."""
    found = np.asarray(values)
    if not found.size or np.mean(~np.isfinite(found)) > 1 - PERCENTILE / 100:
        return math.inf
    if np.isfinite(found).all():
        return float(np.percentile(found, PERCENTILE))
    return float(np.percentile(np.where(np.isfinite(found), found, np.finfo(float).max), PERCENTILE, method="lower"))


def at_divergence(
    evaluate: Evaluate, starts: Mapping[str, float], target: float, emotions: Mapping[str, int]
) -> dict[str, AtDivergence]:
    """Return the strength of every arm; all are tried together, a batch per evaluation.

    Args:
        evaluate: what the replies of arms at given strengths diverge by.
        starts: arm -> strength that is tried first.
        target: nats.
        emotions: arm -> how many strengths it has, one per emotion; 0: one for all.
    """
    searches = {name: [Search(target, start) for _ in range(emotions[name] or 1)] for name, start in starts.items()}
    while True:
        wanted = {name: [search.next() for search in own] for name, own in searches.items()}
        asked = {name: own for name, own in wanted.items() if any(x is not None for x in own)}
        if not asked:
            break
        given: dict[str, float | list[float]] = {}
        for name, own in asked.items():  # those that are found stay where they are
            sizes = [x if x is not None else s.best[0] for x, s in zip(own, searches[name], strict=True)]
            given[name] = sizes if emotions[name] else sizes[0]
        found = evaluate(given)
        for name, own in asked.items():
            for e, (strength, search) in enumerate(zip(own, searches[name], strict=True)):
                if strength is not None:
                    parts = [x for of, x in found[name] if not emotions[name] or of == e]
                    search.tried.append((strength, percentile([kl for part in parts for kl in part])))
    return {name: _found(own, target, several=bool(emotions[name])) for name, own in searches.items()}


def _found(own: Sequence[Search], target: float, *, several: bool) -> AtDivergence:
    strengths = [search.best[0] for search in own]
    tried = [
        {"emotion": e if several else None, "strength": strength, "divergence": _number(kl)}
        for e, search in enumerate(own)
        for strength, kl in search.tried
    ]
    return AtDivergence(
        strengths if several else strengths[0],
        [_number(search.best[1]) for search in own],
        [search.reached for search in own],
        target,
        tried,
    )


def _number(kl: float) -> float | None:
    return kl if math.isfinite(kl) else None


def tell(name: str, what: str, found: AtDivergence, names: Sequence[str]) -> None:
    """Say what was found for an arm, and what was not."""
    several = isinstance(found.strength, list)
    sizes = found.strength if isinstance(found.strength, list) else [found.strength]
    each = [f"{names[e]} {size:g}" if several else f"{size:g}" for e, size in enumerate(sizes)]
    note(f"{what} of {name} at KL {found.target:g}: {', '.join(each)} ({len(found.tried)} evaluations)")
    for size, kl, reached in zip(sizes, found.divergence, found.reached, strict=True):
        if not reached:
            nats = "not a number" if kl is None else f"{kl:.2g} nats"
            warn(f"{name}: no {what} tried diverges by {found.target:g} nats; the nearest is {size:g} ({nats})")
