"""The offline classifier of replies: which emotion, or neutral, does the style express (methods 4.3)?

It is a logistic regression on what an encoder (`emo.measure.encoders`) makes of a reply, and on its n-grams
(`emo.measure.classifier_fit`). That of the six emotions on the English encoder is shipped
(`emo.measure.shipped_classifier`); of other emotions or on another encoder it is fitted into the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from emo.config.choices import MINILM
from emo.config.emotions import EKMAN6
from emo.config.schema import Config
from emo.core.errors import UserError
from emo.core.store import Store, address
from emo.core.types import NEUTRAL
from emo.data.texts import CORPUS, digest_of
from emo.measure.classifier_fit import NGRAMS, OTHER_LANGUAGES, classes, features, fit, settings_of, told
from emo.measure.encoders import Encoder, encoder_of
from emo.measure.labeller import Done, Rows, from_chances
from emo.measure.shipped_classifier import ship, shipped

if TYPE_CHECKING:  # scikit-learn takes a second to import, and addresses need this file
    from sklearn.feature_extraction.text import TfidfVectorizer

VERSION = 2
AT_ONCE = 512  # replies that are labelled together, a second or two: then they are kept (`emo.core.partial`)


@dataclass(frozen=True)
class Classifier:
    """A fitted classifier: W (c, features) and b (c,), times T; ``report`` is what cross-validation found."""

    names: tuple[str, ...]
    encoder: Encoder
    ngrams: tuple[TfidfVectorizer, ...]
    weight: np.ndarray
    bias: np.ndarray
    report: dict[str, Any]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return p(c | text): (n, c), in the order of ``names``."""
        return np.asarray(
            softmax(features(self.ngrams, self.encoder.embed(texts), texts) @ self.weight.T + self.bias, axis=1)
        )

    def label(self, texts: Sequence[str]) -> list[str]:
        """Return the likeliest class of every text, an emotion or neutral; an empty text is neutral."""
        found = self.probabilities(texts).argmax(1)
        return [self.names[i] if text.strip() else NEUTRAL for text, i in zip(texts, found, strict=True)]


class ClassifierEvaluator:
    """``evaluator=classifier``: an `emo.measure.labeller.Evaluator`."""

    remembers = False

    def __init__(self, config: Config, store: Store) -> None:
        self.names, self.store, self.encoder = config.emotions.names, store, config.evaluator.encoder

    def address(self) -> str:
        """Return the address of the classifier of the job's emotions."""
        return classifier_address(self.names, self.encoder)

    def check(self) -> None:
        """Raise `UserError` where the corpus lacks one of the emotions, or the encoder is not there."""
        encoder_of(self.encoder)
        unknown = [name for name in self.names if name not in classes()]
        if unknown:
            raise UserError(
                f"evaluator=classifier: no class {', '.join(unknown)} in it; it knows {', '.join(classes())}; "
                "type evaluator=projection"
            )

    def prefetch(self) -> str:
        """Fit the classifier where it is not in the store."""
        return f"classifier: {told(load_classifier(self.store, self.names, self.encoder).report)}"

    def label(self, replies: Rows, done: Done) -> None:
        """Label replies by the likeliest class, with its chance."""
        made = load_classifier(self.store, self.names, self.encoder)
        for start in range(0, len(replies), AT_ONCE):
            part = replies[start : start + AT_ONCE]
            p = made.probabilities([row["reply"] for row in part])
            for i, row in enumerate(from_chances(made.names, p, part), start):
                done(i, row)


def label_rows(store: Store, names: Sequence[str], replies: Rows, encoder: str = MINILM) -> Rows:
    """Return one row per reply by the offline classifier: sample, emotion, seed, label, forced, p (of the label)."""
    if not replies:
        return []
    made = load_classifier(store, names, encoder)
    return from_chances(made.names, made.probabilities([row["reply"] for row in replies]), replies)


def classifier_address(names: Sequence[str], encoder: str = MINILM) -> str:
    """Return the address of the classifier of these emotions and neutral on this encoder."""
    given = encoder_of(encoder)
    corpus = {name: digest_of(name) for name in (CORPUS if given.english else (*CORPUS, OTHER_LANGUAGES))}
    return address("classifier", VERSION, names=sorted(names), corpus=corpus, settings=settings_of(given))


def load_classifier(store: Store, names: Sequence[str], encoder: str = MINILM) -> Classifier:
    """Return the classifier of these emotions and neutral: shipped, or fitted on first use.

    Args:
        store: keeps it.
        names: emotions; all of them must be in the corpus (`classes`).
        encoder: what ``evaluator.encoder`` may be.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    key, given = classifier_address(names, encoder), encoder_of(encoder)
    inputs = {"names": list(names), "encoder": encoder}
    made = store.get_or_compute("classifier", key, inputs, lambda: shipped(key) or fit(names, given))
    ngrams = []
    for kind, settings in enumerate(NGRAMS if given.english else ()):
        rows = [row for row in made.rows if row["kind"] == kind]
        ngrams.append(TfidfVectorizer(**settings, vocabulary={row["ngram"]: i for i, row in enumerate(rows)}))
        ngrams[-1].idf_ = np.array([row["idf"] for row in rows])
    weight, bias = made.tensors["weight"].numpy(), made.tensors["bias"].numpy()
    return Classifier(tuple(made.meta["names"]), given, tuple(ngrams), weight, bias, made.meta["report"])


if __name__ == "__main__":
    english = encoder_of(MINILM)
    ship(fit(EKMAN6, english), classifier_address(EKMAN6))
