"""P values by exchanging labels, against loops over every order."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import spearmanr

from emo.core.permutations import matrix_correlations, orders, p_value, rank_correlation, smallest, upper


def cosines(seed: int, n: int = 5, d: int = 4) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def test_a_mantel_p_is_the_share_of_orders_that_agree_as_well() -> None:
    a, b = cosines(1), 0.6 * cosines(1) + 0.4 * cosines(2)
    found = matrix_correlations(a[None], b[None])[:, 0]
    slow = [spearmanr(upper(a), upper(b[np.ix_(p, p)])).statistic for p in permutations(range(5))]
    assert found == pytest.approx(slow)
    assert p_value(found) == pytest.approx(np.mean(np.array(slow) >= slow[0] - 1e-12))


def test_matrices_that_are_alike_have_the_least_p_and_others_have_not() -> None:
    """Of 6 labels 1/720; a matrix in which two labels are alike cannot tell their orders apart."""
    assert smallest(6) == 1 / 720 and len(orders(6)) == 720
    own = matrix_correlations(cosines(3, 6)[None], cosines(3, 6)[None])[:, 0]
    assert own[0] == pytest.approx(1) and p_value(own) == pytest.approx(1 / 720)
    ps = [p_value(matrix_correlations(cosines(k, 6)[None], cosines(100 + k, 6)[None])[:, 0]) for k in range(60)]
    assert 0.3 < np.mean(ps) < 0.7 and np.mean(np.array(ps) <= 0.05) < 0.15  # no more often than chance
    flat = matrix_correlations(np.eye(4)[None], cosines(1, 4)[None])[:, 0]
    assert np.isnan(p_value(flat))


def test_many_labels_are_drawn() -> None:
    drawn = orders(9)
    assert len(drawn) == 10_001 and drawn[0].tolist() == list(range(9)) and smallest(9) == 1 / 10_001


def test_a_rank_correlation_with_its_exact_p() -> None:
    r, p = rank_correlation(np.array([1, 2, 3, 4.0]), np.array([10, 20, 30, 31.0]))
    assert (r, p) == (pytest.approx(1), pytest.approx(1 / 24))
    x, y = np.array([3, 1, 4, 1.5, 5]), np.array([2, 7, 1, 8, 2.5])
    assert rank_correlation(x, y)[0] == pytest.approx(spearmanr(x, y).statistic)
    assert np.isnan(rank_correlation(np.ones(4), y[:4])[0])
