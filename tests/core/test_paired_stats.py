"""Many comparisons at once are the same as one at a time, and p is honest where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emo.core.paired_stats import paired_many, spread_of
from emo.core.stats import paired


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 16), st.integers(1, 4), st.integers(0, 5), st.floats(0, 0.6))
def test_column_by_column(clusters: int, per: int, seed: int, missing: float) -> None:
    """`paired` is the slow twin: exact and drawn sign flips, missing values, scenarios that a column lacks."""
    rng = np.random.default_rng(seed)
    n, m = clusters * per, 3
    a, b = rng.normal(0.3, 1, (n, m)), rng.normal(0, 1, (n, m))
    a[rng.random((n, m)) < missing] = np.nan
    a[:per, 0] = np.nan  # a whole scenario
    names = [f"s{i // per}" for i in range(n)]
    found = paired_many(a - b, names, 200, seed)
    for k in range(m):
        one = paired(a[:, k], b[:, k], names, 200, seed)
        twin = [one.difference.value, one.difference.lo, one.difference.hi, one.p]
        ours = [found.value[k], found.lo[k], found.hi[k], found.p[k]]
        np.testing.assert_allclose(ours, [np.nan if x is None else x for x in twin], rtol=1e-12, atol=1e-12)
        assert found.n[k] == one.difference.n


def test_levels_that_do_nothing() -> None:
    """p is uniform: at most 5 % and a margin below 0.05; the range by chance is as large as the observed one."""
    rng, p, ratio = np.random.default_rng(0), [], []
    for _ in range(200):
        noise = rng.normal(0, 1, (10, 4))
        found = spread_of(noise - noise.mean(1, keepdims=True))
        assert found is not None
        p.append(found.p)
        ratio.append(found.range / found.by_chance)
    assert np.mean(np.array(p) <= 0.05) < 0.09 and 0.9 < np.mean(ratio) < 1.1


def test_levels_that_differ() -> None:
    rng = np.random.default_rng(0)
    effects = rng.normal(0, 0.1, (8, 3)) + np.array([0.2, 0.0, -0.2])
    found = spread_of(effects - effects.mean(1, keepdims=True))
    assert found is not None and found.p == pytest.approx(2 / 2**8) and found.range > 3 * found.by_chance
    assert spread_of(effects[:4]) is None, "too few scenarios"
