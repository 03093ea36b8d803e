"""Corrected accuracy: on a planted confusion the intervals cover the truth, where the raw ones do not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from emo.core.corrected import Confusion, powered, rectified, widened, within
from emo.core.stats import Estimate, estimate

CLASSES = ("anger", "sadness", "fear", "neutral")
WRONG = np.array([[0.7, 0.1, 0.1, 0.1], [0.2, 0.6, 0.1, 0.1], [0.05, 0.15, 0.6, 0.2], [0.05, 0.05, 0.1, 0.8]])
SCENARIOS, EACH, LABELLED = 40, 15, 200
DRAWS = 500


class World(NamedTuple):
    """An arm whose replies express anger, its target, in a share that differs from scenario to scenario."""

    true: np.ndarray
    called: np.ndarray
    scenario: np.ndarray
    labelled: np.ndarray


def world(rate: float, seed: int, wrong: np.ndarray = WRONG) -> World:
    rng = np.random.default_rng(seed)
    spread = 4.0
    own = rng.beta(rate * spread, (1 - rate) * spread, size=SCENARIOS)
    scenario = np.repeat(np.arange(SCENARIOS), EACH)
    n = len(scenario)
    true = np.where(rng.random(n) < own[scenario], 0, rng.integers(1, 4, size=n))
    called = (rng.random(n)[:, None] > wrong[true].cumsum(1)).sum(1)
    labelled = np.zeros(n, dtype=bool)
    labelled[rng.choice(n, LABELLED, replace=False)] = True
    return World(true, called, scenario, labelled)


def hits(w: World) -> tuple[np.ndarray, np.ndarray]:
    return (w.called == 0).astype(float), np.where(w.labelled, (w.true == 0).astype(float), np.nan)


def by_confusion(w: World) -> Estimate:
    names = np.array(CLASSES, dtype=object)
    k = w.labelled
    table = Confusion(names[w.true[k]], names[w.called[k]], w.scenario[k], CLASSES, DRAWS)
    return table.share(names[w.called], ["anger"] * len(w.called), w.scenario, [True] * len(w.called))


@pytest.mark.parametrize("rate", [0.4, 0.7])
def test_intervals_cover_the_planted_truth(rate: float) -> None:
    """In about 95 of 100 simulated data sets; the raw share of a labeller that errs so is off almost always."""
    inside = {"raw": 0, "powered": 0, "confusion": 0}
    width = {"powered": 0.0, "alone": 0.0}
    for seed in range(100):
        w = world(rate, seed)
        f, y = hits(w)
        found = {
            "raw": estimate(f, w.scenario, DRAWS),
            "powered": powered(f, y, w.scenario, LABELLED, DRAWS).estimate,
            "confusion": by_confusion(w),
        }
        for name, x in found.items():
            inside[name] += x.lo <= rate <= x.hi
        alone = estimate(y[w.labelled], w.scenario[w.labelled], DRAWS)
        width["powered"] += found["powered"].hi - found["powered"].lo
        width["alone"] += alone.hi - alone.lo
    print(f"rate {rate}: the interval covers the truth in {inside} of 100 data sets")  # noqa: T201
    assert 89 <= inside["powered"] <= 99 and 89 <= inside["confusion"] <= 99, inside
    assert inside["raw"] < 85, inside
    assert width["powered"] < width["alone"]  # 480 replies with a cheap label are worth something


def test_values_stand_for_the_estimate() -> None:
    """Their mean is lambda mean F + mean (Y - lambda F); a labeller without a clue leaves the labelled mean."""
    w = world(0.5, 3)
    f, y = hits(w)
    k = w.labelled
    weight = np.cov(f[k], y[k])[0, 1] / f[k].var(ddof=1)
    assert 0 < weight < 1
    assert rectified(f, y).mean() == pytest.approx(weight * f.mean() + (y[k] - weight * f[k]).mean())
    clueless = np.random.default_rng(0).permutation(1 - f)
    assert rectified(1 - f, y).mean() == pytest.approx(y[k].mean())  # worse than chance: lambda is 0
    assert rectified(clueless, y).mean() == pytest.approx(y[k].mean(), abs=0.03)
    perfect = (w.true == 0).astype(float)
    assert rectified(perfect, y).mean() == pytest.approx(perfect.mean())
    assert np.isnan(rectified(np.where(k, np.nan, f), y)[k]).all()


def test_a_sample_without_an_error_is_not_without_error() -> None:
    """Ten labels that all agree cannot make an interval of no width."""
    f = np.zeros(200)
    y = np.where(np.arange(200) % 10 == 0, 0.0, np.nan)
    found = powered(f, y, np.repeat(np.arange(40), 5), 20).estimate
    assert found.value == 0 and found.lo == 0 and 0.08 < found.hi < 0.11
    assert powered(f, y, np.repeat(np.arange(40), 5), 9).estimate.value is None
    assert within(widened(Estimate(0.99, 0.98, 0.995, 9), 20, 10, 10)).hi == 1.0
    wide, few = (widened(Estimate(0.5, 0.4, 0.6, 9), scenarios, 1000) for scenarios in (100, 6))
    assert few.hi - 0.5 > 1.3 * (wide.hi - 0.5) and widened(wide, 4, 1000).lo is None


def test_what_would_halve_an_interval_does() -> None:
    """With four times the labels, said or not, the interval of a useless labeller is about half as wide."""
    rng = np.random.default_rng(5)
    n = 6000
    true, scenario = (rng.random(n) < 0.5).astype(float), np.arange(n)
    f = (rng.random(n) < 0.5).astype(float)

    def of(labelled: int) -> tuple[float, int | None]:
        y = np.where(np.arange(n) < labelled, true, np.nan)
        found = powered(f, y, scenario, labelled, 400)
        assert found.estimate.lo is not None
        return found.estimate.hi - found.estimate.lo, found.to_halve

    wide, needed = of(200)
    assert needed is not None and 700 < needed < 1000
    assert of(needed)[0] == pytest.approx(wide / 2, rel=0.15)
    assert powered(true, np.where(scenario < 100, true, np.nan), np.repeat(np.arange(60), 100), 100).to_halve is None


def test_no_confusion_matrix_of_a_class_that_hardly_stands_in_it() -> None:
    table = Confusion(["anger"] * 9 + ["fear"] * 2, ["anger"] * 11, list(range(11)), ("anger", "fear"))
    assert table.lacking == {"fear": 2}
    assert table.share(["anger"], ["anger"], [0], [True]).value is None


def test_a_broken_reply_is_a_row_that_cannot_be_right() -> None:
    true = ["anger"] * 6 + ["fear"] * 6
    table = Confusion(true, true, list(range(12)), ("anger", "fear"), 50)
    found = table.share(["anger", "fear"] * 6, ["anger"] * 12, list(range(12)), [True] * 6 + [False] * 6)
    assert found.value == pytest.approx(3 / 12)
