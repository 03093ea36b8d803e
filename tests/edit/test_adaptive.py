"""The feedback loop of adaptive masking: what it filters, how it goes on, and when it stops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from emo.edit.adaptive import Adaptive, Round, adapt, core
from emo.edit.masks import Mask
from emo.find.activation_stats import Statistics
from emo.find.selectors import Ranked

BASE = torch.tensor([80.0, 60.0, 70.0])
TARGET = 1


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TOKENS = torch.tensor([10.0, 20.0, 5.0], dtype=torch.float64)
TOTAL, ABSOLUTE, REST = draw(3, 2, 20, seed=1), draw(3, 2, 20, seed=2).abs() + 0.5, torch.zeros(3, 2, 20)
STATS = Statistics(TOKENS, REST, TOTAL, ABSOLUTE, REST, REST + 1)
UNITS = Ranked(torch.arange(40) % 2, torch.arange(40) // 2, torch.linspace(1, 0, 40))


def distance(layer: int, unit: int, target: int) -> float:
    """Return D of one unit, from sums (methods 3)."""
    total, tokens = TOTAL[:, layer, unit].tolist(), TOKENS.tolist()
    others = [c for c in range(3) if c != target]
    other = sum(total[c] for c in others) / sum(tokens[c] for c in others)
    size = sum(ABSOLUTE[:, layer, unit].tolist()) / sum(tokens)
    return abs(total[target] / tokens[target] - other) / (size + 1e-6)


@pytest.mark.parametrize("target", range(3))
@pytest.mark.parametrize("tau", [0.0, 0.01, 0.1, 0.34, 1.0])
def test_the_core_is_what_tells_the_target_apart(target: int, tau: float) -> None:
    """Largest D first, from the given set alone, the share rounded, one unit at least."""
    given = Ranked(*(x[5:34] for x in UNITS))
    found = core(given, STATS, target, tau)
    pairs = list(zip(given.layer.tolist(), given.unit.tolist(), strict=True))
    by_hand = sorted(pairs, key=lambda pair: -distance(*pair, target))[: max(1, round(tau * 29))]
    assert list(zip(found.layer.tolist(), found.unit.tolist(), strict=True)) == by_hand
    assert found.score.tolist() == pytest.approx([distance(*pair, target) for pair in by_hand])


def test_a_silent_unit_has_no_distance() -> None:
    """0 / (0 + 1e-6) is 0: a unit that never fires goes last, not first."""
    total, absolute = TOTAL.clone(), ABSOLUTE.clone()
    total[:, 0, 0] = absolute[:, 0, 0] = 0
    found = core(UNITS, STATS._replace(total=total, absolute=absolute), TARGET, 1.0)
    assert (int(found.layer[-1]), int(found.unit[-1]), float(found.score[-1])) == (0, 0, 0.0)


class Fake:
    """Dev accuracy under a mask: the target loses what is listed for the round, the others 1 point per round."""

    def __init__(self, fallen: Sequence[float]) -> None:
        self.fallen, self.masks = fallen, list[Mask]()

    def __call__(self, mask: Mask) -> Tensor:
        self.masks.append(mask)
        lost = torch.full((3,), float(len(self.masks)))
        lost[TARGET] = self.fallen[len(self.masks) - 1]
        return BASE - lost


def test_the_loop_raises_both_until_the_target_has_fallen() -> None:
    """Neither a rise nor less than the margin stops it; the first round that reaches the margin does."""
    measure = Fake([-3.0, 0.25, 0.5, 9.0])
    frozen, path = adapt(UNITS, STATS, TARGET, Adaptive(), measure, BASE)
    assert path.reached
    assert path.rounds == [
        Round(0.3, 0.1, 4, 63.0, 74.0),
        Round(0.4, 0.15, 6, 59.75, 73.0),
        Round(0.5, 0.2, 8, 59.5, 72.0),
    ]
    assert frozen is measure.masks[-1] and len(measure.masks) == 3


def test_each_round_attenuates_the_core_of_its_share() -> None:
    """Live attenuation of the top tau by D, not by the selector's own ranking."""
    measure = Fake([0.0] * 4)
    frozen, path = adapt(UNITS, STATS, TARGET, Adaptive(0.2, 0.25, 0.05, 0.2, rounds=4), measure, BASE)
    assert [mask.strength for mask in measure.masks] == pytest.approx([0.2, 0.45, 0.7, 0.95])
    for mask, tau in zip(measure.masks, (0.05, 0.25, 0.45, 0.65), strict=True):
        expected = core(UNITS, STATS, TARGET, tau)
        assert (mask.op, mask.live, mask.values) == ("attenuate", True, None)
        assert all(torch.equal(x, y) for x, y in zip(mask.units, expected, strict=True))
    assert [x.units for x in path.rounds] == [2, 10, 18, 26]
    assert frozen.strength == path.rounds[-1].alpha and len(frozen.units.unit) == path.rounds[-1].units


def test_the_loop_gives_up_after_its_rounds() -> None:
    """Alpha and tau stop at 1; the last mask is frozen all the same, and the path says that it was not enough."""
    measure = Fake([0.4999 - 0.01] * 10)
    frozen, path = adapt(UNITS, STATS, TARGET, Adaptive(tau=0.5, tau_step=0.2), measure, BASE)
    assert not path.reached and len(path.rounds) == len(measure.masks) == 10
    assert [x.alpha for x in path.rounds] == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0]
    assert [x.tau for x in path.rounds] == [0.5, 0.7, 0.9, *[1.0] * 7]
    assert path.rounds[-1].units == 40 and frozen is measure.masks[-1]


@pytest.mark.parametrize("count", [3, 7, 200, 999])
def test_a_fall_by_exactly_the_margin_counts(count: int) -> None:
    """One item of ``count`` less, as float32 percentages, is a fall by one item and not by a little less."""
    margin = 100 / count
    for right in range(1, count, max(1, count // 50)):
        share = torch.tensor([right / count, (right - 1) / count], dtype=torch.float32) * 100
        base, now = torch.tensor([50.0, float(share[0]), 50.0]), torch.tensor([50.0, float(share[1]), 50.0])
        _, path = adapt(UNITS, STATS, TARGET, Adaptive(margin=margin, rounds=1), lambda _, now=now: now, base)
        assert path.reached, right


def test_no_rounds_leave_no_mask() -> None:
    with pytest.raises(ValueError, match="0 rounds: at least 1"):
        adapt(UNITS, STATS, TARGET, Adaptive(rounds=0), Fake([]), BASE)


def test_another_target_has_another_off_target_mean() -> None:
    """Every class but the target, wherever it stands in the row."""
    accuracy = torch.tensor([10.0, 20.0, 60.0])
    for target, off in enumerate((40.0, 35.0, 15.0)):
        _, path = adapt(UNITS, STATS, target, Adaptive(rounds=1), lambda _: accuracy, accuracy)
        assert path.rounds[0].off == off and path.rounds[0].target == float(accuracy[target])
        assert not path.reached and not math.isnan(path.rounds[0].off)
