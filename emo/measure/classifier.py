"""The offline classifier of replies: which emotion, or neutral, does the style express (methods 4.3)?

Features x of a reply: its sentence embedding (all-MiniLM-L6-v2, unit length), which knows what words mean, beside its
word and character n-grams (tf-idf, unit length), which know how it is said: the encoder was trained to overlook
style. The n-grams of its first words count once more: replies often say there which emotion they speak from, whatever
they go on to talk about. On them a multinomial logistic regression

    p(c | x) = softmax(T * (W x + b))_c

with T fitted on cross-validated logits, so that a probability of 0.8 is right in about 80 % of such cases. The
folds hold out scenarios, never single replies: seven replies to one scenario share its words. No published reply is
part of it. That of the six emotions is shipped (`emo.measure.shipped_classifier`), another is fitted into the store.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_matrix, hstack
from scipy.special import log_softmax, softmax

from emo.config.emotions import EKMAN6
from emo.config.schema import Config
from emo.core.console import note, progress
from emo.core.errors import UserError
from emo.core.store import Artifact, Store, address
from emo.core.types import NEUTRAL
from emo.data.texts import CORPUS, digest_of, encoder_version, read_jsonl
from emo.measure.encoder import embed
from emo.measure.labeller import Done, Rows, from_chances
from emo.measure.shipped_classifier import ship, shipped

if TYPE_CHECKING:  # scikit-learn takes a second to import, and addresses need this file
    from sklearn.feature_extraction.text import TfidfVectorizer

VERSION = 2
PENALTY = 10.0  # inverse strength of the ridge on W; flat between 3 and 30
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
AT_ONCE = 512  # replies that are labelled together, a second or two: then they are kept (`emo.core.partial`)


@dataclass(frozen=True)
class Classifier:
    """A fitted classifier: W (c, features) and b (c,), times T; ``report`` is what cross-validation found."""

    names: tuple[str, ...]
    ngrams: tuple[TfidfVectorizer, ...]
    weight: np.ndarray
    bias: np.ndarray
    report: dict[str, Any]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return p(c | text): (n, c), in the order of ``names``."""
        return np.asarray(
            softmax(_features(self.ngrams, embed(texts).numpy(), texts) @ self.weight.T + self.bias, axis=1)
        )

    def label(self, texts: Sequence[str]) -> list[str]:
        """Return the likeliest class of every text, an emotion or neutral; an empty text is neutral."""
        found = self.probabilities(texts).argmax(1)
        return [self.names[i] if text.strip() else NEUTRAL for text, i in zip(texts, found, strict=True)]


class ClassifierEvaluator:
    """``evaluator=classifier``: an `emo.measure.labeller.Evaluator`."""

    remembers = False

    def __init__(self, config: Config, store: Store) -> None:
        self.names, self.store = config.emotions.names, store

    def address(self) -> str:
        """Return the address of the classifier of the job's emotions."""
        return classifier_address(self.names)

    def check(self) -> None:
        """Raise `UserError` where the corpus lacks one of the emotions."""
        unknown = [name for name in self.names if name not in classes()]
        if unknown:
            raise UserError(
                f"evaluator=classifier: no class {', '.join(unknown)} in it; it knows {', '.join(classes())}; "
                "type evaluator=projection"
            )

    def prefetch(self) -> str:
        """Fit the classifier where it is not in the store."""
        report = load_classifier(self.store, self.names).report
        return f"classifier: fitted on {report['n']} replies, cross-validated accuracy {report['accuracy']:.1%}"

    def label(self, replies: Rows, done: Done) -> None:
        """Label replies by the likeliest class, with its chance."""
        made = load_classifier(self.store, self.names)
        for start in range(0, len(replies), AT_ONCE):
            part = replies[start : start + AT_ONCE]
            p = made.probabilities([row["reply"] for row in part])
            for i, row in enumerate(from_chances(made.names, p, part), start):
                done(i, row)


def label_rows(store: Store, names: Sequence[str], replies: Rows) -> Rows:
    """Return one row per reply by the offline classifier: sample, emotion, seed, label, forced, p (of the label)."""
    if not replies:
        return []
    made = load_classifier(store, names)
    return from_chances(made.names, made.probabilities([row["reply"] for row in replies]), replies)


def classifier_address(names: Sequence[str]) -> str:
    """Return the address of the classifier of these emotions and neutral."""
    corpus = {name: digest_of(name) for name in CORPUS}
    settings = {"penalty": PENALTY, "folds": FOLDS, "encoder": encoder_version(), "ngrams": NGRAMS, "weights": WEIGHTS,
                "opens": OPENS}  # fmt: skip
    return address("classifier", VERSION, names=sorted(names), corpus=corpus, settings=settings)


def load_classifier(store: Store, names: Sequence[str]) -> Classifier:
    """Return the classifier of these emotions and neutral: shipped, or fitted on first use.

    Args:
        store: keeps it.
        names: emotions; all of them must be in the corpus (`classes`).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    key = classifier_address(names)
    made = store.get_or_compute("classifier", key, {"names": list(names)}, lambda: shipped(key) or fit(names))
    ngrams = []
    for kind, settings in enumerate(NGRAMS):
        rows = [row for row in made.rows if row["kind"] == kind]
        ngrams.append(TfidfVectorizer(**settings, vocabulary={row["ngram"]: i for i, row in enumerate(rows)}))
        ngrams[-1].idf_ = np.array([row["idf"] for row in rows])
    weight, bias = made.tensors["weight"].numpy(), made.tensors["bias"].numpy()
    return Classifier(tuple(made.meta["names"]), tuple(ngrams), weight, bias, made.meta["report"])


def classes() -> list[str]:
    """Return the emotions that the corpus knows."""
    return sorted({str(row["emotion"]) for row in _corpus()} - {NEUTRAL})


def _corpus() -> list[dict[str, Any]]:
    return [row for name in CORPUS for row in read_jsonl(name)]


def fit(names: Sequence[str]) -> Artifact:
    """Fit the classifier of these emotions and neutral on the shipped replies."""
    from sklearn.model_selection import GroupKFold

    wanted = [*names, NEUTRAL]
    rows = [row for row in _corpus() if row["emotion"] in wanted]
    texts = [str(row["text"]) for row in rows]
    x = embed(texts).numpy()
    y = np.array([wanted.index(row["emotion"]) for row in rows])
    groups = [row["scenario_id"] for row in rows]
    logits = np.zeros((len(rows), len(wanted)))
    with progress("classifier: cross-validation", FOLDS, "folds") as bar:
        for train, held in GroupKFold(FOLDS).split(x, y, groups):
            ngrams, weight, bias = _train(x[train], [texts[i] for i in train], y[train], len(wanted))
            logits[held] = _features(ngrams, x[held], [texts[i] for i in held]) @ weight.T + bias
            bar.advance()
    scale = temperature(logits, y)
    ngrams, weight, bias = _train(x, texts, y, len(wanted))
    report = _report(softmax(scale * logits, axis=1), y, wanted) | {"temperature": scale, "n": len(rows)}
    note(f"classifier: fitted on {len(rows)} replies, cross-validated accuracy {report['accuracy']:.1%} (by scenario)")
    kept = [
        {"kind": kind, "ngram": ngram, "idf": float(made.idf_[i])}
        for kind, made in enumerate(ngrams)
        for ngram, i in sorted(made.vocabulary_.items(), key=lambda item: item[1])
    ]
    tensors = {"weight": torch.tensor(scale * weight).contiguous(), "bias": torch.tensor(scale * bias)}
    return Artifact(tensors, kept, meta={"names": wanted, "report": report})


def _train(
    x: np.ndarray, texts: Sequence[str], y: np.ndarray, classes_: int
) -> tuple[tuple[TfidfVectorizer, ...], np.ndarray, np.ndarray]:
    """Return n-grams, W and b fitted on embeddings (n, d) and texts with class indices (n,)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    ngrams = tuple(TfidfVectorizer(**settings).fit(_read_by(settings, texts)) for settings in NGRAMS)
    model = LogisticRegression(C=PENALTY, max_iter=2000).fit(_features(ngrams, x, texts), y)
    if classes_ > 2:
        return ngrams, model.coef_, model.intercept_
    return (  # two classes share one row
        ngrams, np.concatenate([-model.coef_, model.coef_]), np.concatenate([-model.intercept_, model.intercept_])
    )  # fmt: skip


def _features(ngrams: Sequence[TfidfVectorizer], embeddings: np.ndarray, texts: Sequence[str]) -> csr_matrix:
    """Return (n, d + n-grams): the embedding and each kind of n-grams, all of unit length times their weight."""
    kinds = zip(ngrams, NGRAMS, WEIGHTS, strict=True)
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


if __name__ == "__main__":
    ship(fit(EKMAN6), classifier_address(EKMAN6))
