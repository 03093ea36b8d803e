"""Do states carry the emotion? Linear probes and principal components per block (methods 1.3).

Probes are ridge classifiers on standardised resid_post states at the last prompt token, fitted on
extraction scenarios and scored (macro F1) on held-out test scenarios: once on raw states, once on
within-group differences. A difference uses all the states of its test group, so its F1 answers an easier
question; every caption says so. scikit-learn takes seconds to import, so only what fits a probe does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

SEPARATED = 0.9  # macro F1 from which raw states count as separated


class Probes(NamedTuple):
    """Macro F1 per block (l,), and the first block whose raw states separate (None: none does)."""

    raw: list[float]
    difference: list[float]
    separates_at: int | None
    n_train: int
    n_test: int


def probe(train: Tensor, test: Tensor) -> Probes:
    """Fit on ``train`` (groups, e, l, d) and score on ``test`` (groups, e, l, d)."""
    raw = [_f1(train[:, :, layer], test[:, :, layer]) for layer in range(train.shape[2])]
    a, b = train - train.mean(1, keepdim=True), test - test.mean(1, keepdim=True)
    difference = [_f1(a[:, :, layer], b[:, :, layer]) for layer in range(train.shape[2])]
    first = next((layer for layer, score in enumerate(raw) if score >= SEPARATED), None)
    return Probes(raw, difference, first, train.shape[0] * train.shape[1], test.shape[0] * test.shape[1])


def _f1(train: Tensor, test: Tensor) -> float:
    from sklearn.linear_model import RidgeClassifier
    from sklearn.metrics import f1_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    emotions = train.shape[1]
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=1.0))
    model.fit(train.flatten(0, 1).numpy(), np.tile(np.arange(emotions), len(train)))
    guessed = model.predict(test.flatten(0, 1).numpy())
    return float(f1_score(np.tile(np.arange(emotions), len(test)), guessed, average="macro"))


def scatter(states: Tensor, layer: int, difference: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the first two principal components (groups * e, 2) of one block and their variance shares (2,)."""
    from sklearn.decomposition import PCA

    x = states[:, :, layer]
    x = x - x.mean(1, keepdim=True) if difference else x
    pca = PCA(2, svd_solver="full")
    points = pca.fit_transform(x.flatten(0, 1).double().numpy())
    return points, pca.explained_variance_ratio_
