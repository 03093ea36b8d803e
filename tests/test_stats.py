"""Intervals cover what they claim, agree with a slow twin, and say nothing where nothing was measured."""

from __future__ import annotations

import time

import numpy as np
import pytest

from emo.stats import Estimate, estimate, estimate_ratio, holm, paired


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
    monkeypatch.setattr("emo.stats.CHUNK", 1000)
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
    # Four scenarios with the same sign: 2 of 16 patterns are as extreme as the observed one.
    got = paired([1.0, 2.0, 3.0, 4.0], [0.0] * 4, "abcd")
    assert got.p == 2 / 16
    assert got.difference.value == 2.5
    assert paired([1.0, 2.0], [1.0, 2.0], "ab").p == 1.0


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
