"""Intervals cover what they claim, agree with a slow twin, and say nothing where nothing was measured."""

from __future__ import annotations

import time

import numpy as np
import pytest

from emo.core.stats import FEWEST, Estimate, Repeats, estimate, estimate_ratio, holm, paired, smallest_p, too_few


def clustered(seed: int, c: int = 30, each: int = 6, mean: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Values whose scenario effect is as large as their own noise."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(c), each)
    return mean + rng.normal(size=c)[clusters] + rng.normal(size=c * each), clusters


def test_interval_covers_the_mean_of_clustered_data():
    def covered(own_rows: bool) -> float:
        hits = 0
        for seed in range(200):
            values, clusters = clustered(seed)
            labels = np.arange(len(values)) if own_rows else clusters
            got = estimate(values, labels.tolist(), draws=300, seed=seed)
            assert got.lo is not None
            assert got.hi is not None
            hits += got.lo <= 0.5 <= got.hi
        return hits / 200

    assert 0.89 <= covered(own_rows=False) <= 0.99
    assert covered(own_rows=True) < 0.8  # what resampling replies instead of scenarios would claim


def test_agrees_with_a_slow_loop():
    values, clusters = clustered(1, c=12, each=5)
    values = values[:-3]  # unequal clusters
    clusters = clusters[:-3]
    rng = np.random.default_rng(99)
    groups = [values[clusters == k] for k in range(12)]
    means = [np.concatenate([groups[k] for k in rng.integers(0, 12, 12)]).mean() for _ in range(4000)]
    got = estimate(values, clusters.tolist(), draws=4000)
    assert got.value == pytest.approx(values.mean())
    assert [got.lo, got.hi] == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.04)


def test_missing_values_are_dropped_with_their_scenario():
    got = estimate([1.0, np.nan, 3.0, np.nan], ["a", "a", "b", "c"])
    assert got.value == 2.0
    assert got.n == 2
    assert got == estimate([1.0, 3.0], ["a", "b"])
    assert estimate([np.nan], ["a"]) == Estimate(None, None, None, 0)
    assert estimate([], []) == Estimate(None, None, None, 0)


def test_fewer_than_five_scenarios_have_neither_interval_nor_p():
    """Their percentile interval is far too narrow, and no p of theirs can be small."""
    for c in (1, 2, 4, 5):
        values, labels = np.arange(2.0 * c), np.repeat(np.arange(c), 2).tolist()
        few, found = c < FEWEST, estimate(values, labels)
        assert found.value == values.mean()
        assert (found.lo is None) == (found.hi is None) == few
        assert (estimate_ratio(values + 1, values + 2, labels).lo is None) == few
        assert (paired(values + 1, values, labels).p is None) == few
        assert (too_few(c) is not None) == few
    assert too_few(2, "groups") == "too few groups for an interval: 2; 5 are needed"


def test_the_smallest_p_knows_holm_and_the_number_of_sign_patterns():
    """All patterns up to 12 scenarios, else 1 / (draws + 1); the smallest of m p-values is multiplied by m."""
    assert smallest_p(4, 3, 2000) is None
    assert smallest_p(8, 0, 2000) is None
    assert smallest_p(6, 1, 20) == 2 / 2**6
    assert smallest_p(6, 4, 20) == 4 * 2 / 2**6
    assert smallest_p(5, 40, 20) == 1
    assert smallest_p(40, 1, 20) == 1 / 21
    assert smallest_p(40, 3, 2000) == pytest.approx(3 / 2001)
    for c in (6, 30):  # what is reached where every scenario agrees
        values = np.arange(1.0, c + 1)
        adjusted = holm([paired(values, -values, list(range(c)), 200).p] * 3)
        assert adjusted[0] == pytest.approx(smallest_p(c, 3, 200), rel=0.5)


def drawn_values(rng, c=12, k=4, spread=1.0):
    """Values of c scenarios under k draws of a control whose own means differ by ``spread``."""
    values = rng.normal(size=c)[:, None] + spread * rng.normal(size=k) + 0.1 * rng.normal(size=(c, k))
    draw, pair = np.broadcast_to(np.arange(k), values.shape), np.broadcast_to(np.arange(c)[:, None], values.shape)
    return values, Repeats(draw.ravel(), pair.ravel())


def test_an_interval_covers_the_draws_of_a_control():
    """Against a slow loop over scenarios and draws; over scenarios alone it misses the mean over all draws."""
    rng = np.random.default_rng(0)
    values, repeats = drawn_values(rng)
    got = estimate(values.ravel(), repeats.pair, 4000, repeats=repeats)
    slow = [values[rng.integers(0, 12, 12)][:, rng.integers(0, 4, 4)].mean() for _ in range(4000)]
    assert got.value == pytest.approx(values.mean())
    assert got.n == 12
    assert [got.lo, got.hi] == pytest.approx(np.percentile(slow, [2.5, 97.5]), abs=0.06)
    hits = {"both": 0, "scenarios": 0}
    for _ in range(150):
        values, repeats = drawn_values(rng, c=30, k=8)
        both = estimate(values.ravel(), repeats.pair, 200, repeats=repeats)
        alone = estimate(values.mean(1), list(range(30)), 200)
        hits["both"] += both.lo <= 0 <= both.hi
        hits["scenarios"] += alone.lo <= 0 <= alone.hi
    assert hits["both"] >= 0.83 * 150
    assert hits["scenarios"] <= 0.75 * 150


def test_draws_that_are_missing_do_not_change_the_weight_of_a_pair():
    """A pair counts once however many of its draws were measured; one draw gives the interval over scenarios."""
    values = [1.0, 2.0, 5.0, np.nan, *[0.0] * 6]
    pair, draw = np.repeat(np.arange(5), 2), np.tile([0, 1], 5)
    got = estimate(values, pair, repeats=Repeats(draw, pair))
    assert got.value == pytest.approx((1.5 + 5) / 5)
    assert got.n == 5
    one = Repeats(np.zeros(5, dtype=int), np.arange(5))
    assert estimate(values[::2], pair[::2], repeats=one) == estimate(values[::2], pair[::2])
    test = paired(values, np.zeros(10), pair, repeats=Repeats(draw, pair))
    assert test.difference.value == got.value
    assert test.p == paired([1.5, 5, 0, 0, 0], np.zeros(5), np.arange(5)).p


def test_one_scenario_has_no_interval():
    got = estimate([1.0, 2.0], ["a", "a"])
    assert got == Estimate(1.5, None, None, 2)
    assert got.to_dict() == {"value": 1.5, "ci": None, "n": 2}
    assert Estimate(0.5, 0.25, 0.75, 8).to_dict() == {"value": 0.5, "ci": [0.25, 0.75], "n": 8}
    assert paired([1.0, 2.0], [0.0, 0.0], ["a", "a"]).p is None


def test_same_seed_same_interval_whatever_the_labels():
    values, clusters = clustered(2)
    first = estimate(values, clusters.tolist(), seed=3)
    assert first == estimate(values, [("theme", int(c)) for c in clusters], seed=3)
    assert first != estimate(values, clusters.tolist(), seed=4)


def test_memory_bound_does_not_change_the_draws(monkeypatch):
    values, clusters = clustered(2)
    whole = estimate(values, clusters.tolist())
    test = paired(values, values * 0.9, clusters.tolist())
    monkeypatch.setattr("emo.core.stats.CHUNK", 1000)
    assert estimate(values, clusters.tolist()) == whole
    assert paired(values, values * 0.9, clusters.tolist()) == test


def test_transform_applies_to_the_mean_and_to_every_draw():
    values, clusters = clustered(5)
    plain, ratio = (estimate(values, clusters.tolist(), transform=t) for t in (None, np.exp))
    assert ratio[:3] == pytest.approx(np.exp(np.asarray(plain[:3], dtype=float)), rel=1e-3)


def test_fast_enough_to_run_beside_every_number():
    values, clusters = clustered(0, c=100)
    start = time.perf_counter()
    estimate(values, clusters.tolist())
    assert time.perf_counter() - start < 1.0  # milliseconds on an idle machine


def test_ratio_resamples_both_together():
    den, clusters = clustered(3, mean=5.0)
    got = estimate_ratio(2 * den, den, clusters.tolist())
    assert got.value == pytest.approx(2)
    assert got.lo == pytest.approx(2)  # apart, the two would vary against each other
    assert got.hi == pytest.approx(2)
    assert estimate_ratio([1.0, np.nan, 4.0], [1.0, 1.0, 1.0], "abc").n == 2


def test_ratio_to_a_control_that_is_not_different_from_zero_has_no_interval():
    den, clusters = clustered(4, mean=0.0)
    got = estimate_ratio(den + 5, den, clusters.tolist())
    assert got.value is not None
    assert got.lo is None
    assert got.hi is None
    assert estimate_ratio([1.0, 2.0], [1.0, -1.0], "ab") == Estimate(None, None, None, 2)


def test_sign_flip_enumerates_few_scenarios():
    # Five scenarios with the same sign: 2 of 32 patterns are as extreme as the observed one.
    got = paired([1.0, 2.0, 3.0, 4.0, 5.0], [0.0] * 5, "abcde")
    assert got.p == 2 / 32
    assert got.difference.value == 3
    assert paired([1.0] * 5, [1.0] * 5, "abcde").p == 1.0


def test_sign_flip_is_calibrated_on_a_null_and_finds_an_effect():
    found = 0
    for seed in range(200):
        (a, clusters), (b, _) = clustered(seed, c=20), clustered(seed + 10_000, c=20)
        p = paired(a, b, clusters.tolist(), draws=200, seed=seed).p
        assert p is not None
        found += p <= 0.05
    assert found / 200 <= 0.1
    a, clusters = clustered(0, c=20)
    noise = np.random.default_rng(0).normal(size=len(a))
    p = paired(a + 1 + 0.1 * noise, a, clusters.tolist()).p
    assert p == 1 / 2001  # never 0: the observed pattern counts


def test_holm_against_hand_computed():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.9]) == [0.02, None, 0.9]
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="one value each"):
        estimate([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="infinite"):
        estimate([1.0, np.inf], ["a", "b"])
