"""How the offline classifier is fitted, and what cross-validation says of it (methods 4.3).

Features x of a reply: its sentence embedding (unit length), which knows what words mean, beside its word and character
n-grams (tf-idf, unit length), which know how it is said: encoders are trained to overlook style. The n-grams of its
first words count once more: replies often say there which emotion they speak from, whatever they go on to talk about.
On them a multinomial logistic regression

    p(c | x) = softmax(T * (W x + b))_c

with T fitted on cross-validated logits, so that a probability of 0.8 is right in about 80 % of such cases. The
folds hold out scenarios, never single replies: seven replies to one scenario share its words. No published reply is
part of it. An encoder of many languages stands alone, each of its coordinates scaled to a deviation of 1; how often
the classifier on it is right about replies in other languages is measured on shipped ones, which it is never fitted on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_matrix, hstack
from scipy.special import log_softmax, softmax

from emo.core.console import note, progress
from emo.core.store import Artifact
from emo.core.types import NEUTRAL
from emo.data.texts import CORPUS, read_jsonl
from emo.measure.encoders import Encoder

if TYPE_CHECKING:  # scikit-learn takes a second to import, and addresses need this file
    from sklearn.feature_extraction.text import TfidfVectorizer

PENALTY = 10.0  # inverse strength of the ridge on W; flat between 3 and 30
ALONE = 0.01  # the same on scaled embeddings without n-grams; flat between 0.003 and 0.03
FOLDS = 5
TOKEN = r"(?u)\b\w[\w']*\b|[!?.,]"
WORDS: dict[str, Any] = {  # single words, pairs, and the marks between them
    "token_pattern": TOKEN, "ngram_range": (1, 2), "min_df": 2, "max_features": 10_000, "sublinear_tf": True,
}  # fmt: skip
LETTERS: dict[str, Any] = {  # within words, with their borders
    "analyzer": "char_wb", "ngram_range": (2, 5), "min_df": 2, "max_features": 20_000, "sublinear_tf": True,
}  # fmt: skip
OPENING: dict[str, Any] = {  # of the first words and marks only
    "token_pattern": TOKEN, "ngram_range": (1, 3), "min_df": 2, "max_features": 5_000, "sublinear_tf": True,
}  # fmt: skip
OPENS = 6  # words and marks that are the opening
NGRAMS = (WORDS, LETTERS, OPENING)
WEIGHTS = (2.0, 1.0, 1.0)  # of the three, beside the embedding's 1: style is mostly wording
BINS = 10  # of the calibration curve
OTHER_LANGUAGES = "replies_languages.jsonl"


def classes() -> list[str]:
    """Return the emotions that the corpus knows."""
    return sorted({str(row["emotion"]) for row in _corpus()} - {NEUTRAL})


def _corpus() -> list[dict[str, Any]]:
    return [row for name in CORPUS for row in read_jsonl(name)]


def settings_of(encoder: Encoder) -> dict[str, Any]:
    """Return what a fit depends on beside the texts and the classes."""
    if not encoder.english:
        return {"penalty": ALONE, "folds": FOLDS, "encoder": [encoder.name, encoder.version]}
    return {"penalty": PENALTY, "folds": FOLDS, "encoder": encoder.version, "ngrams": NGRAMS, "weights": WEIGHTS,
            "opens": OPENS}  # fmt: skip


def fit(names: Sequence[str], encoder: Encoder) -> Artifact:
    """Fit the classifier of these emotions and neutral on the shipped replies, as the encoder reads them."""
    from sklearn.model_selection import GroupKFold

    wanted, kinds = [*names, NEUTRAL], NGRAMS if encoder.english else ()
    rows = [row for row in _corpus() if row["emotion"] in wanted]
    texts = [str(row["text"]) for row in rows]
    x = encoder.embed(texts)
    y = np.array([wanted.index(row["emotion"]) for row in rows])
    groups = [row["scenario_id"] for row in rows]
    logits = np.zeros((len(rows), len(wanted)))
    with progress("classifier: cross-validation", FOLDS, "folds") as bar:
        for train, held in GroupKFold(FOLDS).split(x, y, groups):
            ngrams, weight, bias = _train(kinds, x[train], [texts[i] for i in train], y[train], len(wanted))
            logits[held] = features(ngrams, x[held], [texts[i] for i in held]) @ weight.T + bias
            bar.advance()
    scale = temperature(logits, y)
    ngrams, weight, bias = _train(kinds, x, texts, y, len(wanted))
    report = _report(softmax(scale * logits, axis=1), y, wanted) | {"temperature": scale, "n": len(rows)}
    if not encoder.english:
        report["languages"] = _in_other_languages(wanted, encoder, weight, bias)
    note(f"classifier: {told(report)}")
    kept = [
        {"kind": kind, "ngram": ngram, "idf": float(made.idf_[i])}
        for kind, made in enumerate(ngrams)
        for ngram, i in sorted(made.vocabulary_.items(), key=lambda item: item[1])
    ]
    tensors = {"weight": torch.tensor(scale * weight).contiguous(), "bias": torch.tensor(scale * bias)}
    return Artifact(tensors, kept, meta={"names": wanted, "report": report})


def told(report: dict[str, Any]) -> str:
    """Return what is known of a fitted classifier, in a line."""
    line = f"fitted on {report['n']} replies, cross-validated accuracy {report['accuracy']:.1%} (by scenario)"
    if found := report.get("languages"):
        line += "; of replies in other languages, which it never saw, right: "
        line += ", ".join(f"{name} {one['accuracy']:.0%} of {one['n']}" for name, one in found.items())
    return line


def _in_other_languages(
    names: Sequence[str], encoder: Encoder, weight: np.ndarray, bias: np.ndarray
) -> dict[str, dict[str, float]]:
    """Return per language the share of shipped replies that are named right; nothing where a class has none."""
    known = read_jsonl(OTHER_LANGUAGES)
    rows = [row for row in known if row["emotion"] in names]
    if {row["emotion"] for row in rows} != set(names):
        return {}
    texts = [str(row["text"]) for row in rows]
    guess = (encoder.embed(texts) @ weight.T + bias).argmax(1)
    right: dict[str, list[bool]] = {row["language"]: [] for row in rows}
    for row, i in zip(rows, guess, strict=True):
        right[row["language"]].append(names[i] == row["emotion"])
    return {language: {"accuracy": float(np.mean(one)), "n": len(one)} for language, one in right.items()}


def _train(
    kinds: Sequence[dict[str, Any]], x: np.ndarray, texts: Sequence[str], y: np.ndarray, classes_: int
) -> tuple[tuple[TfidfVectorizer, ...], np.ndarray, np.ndarray]:
    """Return n-grams of these kinds, W and b fitted on embeddings (n, d) and texts with class indices (n,)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    ngrams = tuple(TfidfVectorizer(**settings).fit(_read_by(settings, texts)) for settings in kinds)
    mean, sd = x.mean(0), np.where(x.std(0) > 0, x.std(0), 1.0)
    given = features(ngrams, x, texts) if kinds else (x - mean) / sd
    model = LogisticRegression(C=PENALTY if kinds else ALONE, max_iter=2000).fit(given, y)
    weight, bias = model.coef_, model.intercept_
    if classes_ == 2:  # they share one row
        weight, bias = np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
    if not kinds:  # so that W and b are of embeddings as they are read
        weight, bias = weight / sd, bias - (weight / sd) @ mean
    return ngrams, weight, bias


def features(ngrams: Sequence[TfidfVectorizer], embeddings: np.ndarray, texts: Sequence[str]) -> csr_matrix:
    """Return (n, d + n-grams): the embedding and each kind of n-grams, all of unit length times their weight."""
    kinds = zip(ngrams, NGRAMS, WEIGHTS, strict=False)  # none beside an encoder of many languages
    counted = [weight * made.transform(_read_by(settings, texts)) for made, settings, weight in kinds]
    return hstack([csr_matrix(embeddings), *counted]).tocsr()


def _read_by(settings: dict[str, Any], texts: Sequence[str]) -> Sequence[str]:
    """Return what n-grams of these settings are counted in: the texts, or their openings."""
    if settings is not OPENING:
        return texts
    return [" ".join(re.findall(TOKEN, text)[:OPENS]) for text in texts]


def temperature(logits: np.ndarray, y: np.ndarray) -> float:
    """Return T > 0 that maximises the likelihood of held-out labels."""

    def loss(log_scale: float) -> float:
        return -float(log_softmax(np.exp(log_scale) * logits, axis=1)[np.arange(len(y)), y].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))


def _report(p: np.ndarray, y: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Return accuracy, confusion (rows: true) and calibration of cross-validated probabilities."""
    from sklearn.metrics import confusion_matrix

    guess, sure = p.argmax(1), p.max(1)
    right = guess == y
    edges = np.linspace(0.0, 1.0, BINS + 1)
    where = np.clip(np.digitize(sure, edges[1:-1]), 0, BINS - 1)
    bins = [
        {"confidence": float(sure[where == b].mean()), "accuracy": float(right[where == b].mean()),
         "n": int((where == b).sum())}
        for b in range(BINS)
        if (where == b).any()
    ]  # fmt: skip
    gap = sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / len(y)
    return {
        "accuracy": float(right.mean()),
        "per_class": {name: float(right[y == i].mean()) for i, name in enumerate(names)},
        "confusion": confusion_matrix(y, guess, labels=range(len(names))).tolist(),
        "calibration": bins,
        "calibration_error": gap,
    }
