"""Kappas: against scikit-learn's, against the worked example of Fleiss, and how often an interval covers the truth."""

from __future__ import annotations

import random

import pytest
from sklearn.metrics import cohen_kappa_score

from emo.core.agreement import fleiss, pair

CLASSES = ("anger", "sadness", "fear", "neutral")


def drawn(n: int, right: float, seed: int, per_scenario: int = 5) -> tuple[list[str], list[str], list[int]]:
    """Return a rater's labels, another's who agrees with a share of them, and scenarios."""
    rng = random.Random(seed)
    a = [rng.choice(CLASSES) for _ in range(n)]
    b = [x if rng.random() < right else rng.choice(CLASSES) for x in a]
    return a, b, [i // per_scenario for i in range(n)]


def test_cohen_is_that_of_scikit_learn() -> None:
    a, b, scenarios = drawn(200, 0.6, 1)
    found = pair(a, b, scenarios, CLASSES)
    assert found.kappa.value == pytest.approx(cohen_kappa_score(a, b))
    assert found.agreement.value == pytest.approx(sum(x == y for x, y in zip(a, b, strict=True)) / 200)
    assert found.confusion.sum() == found.kappa.n == 200
    assert found.confusion[0, 1] == sum((x, y) == ("anger", "sadness") for x, y in zip(a, b, strict=True))


def test_what_one_of_them_did_not_label_is_left_out() -> None:
    a, b, scenarios = drawn(100, 0.6, 2)
    holes = [None if i % 7 == 0 else x for i, x in enumerate(b)]
    kept = [i for i, x in enumerate(holes) if x is not None]
    found = pair(a, holes, scenarios, CLASSES)
    assert found.kappa.n == len(kept)
    assert found.kappa.value == pytest.approx(cohen_kappa_score([a[i] for i in kept], [b[i] for i in kept]))


def test_no_kappa_where_there_is_one_label_and_no_interval_of_few_scenarios() -> None:
    same = pair(["fear"] * 30, ["fear"] * 30, list(range(30)), CLASSES)
    assert same.agreement.value == 1.0 and same.kappa.value is None
    a, b, _ = drawn(40, 0.6, 3)
    few = pair(a, b, [i % 4 for i in range(40)], CLASSES)
    assert few.kappa.value is not None and few.kappa.lo is None
    with pytest.raises(ValueError, match="joy"):
        pair(["joy"], ["fear"], [0], CLASSES)


def test_fleiss_of_two_is_near_cohen_and_of_the_textbook_as_printed() -> None:
    """Fleiss 1971 by way of its usual example: 10 texts, 14 raters, 5 classes, kappa 0.210."""
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    texts = [[c for c, n in enumerate(row) for _ in range(n)] for row in counts]
    raters = [[text[i] for text in texts] for i in range(14)]
    found = fleiss(raters, list(range(10)))
    assert found.value == pytest.approx(0.210, abs=5e-4) and found.n == 10
    a, b, scenarios = drawn(500, 0.7, 4)
    assert fleiss([a, b], scenarios).value == pytest.approx(pair(a, b, scenarios, CLASSES).kappa.value, abs=0.01)
    with pytest.raises(ValueError, match="needs two"):
        fleiss([a], scenarios)


def test_intervals_cover_the_truth_and_know_of_clusters() -> None:
    """Kappa of an endless sample is the share that agrees; the same labels in fewer scenarios are less evidence."""
    inside = 0
    for seed in range(100):
        a, b, scenarios = drawn(200, 0.6, 100 + seed)
        kappa = pair(a, b, scenarios, CLASSES, draws=300).kappa
        inside += kappa.lo <= 0.6 <= kappa.hi
    assert 88 <= inside <= 100, inside
    a, b, _ = drawn(40, 0.6, 5)
    copied = pair(a * 5, b * 5, [i % 40 for i in range(200)], CLASSES).kappa
    alone = pair(a, b, list(range(40)), CLASSES).kappa
    assert copied.hi - copied.lo == pytest.approx(alone.hi - alone.lo)
